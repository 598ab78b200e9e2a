/* Sums and maxima over a warp and a block, in a fixed order: the same bits every time. All lanes of
 * a warp, or all threads of a block, must take part. */
#ifndef KERNELS_CUDA_REDUCE_CUH
#define KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/launch.cuh"

constexpr int NN_WARP = 32;
#define NN_ALL_LANES 0xffffffffu

__device__ __forceinline__ int nn_lane()
{
    return (int)(threadIdx.x % NN_WARP);
}

__device__ __forceinline__ int nn_warp()
{
    return (int)(threadIdx.x / NN_WARP);
}

/* Over groups of WIDTH neighbouring lanes (a power of two); every lane gets the result. */
template <int WIDTH = NN_WARP> __device__ __forceinline__ float nn_warp_sum(float x)
{
#pragma unroll
    for (int step = WIDTH / 2; step > 0; step /= 2) x += __shfl_xor_sync(NN_ALL_LANES, x, step);
    return x;
}

template <int WIDTH = NN_WARP> __device__ __forceinline__ float nn_warp_max(float x)
{
#pragma unroll
    for (int step = WIDTH / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(NN_ALL_LANES, x, step));
    return x;
}

/* Over a block of THREADS threads in one dimension; every thread gets the result. `scratch` is
 * shared memory of THREADS / 32 floats; the barrier at the start lets it be used again at once. */
template <int THREADS> __device__ __forceinline__ float nn_block_sum(float x, float *scratch)
{
    constexpr int warps = THREADS / NN_WARP;
    x = nn_warp_sum(x);
    __syncthreads();
    if (nn_lane() == 0) scratch[nn_warp()] = x;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < warps; i++) sum += scratch[i];
    return sum;
}

template <int THREADS> __device__ __forceinline__ float nn_block_max(float x, float *scratch)
{
    constexpr int warps = THREADS / NN_WARP;
    x = nn_warp_max(x);
    __syncthreads();
    if (nn_lane() == 0) scratch[nn_warp()] = x;
    __syncthreads();
    float most = scratch[0];
#pragma unroll
    for (int i = 1; i < warps; i++) most = fmaxf(most, scratch[i]);
    return most;
}

#endif
