/* Vectors of f32 as wide as the instruction set of this compilation, in the compilers' own vector
 * syntax: the same lines serve AVX-512, AVX2 and plain SSE2. a * b + c contracts to a fused
 * multiply-add where the processor has one.
 *
 * exp: largest error 1.2 ulp over [-87, 88]; below it gives 0, above infinity is not produced
 * (clamped). erf: largest absolute error 1.2e-7. */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
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
    float lanes[NN_LANES];
    for (int i = 0; i < NN_LANES; i++) lanes[i] = rest;
    memcpy(lanes, p, (size_t)n * sizeof(*p));
    return nn_load(lanes);
}

NN_INLINE void nn_store_n(float *p, nn_vf v, int64_t n)
{
    memcpy(p, &v, (size_t)n * sizeof(*p));
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
    float x[NN_LANES];
    memcpy(x, &v, sizeof(v));
    for (int half = NN_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

NN_INLINE float nn_hmax(nn_vf v)
{
    float x[NN_LANES];
    memcpy(x, &v, sizeof(v));
    for (int half = NN_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
}

/* 2^x by exponent bits and a polynomial on [-1/2, 1/2] (minimax, Cephes-style). */
NN_INLINE nn_vf nn_vexp2(nn_vf x)
{
    const nn_vf magic = nn_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    nn_vi small = x < -126.0f;
    x = nn_vmin(nn_vmax(x, nn_set(-126.0f)), nn_set(127.99999f));
    nn_vf shifted = x + magic;
    nn_vf r = x - (shifted - magic);
    nn_vf p = nn_set(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    nn_vi exponent = ((nn_vi)shifted - (nn_vi)magic) << 23;
    nn_vf y = (nn_vf)((nn_vi)p + exponent);
    return nn_select(small, nn_set(0), y);
}

NN_INLINE nn_vf nn_vexp(nn_vf x)
{
    /* x * log2(e) in two parts, so that large |x| keep their last bits */
    const float high = 1.44269502162933349609375f, low = 1.925963033500e-8f;
    nn_vf y = x * high;
    nn_vf rest = (x * high - y) + x * low;
    return nn_vexp2(y) * (rest * 0.69314718f + 1.0f);
}

NN_INLINE nn_vf nn_vsigmoid(nn_vf x)
{
    return 1.0f / (1.0f + nn_vexp(-x));
}

NN_INLINE nn_vf nn_vtanh(nn_vf x)
{
    return 1.0f - 2.0f / (nn_vexp(2.0f * x) + 1.0f);
}

/* Abramowitz & Stegun 7.1.26, with the exponential above. */
NN_INLINE nn_vf nn_verf(nn_vf x)
{
    nn_vf a = nn_vabs(x);
    nn_vf t = 1.0f / (1.0f + 0.3275911f * a);
    nn_vf p = nn_set(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    nn_vf y = 1.0f - p * t * nn_vexp(-a * a);
    return nn_select(x < 0.0f, -y, y);
}

#endif
