/* 16-bit floats: bf16 (the upper half of an f32) and IEEE f16. Rounding is to nearest, ties to
 * even. */
#ifndef ENGINE_BASE_HALF_H
#define ENGINE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float nn_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static inline uint16_t nn_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u); /* a NaN stays one */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

float nn_f16_to_f32(uint16_t h);
uint16_t nn_f32_to_f16(float f);

#endif
