/* Arithmetic, conversions and single memory accesses of device code. */
#ifndef CUSIM_MATH_H
#define CUSIM_MATH_H

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <math.h>

#include "cusim_core.h"

#define CUSIM_MIN_MAX(T)                                                                           \
    inline T min(T a, T b)                                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    inline T max(T a, T b)                                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }

CUSIM_MIN_MAX(int)
CUSIM_MIN_MAX(unsigned)
CUSIM_MIN_MAX(long)
CUSIM_MIN_MAX(unsigned long)
CUSIM_MIN_MAX(long long)
CUSIM_MIN_MAX(unsigned long long)

/* Of a NaN and a number the number, as fminf and fmaxf. */
inline float min(float a, float b)
{
    return fminf(a, b);
}
inline float max(float a, float b)
{
    return fmaxf(a, b);
}
inline double min(double a, double b)
{
    return fmin(a, b);
}
inline double max(double a, double b)
{
    return fmax(a, b);
}

namespace cusim
{

template <class To, class From> inline To bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "the same size");
    To out;
    std::memcpy(&out, &v, sizeof out);
    return out;
}

} // namespace cusim

inline int __float_as_int(float v)
{
    return cusim::bits<int>(v);
}
inline unsigned __float_as_uint(float v)
{
    return cusim::bits<unsigned>(v);
}
inline float __int_as_float(int v)
{
    return cusim::bits<float>(v);
}
inline float __uint_as_float(unsigned v)
{
    return cusim::bits<float>(v);
}
inline long long __double_as_longlong(double v)
{
    return cusim::bits<long long>(v);
}
inline double __longlong_as_double(long long v)
{
    return cusim::bits<double>(v);
}

inline int __float2int_rn(float v)
{
    return int(nearbyintf(v));
}
inline int __float2int_rz(float v)
{
    return int(v);
}
inline int __float2int_rd(float v)
{
    return int(floorf(v));
}
inline int __float2int_ru(float v)
{
    return int(ceilf(v));
}
inline unsigned __float2uint_rn(float v)
{
    return unsigned(nearbyintf(v));
}
inline float __int2float_rn(int v)
{
    return float(v);
}
inline float __uint2float_rn(unsigned v)
{
    return float(v);
}

inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
inline int __popcll(unsigned long long v)
{
    return __builtin_popcountll(v);
}
inline int __clz(int v)
{
    return v ? __builtin_clz(unsigned(v)) : 32;
}
inline int __clzll(long long v)
{
    return v ? __builtin_clzll((unsigned long long)v) : 64;
}
inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
inline int __ffsll(long long v)
{
    return __builtin_ffsll(v);
}

inline unsigned __brev(unsigned v)
{
    unsigned out = 0;
    for (int i = 0; i < 32; i++) out |= (v >> i & 1u) << (31 - i);
    return out;
}

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return unsigned(uint64_t(a) * b >> 32);
}
inline int __mulhi(int a, int b)
{
    return int(int64_t(a) * b >> 32);
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n)
{
    return unsigned(((uint64_t(high) << 32 | low) << (n & 31)) >> 32);
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n)
{
    return unsigned((uint64_t(high) << 32 | low) >> (n & 31));
}

/* The C library declares some of these names itself: the rest of the file is behind macros. */
#define __expf    cusim_expf
#define __exp10f  cusim_exp10f
#define __logf    cusim_logf
#define __log2f   cusim_log2f
#define __log10f  cusim_log10f
#define __sinf    cusim_sinf
#define __cosf    cusim_cosf
#define __tanf    cusim_tanf
#define __powf    cusim_powf
#define __sincosf cusim_sincosf

inline float cusim_expf(float v)
{
    return expf(v);
}
inline float cusim_exp10f(float v)
{
    return powf(10.0f, v);
}
inline float cusim_logf(float v)
{
    return logf(v);
}
inline float cusim_log2f(float v)
{
    return log2f(v);
}
inline float cusim_log10f(float v)
{
    return log10f(v);
}
inline float cusim_sinf(float v)
{
    return sinf(v);
}
inline float cusim_cosf(float v)
{
    return cosf(v);
}
inline float cusim_tanf(float v)
{
    return tanf(v);
}
inline float cusim_powf(float v, float power)
{
    return powf(v, power);
}

inline void cusim_sincosf(float v, float *sine, float *cosine)
{
    *sine = sinf(v);
    *cosine = cosf(v);
}

inline float rsqrtf(float v)
{
    return 1.0f / sqrtf(v);
}
inline double rsqrt(double v)
{
    return 1.0 / sqrt(v);
}
inline float __fsqrt_rn(float v)
{
    return sqrtf(v);
}
inline float __frsqrt_rn(float v)
{
    return 1.0f / sqrtf(v);
}
inline float __frcp_rn(float v)
{
    return 1.0f / v;
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline float __saturatef(float v)
{
    return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f;
}
inline float normcdff(float v)
{
    return 0.5f * erfcf(-v * 0.70710678118654752f);
}
inline void sincospif(float v, float *sine, float *cosine)
{
    *sine = float(sin(M_PI * double(v)));
    *cosine = float(cos(M_PI * double(v)));
}

/* Never contracted to a fused multiply-add, whatever the flags. */
inline float __fadd_rn(float a, float b)
{
    volatile float out = a + b;
    return out;
}

inline float __fsub_rn(float a, float b)
{
    volatile float out = a - b;
    return out;
}

inline float __fmul_rn(float a, float b)
{
    volatile float out = a * b;
    return out;
}

/* Loads and stores with a hint for the caches. */
template <class T> inline T __ldg(const T *p)
{
    return *p;
}
template <class T> inline T __ldca(const T *p)
{
    return *p;
}
template <class T> inline T __ldcg(const T *p)
{
    return *p;
}
template <class T> inline T __ldcs(const T *p)
{
    return *p;
}
template <class T> inline T __ldlu(const T *p)
{
    return *p;
}
template <class T> inline T __ldcv(const T *p)
{
    return *p;
}
template <class T> inline void __stwb(T *p, T v)
{
    *p = v;
}
template <class T> inline void __stcg(T *p, T v)
{
    *p = v;
}
template <class T> inline void __stcs(T *p, T v)
{
    *p = v;
}
template <class T> inline void __stwt(T *p, T v)
{
    *p = v;
}

#endif
