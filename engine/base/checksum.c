/* XXH64. */
#include "engine/base/checksum.h"

#include <string.h>

enum { STRIPE = 32 };

static const uint64_t P1 = 0x9E3779B185EBCA87, P2 = 0xC2B2AE3D27D4EB4F, P3 = 0x165667B19E3779F9,
                      P4 = 0x85EBCA77C2B2AE63, P5 = 0x27D4EB2F165667C5;

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t little64(const unsigned char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

static uint32_t little32(const unsigned char *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap32(x);
#endif
    return x;
}

static uint64_t round_of(uint64_t lane, uint64_t input)
{
    return rotate(lane + input * P2, 31) * P1;
}

static void add_stripes(uint64_t lane[4], const unsigned char *p, int64_t n)
{
    uint64_t a = lane[0], b = lane[1], c = lane[2], d = lane[3];
    for (; n > 0; n--, p += STRIPE) {
        a = round_of(a, little64(p));
        b = round_of(b, little64(p + 8));
        c = round_of(c, little64(p + 16));
        d = round_of(d, little64(p + 24));
    }
    lane[0] = a;
    lane[1] = b;
    lane[2] = c;
    lane[3] = d;
}

void nn_checksum_start(nn_checksum *c)
{
    *c = (nn_checksum){ .lane = { P1 + P2, P2, 0, 0 - P1 } };
}

void nn_checksum_add(nn_checksum *c, const void *bytes, int64_t n)
{
    const unsigned char *p = bytes;
    const int64_t held = (int64_t)(c->n % STRIPE);
    c->n += (uint64_t)n;
    if (held) {
        const int64_t missing = STRIPE - held, taken = n < missing ? n : missing;
        if (taken) memcpy(c->rest + held, p, (size_t)taken);
        if (taken < missing) return;
        add_stripes(c->lane, c->rest, 1);
        p += taken;
        n -= taken;
    }
    add_stripes(c->lane, p, n / STRIPE);
    if (n % STRIPE) memcpy(c->rest, p + n / STRIPE * STRIPE, (size_t)(n % STRIPE));
}

/* The four lanes as one number. */
static uint64_t merge(const uint64_t lane[4])
{
    uint64_t h =
        rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    for (int i = 0; i < 4; i++) h = (h ^ round_of(0, lane[i])) * P1 + P4;
    return h;
}

static uint64_t add_rest(uint64_t h, const unsigned char *p, int n)
{
    for (; n >= 8; n -= 8, p += 8) h = rotate(h ^ round_of(0, little64(p)), 27) * P1 + P4;
    for (; n >= 4; n -= 4, p += 4) h = rotate(h ^ little32(p) * P1, 23) * P2 + P3;
    for (; n > 0; n--, p++) h = rotate(h ^ *p * P5, 11) * P1;
    return h;
}

uint64_t nn_checksum_end(const nn_checksum *c)
{
    uint64_t h = (c->n < STRIPE ? P5 : merge(c->lane)) + c->n;
    h = add_rest(h, c->rest, (int)(c->n % STRIPE));
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

uint64_t nn_checksum_of(const void *bytes, int64_t n)
{
    nn_checksum c;
    nn_checksum_start(&c);
    nn_checksum_add(&c, bytes, n);
    return nn_checksum_end(&c);
}
