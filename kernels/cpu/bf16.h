/* Sums of products of bf16, where NN_CPU_BF16 is defined: a vector of pairs has two numbers in each
 * 32-bit lane, the earlier one in the lower half.
 *
 * Files of this folder are compiled for any processor with AVX-512. Functions that use these carry
 * NN_BF16_TARGET, and run only where __builtin_cpu_supports("avx512bf16"). */
#ifndef KERNELS_CPU_BF16_H
#define KERNELS_CPU_BF16_H

#include "kernels/cpu/simd.h"

#ifdef __AVX512F__
#define NN_CPU_BF16
#define NN_BF16_TARGET __attribute__((target("avx512bf16")))
#define NN_BF16_INLINE static inline __attribute__((target("avx512bf16"), always_inline, unused))

NN_INLINE nn_vi nn_load_pairs(const int32_t *p)
{
    nn_vi v;
    memcpy(&v, p, sizeof(v));
    return v;
}

NN_INLINE nn_vi nn_set_pair(const int32_t *p)
{
    return (nn_vi)_mm512_set1_epi32(*p);
}

/* Lane i is the pair of a[i] and b[i]. */
NN_BF16_INLINE nn_vi nn_pair_up(nn_vf a, nn_vf b)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
    return (nn_vi)_mm512_permutexvar_epi16(order, halves);
}

/* sum[i] plus both products of lane i. */
NN_BF16_INLINE nn_vf nn_dot_pairs(nn_vf sum, nn_vi a, nn_vi b)
{
    return (nn_vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

/* n consecutive numbers as (n + 1) / 2 pairs, the last of which may end with 0. */
NN_BF16_TARGET static inline void nn_pack_pairs(const float *x, int64_t n, int32_t *to)
{
    for (int64_t i = 0; i < n; i += 2 * NN_LANES) {
        int64_t left = n - i < 2 * NN_LANES ? n - i : 2 * NN_LANES;
        nn_vf a = nn_load_n(x + i, left < NN_LANES ? left : NN_LANES, 0), b = nn_set(0);
        if (left > NN_LANES) b = nn_load_n(x + i + NN_LANES, left - NN_LANES, 0);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
        _mm512_mask_storeu_epi32(to + i / 2, (__mmask16)((1u << (left + 1) / 2) - 1), both);
    }
}
#endif

#endif
