/* IEEE half precision in integer arithmetic: subnormals, infinities and NaN included. */
#include "engine/base/half.h"

#include <math.h>

float nn_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    uint32_t u;
    if (exponent == 31)
        u = sign | 0x7f800000u | fraction << 13;
    else if (exponent)
        u = sign | (exponent + 112) << 23 | fraction << 13;
    else {
        float f = ldexpf((float)fraction, -24);
        return sign ? -f : f;
    }
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

uint16_t nn_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
    uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and up round to infinity */
    if (magnitude < 0x38800000u) {                       /* below 2^-14: a multiple of 2^-24 */
        float scaled = fabsf(f) * 16777216.0f;
        return sign | (uint16_t)lrintf(scaled);
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return sign | (uint16_t)((rounded - 0x38000000u) >> 13);
}
