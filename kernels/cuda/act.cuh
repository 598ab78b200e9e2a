/* Activation functions and their slopes, in f32. */
#ifndef KERNELS_CUDA_ACT_CUH
#define KERNELS_CUDA_ACT_CUH

#include "kernels/cuda/cuda.cuh"

/* To 2 units in the last place; of NaN, NaN. */
__device__ __forceinline__ float nn_sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

/* Density of the normal distribution times sqrt(2 pi). */
__device__ __forceinline__ float nn_normal_bell(float x)
{
    return __expf(-0.5f * x * x);
}

/* To 3e-7. Source: Abramowitz & Stegun, 7.1.26, for erfc(|x| / sqrt(2)). */
__device__ __forceinline__ float nn_normal_cdf(float x)
{
    const float t = __fdividef(1.0f, 1.0f + 0.23164189f * fabsf(x));
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const float tail = 0.5f * p * t * nn_normal_bell(x);
    return x < 0 ? tail : 1.0f - tail;
}

/* cdf + x * density: the slope of x * cdf(x). */
__device__ __forceinline__ float nn_gelu_slope(float x)
{
    return nn_normal_cdf(x) + x * 0.398942280f * nn_normal_bell(x);
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
