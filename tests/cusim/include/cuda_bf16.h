/* bfloat16 as CUDA names it: storage, conversions and arithmetic through float. */
#ifndef CUDA_BF16_H
#define CUDA_BF16_H

#include <cuda_runtime.h>

struct __nv_bfloat16_raw {
    unsigned short x;
};

struct __attribute__((aligned(2))) __nv_bfloat16 {
    unsigned short __x;

    __nv_bfloat16() = default;
    __nv_bfloat16(const __nv_bfloat16_raw &raw) : __x(raw.x) {}
    __nv_bfloat16(float v);
    __nv_bfloat16(double v) : __nv_bfloat16(float(v)) {}
    __nv_bfloat16(int v) : __nv_bfloat16(float(v)) {}
    operator float() const { return __uint_as_float(unsigned(__x) << 16); }
    operator __nv_bfloat16_raw() const { return { __x }; }
};

typedef __nv_bfloat16 nv_bfloat16;

struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

typedef __nv_bfloat162 nv_bfloat162;

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v)
{
    return v.__x;
}

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v)
{
    return __nv_bfloat16(__nv_bfloat16_raw{ v });
}

/* To the nearest, ties to even; every NaN becomes 0x7fff. */
inline __nv_bfloat16 __float2bfloat16_rn(float v)
{
    unsigned u = __float_as_uint(v);
    if (v != v) return __ushort_as_bfloat16(0x7fff);
    return __ushort_as_bfloat16((unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16));
}

inline __nv_bfloat16 __float2bfloat16_rz(float v)
{
    return __ushort_as_bfloat16(v != v ? 0x7fff : (unsigned short)(__float_as_uint(v) >> 16));
}

inline __nv_bfloat16::__nv_bfloat16(float v) : __x(__float2bfloat16_rn(v).__x) {}
inline __nv_bfloat16 __float2bfloat16(float v)
{
    return __float2bfloat16_rn(v);
}
inline __nv_bfloat16 __double2bfloat16(double v)
{
    return __float2bfloat16_rn(float(v));
}
inline float __bfloat162float(__nv_bfloat16 v)
{
    return float(v);
}

inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return { x, y };
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return { x, y };
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 v)
{
    return { v, v };
}

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return { __float2bfloat16_rn(x), __float2bfloat16_rn(y) };
}

inline __nv_bfloat162 __float2bfloat162_rn(float v)
{
    return __floats2bfloat162_rn(v, v);
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}
inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(float(v.x), float(v.y));
}
inline float __low2float(__nv_bfloat162 v)
{
    return float(v.x);
}
inline float __high2float(__nv_bfloat162 v)
{
    return float(v.y);
}
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v)
{
    return v.x;
}
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v)
{
    return v.y;
}

#endif
