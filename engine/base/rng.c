/* Counter-based random numbers, hashing, and torch's generators. */
#include "engine/base/rng.h"

#include <math.h>
#include <string.h>

static const float two_pi = 6.283185307179586f;

void nn_philox(uint32_t c[4], const uint32_t key[2])
{
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

uint64_t nn_hash(uint64_t start, const void *bytes, int64_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = start ? start : 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

uint64_t nn_hash_text(const char *text)
{
    return nn_hash(0, text, (int64_t)strlen(text));
}

uint64_t nn_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a + (b + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

nn_rng nn_rng_make(uint64_t seed, const char *stream, uint64_t index)
{
    return (nn_rng){ .key = nn_mix(seed, nn_hash_text(stream)), .index = index };
}

uint32_t nn_rng_u32(nn_rng *rng)
{
    if (!rng->left) {
        uint32_t key[2] = { (uint32_t)rng->key, (uint32_t)(rng->key >> 32) };
        rng->block[0] = (uint32_t)rng->counter;
        rng->block[1] = (uint32_t)(rng->counter >> 32);
        rng->block[2] = (uint32_t)rng->index;
        rng->block[3] = (uint32_t)(rng->index >> 32);
        nn_philox(rng->block, key);
        rng->counter++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

uint64_t nn_rng_below(nn_rng *rng, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, draw;
    do {
        draw = (uint64_t)nn_rng_u32(rng) << 32;
        draw |= nn_rng_u32(rng);
    } while (draw >= limit);
    return draw % n;
}

float nn_rng_uniform(nn_rng *rng)
{
    return (float)(nn_rng_u32(rng) >> 8) * 0x1p-24f;
}

float nn_rng_normal(nn_rng *rng)
{
    float u = 1.0f - nn_rng_uniform(rng), v = nn_rng_uniform(rng);
    return sqrtf(-2.0f * logf(u)) * cosf(two_pi * v);
}

void nn_rng_normal_fill(nn_rng *rng, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i += 2) {
        float u = 1.0f - nn_rng_uniform(rng), v = nn_rng_uniform(rng);
        float radius = sqrtf(-2.0f * logf(u));
        out[i] = radius * cosf(two_pi * v);
        if (i + 1 < n) out[i + 1] = radius * sinf(two_pi * v);
    }
}

void nn_rng_permute(nn_rng *rng, int64_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t j = (int64_t)nn_rng_below(rng, (uint64_t)i + 1);
        out[i] = out[j];
        out[j] = i;
    }
}

void nn_torch_seed(nn_torch_rng *rng, uint64_t seed)
{
    rng->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < 624; i++) {
        uint32_t before = rng->state[i - 1];
        rng->state[i] = 1812433253u * (before ^ before >> 30) + i;
    }
    rng->next = 624;
    rng->has_normal = 0;
    rng->normal = 0;
}

static void twist(nn_torch_rng *rng)
{
    uint32_t *s = rng->state;
    for (int i = 0; i < 624; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
        s[i] = s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    rng->next = 0;
}

uint32_t nn_torch_u32(nn_torch_rng *rng)
{
    if (rng->next == 624) twist(rng);
    uint32_t y = rng->state[rng->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void nn_torch_rand(nn_torch_rng *rng, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = (float)(nn_torch_u32(rng) & 0xffffffu) * 0x1p-24f;
}

/* 16 uniforms to 16 normals: element j pairs with j + 8. */
static void normal_block(float *u)
{
    for (int j = 0; j < 8; j++) {
        float radius = sqrtf(-2.0f * logf(1.0f - u[j])), angle = two_pi * u[j + 8];
        u[j] = radius * cosf(angle);
        u[j + 8] = radius * sinf(angle);
    }
}

static double uniform53(nn_torch_rng *rng)
{
    uint64_t high = nn_torch_u32(rng);
    uint64_t bits = high << 32 | nn_torch_u32(rng);
    return (double)(bits & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

static float normal_one(nn_torch_rng *rng)
{
    if (rng->has_normal) {
        rng->has_normal = 0;
        return (float)rng->normal;
    }
    double u1 = uniform53(rng), u2 = uniform53(rng);
    double radius = sqrt(-2.0 * log1p(-u2)), angle = 6.283185307179586 * u1;
    rng->has_normal = 1;
    rng->normal = radius * sin(angle);
    return (float)(radius * cos(angle));
}

void nn_torch_randn(nn_torch_rng *rng, float *out, int64_t n)
{
    if (n < 16) {
        for (int64_t i = 0; i < n; i++) out[i] = normal_one(rng);
        return;
    }
    nn_torch_rand(rng, out, n);
    for (int64_t i = 0; i + 16 <= n; i += 16) normal_block(out + i);
    if (n % 16) { /* torch draws the last 16 places anew */
        nn_torch_rand(rng, out + n - 16, 16);
        normal_block(out + n - 16);
    }
}

/* Two normals from two words, as curand does: the sine first. */
static void cuda_pair(uint32_t a, uint32_t b, float out[2])
{
    const float scale = 2.3283064e-10f, turn = 2.3283064e-10f * 6.2831855f;
    float radius = sqrtf(-2.0f * logf((float)a * scale + scale / 2));
    float angle = (float)b * turn + turn / 2;
    out[0] = radius * sinf(angle);
    out[1] = radius * cosf(angle);
}

void nn_torch_cuda_randn(nn_torch_cuda_rng *rng, float *out, int64_t n)
{
    if (n < 1) return;
    const uint32_t key[2] = { (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32) };
    const int64_t block = 256, most = rng->max_threads / block, wanted = (n + block - 1) / block;
    const int64_t threads = block * (wanted < most || most < 1 ? wanted : most);
    const int64_t rounds = (n - 1) / (4 * threads) + 1;
    for (int64_t round = 0; round < rounds; round++) {
        const uint64_t draw = rng->offset / 4 + (uint64_t)round;
        for (int64_t thread = 0; thread < threads; thread++) {
            uint32_t c[4] = { (uint32_t)draw, (uint32_t)(draw >> 32), (uint32_t)thread,
                              (uint32_t)((uint64_t)thread >> 32) };
            float normal[4];
            nn_philox(c, key);
            cuda_pair(c[0], c[1], normal);
            cuda_pair(c[2], c[3], normal + 2);
            for (int64_t k = 0; k < 4; k++) {
                int64_t at = thread + threads * (k + 4 * round);
                if (at < n) out[at] = normal[k];
            }
        }
    }
    rng->offset += 4 * (uint64_t)rounds;
}
