/* Vectors of f32 as wide as the instruction set of this compilation, in the compilers' own vector
 * syntax: the same lines serve AVX-512, AVX2 and plain SSE2. a * b + c contracts to a fused
 * multiply-add where the processor has one.
 *
 * The functions keep NaN. Errors are the largest that tests/unit/test_simd.c finds against libm in
 * double; it fails where one is exceeded.
 *   exp, exp2  1.2 ulp; beyond the range of f32 0 (or denormal) and infinity
 *   sigmoid    1e-7 absolute, 2.5 ulp where it is normal
 *   tanh       2e-7 absolute, 3 ulp
 *   erf        7e-8 absolute, 1.2 ulp
 *   gelu       1.2e-7 * max(|x|, 1) absolute, as x / 2 * (1 + erf(x / sqrt 2)) */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { NN_LANES = 16 };
#elif defined(__AVX2__)
enum { NN_LANES = 8 };
#else
enum { NN_LANES = 4 };
#endif

typedef float nn_vf __attribute__((vector_size(4 * NN_LANES)));
typedef int32_t nn_vi __attribute__((vector_size(4 * NN_LANES)));

#define NN_INLINE static inline __attribute__((always_inline, unused))

NN_INLINE nn_vf nn_set(float x)
{
    return x - (nn_vf){ 0 }; /* exact for -0 too, so that only the broadcast remains */
}

NN_INLINE nn_vf nn_load(const float *p)
{
    nn_vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

NN_INLINE void nn_store(float *p, nn_vf v)
{
    memcpy(p, &v, sizeof(v));
}

/* The first n lanes (0 <= n <= NN_LANES); the others read as `rest` and are not written. */
NN_INLINE nn_vf nn_load_n(const float *p, int64_t n, float rest)
{
#if defined(__AVX512F__)
    return (nn_vf)_mm512_mask_loadu_ps((__m512)nn_set(rest), (__mmask16)((1u << n) - 1), p);
#else
    float lanes[NN_LANES];
    for (int i = 0; i < NN_LANES; i++) lanes[i] = i < n ? p[i] : rest;
    return nn_load(lanes);
#endif
}

NN_INLINE void nn_store_n(float *p, nn_vf v, int64_t n)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    for (int i = 0; i < NN_LANES; i++)
        if (i < n) p[i] = v[i];
#endif
}

/* mask lanes are all ones or all zeros, as comparisons give them */
NN_INLINE nn_vf nn_select(nn_vi mask, nn_vf a, nn_vf b)
{
    return (nn_vf)((mask & (nn_vi)a) | (~mask & (nn_vi)b));
}

