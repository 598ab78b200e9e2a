/* Activation functions and their slopes, in f32. */
#ifndef KERNELS_CUDA_ACT_CUH
#define KERNELS_CUDA_ACT_CUH

#include "kernels/cuda/cuda.cuh"

__device__ __forceinline__ float nn_sigmoid(float x)
{
    return 1.0f / (1.0f + __expf(-x));
}

__device__ __forceinline__ float nn_normal_cdf(float x)
{
    return 0.5f * erfcf(-0.707106781f * x);
}

/* cdf + x * density: the slope of x * cdf(x). */
__device__ __forceinline__ float nn_gelu_slope(float x)
{
    return nn_normal_cdf(x) + x * 0.398942280f * __expf(-0.5f * x * x);
}

/* gelu_tanh(x) = x / 2 * (1 + tanh(u)) = x * sigmoid(2 u) */
__device__ __forceinline__ float nn_gelu_2u(float x)
{
    return x * (1.59576912f + 0.0713548162f * x * x);
}

template <nn_act KIND> __device__ __forceinline__ float nn_act_value(float x)
{
    if constexpr (KIND == NN_ACT_RELU) return x > 0 ? x : (x != x ? x : 0.0f);
    if constexpr (KIND == NN_ACT_SILU) return x * nn_sigmoid(x);
    if constexpr (KIND == NN_ACT_GELU) return x * nn_normal_cdf(x);
    if constexpr (KIND == NN_ACT_GELU_TANH) return x * nn_sigmoid(nn_gelu_2u(x));
    if constexpr (KIND == NN_ACT_QUICK_GELU) return x * nn_sigmoid(1.702f * x);
    if constexpr (KIND == NN_ACT_SIGMOID) return nn_sigmoid(x);
    if constexpr (KIND == NN_ACT_TANH) return tanhf(x);
    if constexpr (KIND == NN_ACT_EXP) return expf(x);
    if constexpr (KIND == NN_ACT_ABS) return fabsf(x);
    return x * x;
}

template <nn_act KIND> __device__ __forceinline__ float nn_act_slope(float x)
{
    if constexpr (KIND == NN_ACT_RELU) return x > 0 ? 1.0f : 0.0f;
    if constexpr (KIND == NN_ACT_SILU) {
        const float s = nn_sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    if constexpr (KIND == NN_ACT_GELU) return nn_gelu_slope(x);
    if constexpr (KIND == NN_ACT_GELU_TANH) {
        const float s = nn_sigmoid(nn_gelu_2u(x));
        return s + x * (s * (1.0f - s)) * (1.59576912f + 0.214064449f * x * x);
    }
    if constexpr (KIND == NN_ACT_QUICK_GELU) {
        const float s = nn_sigmoid(1.702f * x);
        return s * (1.0f + 1.702f * x * (1.0f - s));
    }
    if constexpr (KIND == NN_ACT_SIGMOID) {
        const float s = nn_sigmoid(x);
        return s * (1.0f - s);
    }
    if constexpr (KIND == NN_ACT_TANH) {
        const float t = tanhf(x);
        return 1.0f - t * t;
    }
    if constexpr (KIND == NN_ACT_EXP) return expf(x);
    if constexpr (KIND == NN_ACT_ABS) return x > 0 ? 1.0f : (x < 0 ? -1.0f : 0.0f);
    return 2.0f * x;
}

#endif
