/* Groups of elements as one memory access, and arithmetic in f32.
 *
 *     nn_vec<bf16, 8> v = nn_load<8>(x + i);     16 bytes in one instruction
 *     float a = nn_float(v.at[0]);
 *     v.at[0] = nn_from<bf16>(a);
 *     nn_store(y + i, v);
 *
 * Addresses must be aligned to the size of the access. Loops over `at` must be unrolled, so that a
 * group stays in registers. */
#ifndef KERNELS_CUDA_VEC_CUH
#define KERNELS_CUDA_VEC_CUH

#include "kernels/cuda/cuda.cuh"

template <class T, int N> struct alignas(sizeof(T) * N) nn_vec {
    T at[N];
};

/* Elements in 16 bytes. */
template <class T> constexpr int nn_wide = 16 / (int)sizeof(T);

__device__ __forceinline__ float nn_float(float x)
{
    return x;
}

__device__ __forceinline__ float nn_float(bf16 x)
{
    return __bfloat162float(x);
}

/* Rounds to nearest even. */
template <class T> __device__ __forceinline__ T nn_from(float x);
template <> __device__ __forceinline__ float nn_from<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ bf16 nn_from<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* The machine words that move a group of so many bytes. */
template <int BYTES> struct nn_word;
template <> struct nn_word<2> {
    typedef uint16_t type;
};
template <> struct nn_word<4> {
    typedef uint32_t type;
};
template <> struct nn_word<8> {
    typedef uint2 type;
};
template <> struct nn_word<16> {
    typedef uint4 type;
};

template <int N, class T> __device__ __forceinline__ nn_vec<T, N> nn_load(const T *p)
{
    typedef typename nn_word<(int)sizeof(T) * N>::type word;
    const word w = *reinterpret_cast<const word *>(p);
    nn_vec<T, N> v;
    __builtin_memcpy(&v, &w, sizeof(v));
    return v;
}

template <class T, int N> __device__ __forceinline__ void nn_store(T *p, const nn_vec<T, N> &v)
{
    typedef typename nn_word<(int)sizeof(T) * N>::type word;
    word w;
    __builtin_memcpy(&w, &v, sizeof(w));
    *reinterpret_cast<word *>(p) = w;
}

/* Two floats as a pair of bf16, `low` in the lower half: an operand register of mma. */
__device__ __forceinline__ uint32_t nn_pack_bf16(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t word;
    __builtin_memcpy(&word, &pair, sizeof(word));
    return word;
}

#endif