/* a > b ? a : b, and a < b ? a : b: b where either is NaN, as the instructions do. */
NN_INLINE nn_vf nn_vmax(nn_vf a, nn_vf b)
{
#if defined(__AVX512F__)
    return (nn_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (nn_vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (nn_vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return nn_select(a > b, a, b);
#endif
}

NN_INLINE nn_vf nn_vmin(nn_vf a, nn_vf b)
{
#if defined(__AVX512F__)
    return (nn_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (nn_vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (nn_vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return nn_select(a < b, a, b);
#endif
}

NN_INLINE nn_vf nn_vabs(nn_vf a)
{
    return (nn_vf)((nn_vi)a & 0x7fffffff);
}

/* Lanes are added pairwise: the same order on every run. */
NN_INLINE float nn_hsum(nn_vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float x[NN_LANES];
    memcpy(x, &v, sizeof(v));
    for (int half = NN_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
#endif
}

NN_INLINE float nn_hmax(nn_vf v)
{
    float x[NN_LANES];
    memcpy(x, &v, sizeof(v));
    for (int half = NN_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
}

/* a0 b0 a1 b1 ... of the lower halves, and of the upper ones. */
NN_INLINE nn_vf nn_zip_low(nn_vf a, nn_vf b)
{
#if defined(__AVX512F__)
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}

NN_INLINE nn_vf nn_zip_high(nn_vf a, nn_vf b)
{
#if defined(__AVX512F__)
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
#elif defined(__AVX2__)
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

/* A square of lanes, in registers: each round rotates the bits of (row, lane) by one; after
 * log2(lanes) rounds rows and lanes have changed places. */
NN_INLINE void nn_transpose(nn_vf x[NN_LANES])
{
    for (int round = 1; round < NN_LANES; round *= 2) {
        nn_vf y[NN_LANES];
        for (int i = 0; i < NN_LANES / 2; i++) {
            y[2 * i] = nn_zip_low(x[i], x[i + NN_LANES / 2]);
            y[2 * i + 1] = nn_zip_high(x[i], x[i + NN_LANES / 2]);
        }
        memcpy(x, y, sizeof(y));
    }
}

/* x clamped to where f32 powers end, NaN kept. */
NN_INLINE nn_vf nn_vclamp(nn_vf x, float low, float high)
{
    return nn_vmin(nn_set(high), nn_vmax(nn_set(low), x));
}

/* p * 2^n for n = shifted - magic: below the range of f32 to 0, above it to infinity. */
#define NN_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */

NN_INLINE nn_vf nn_vldexp(nn_vf p, nn_vf shifted)
{
#if defined(__AVX512F__)
    return (nn_vf)_mm512_scalef_ps((__m512)p, (__m512)(shifted - NN_ROUND_MAGIC));
#else
    nn_vi n = (nn_vi)shifted - (nn_vi)nn_set(NN_ROUND_MAGIC), half = n >> 1;
    return p * (nn_vf)((half + 127) << 23) * (nn_vf)((n - half + 127) << 23);
#endif
}

/* 2^x by a polynomial on [-1/2, 1/2] (minimax). */
NN_INLINE nn_vf nn_vexp2(nn_vf x)
{
    x = nn_vclamp(x, -160, 160);
    nn_vf shifted = x + NN_ROUND_MAGIC;
    nn_vf r = x - (shifted - NN_ROUND_MAGIC);
    nn_vf p = nn_set(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return nn_vldexp(p, shifted);
}

/* e^x: reduction by ln 2 in two parts, of which the first times n is exact (Cephes expf). */
NN_INLINE nn_vf nn_vexp(nn_vf x)
{
    x = nn_vclamp(x, -110, 110);
    nn_vf shifted = x * 1.44269504f + NN_ROUND_MAGIC;
    nn_vf n = shifted - NN_ROUND_MAGIC;
    nn_vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    nn_vf p = nn_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return nn_vldexp(p, shifted);
}

NN_INLINE nn_vf nn_vsigmoid(nn_vf x)
{
    return 1.0f / (1.0f + nn_vexp(-x));
}

/* Odd polynomial near 0 (Cephes tanhf), where the quotient would lose its last bits. */
NN_INLINE nn_vf nn_vtanh(nn_vf x)
{
    nn_vf z = x * x;
    nn_vf p = nn_set(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    nn_vf far = 1.0f - 2.0f / (nn_vexp(2.0f * x) + 1.0f);
    return nn_select(nn_vabs(x) < 0.625f, p * z * x + x, far);
}

/* Polynomial near 0; 1 - e^q(|x|) with a polynomial q elsewhere (N. Juffa's erff). */
NN_INLINE nn_vf nn_verf(nn_vf x)
{
    nn_vf a = nn_vabs(x), z = x * x;
    nn_vf q = (-1.72853470e-5f * a + 3.83197126e-4f) * z + (-3.88396438e-3f * a + 2.42546219e-2f);
    q = q * a - 1.06777877e-1f;
    q = q * a - 6.34846687e-1f;
    q = q * a - 1.28717512e-1f;
    nn_vf far = 1.0f - nn_vexp(q * a - a);
    nn_vf p = nn_set(-5.96761703e-4f);
    p = p * z + 4.99119423e-3f;
    p = p * z - 2.67681349e-2f;
    p = p * z + 1.12819925e-1f;
    p = p * z - 3.76125336e-1f;
    p = p * z + 1.28379166e-1f;
    nn_vi sign = (nn_vi)x & INT32_MIN;
    return nn_select(a > 0.927734375f, (nn_vf)((nn_vi)far | sign), p * x + x);
}

#endif
