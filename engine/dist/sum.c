/* Sums over ranks, in the order of the ranks. */
#include <string.h>

#include "engine/base/half.h"
#include "engine/dist/internal.h"

enum { BLOCK = 1024 }; /* elements: the partial sums stay in the first-level cache */

static void add_f32(const float *x, int64_t n, float *restrict sum)
{
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

static void sum_f32(int n_sources, const void *const src[], int64_t at, int64_t n, float *dst)
{
    float sum[BLOCK];
    memcpy(sum, (const float *)src[0] + at, (size_t)n * sizeof(float));
    for (int s = 1; s < n_sources; s++) add_f32((const float *)src[s] + at, n, sum);
    memcpy(dst + at, sum, (size_t)n * sizeof(float));
}

static void sum_bf16(int n_sources, const void *const src[], int64_t at, int64_t n, uint16_t *dst)
{
    float sum[BLOCK];
    const uint16_t *x = (const uint16_t *)src[0] + at;
    for (int64_t i = 0; i < n; i++) sum[i] = nn_bf16_to_f32(x[i]);
    for (int s = 1; s < n_sources; s++) {
        x = (const uint16_t *)src[s] + at;
        for (int64_t i = 0; i < n; i++) sum[i] += nn_bf16_to_f32(x[i]);
    }
    for (int64_t i = 0; i < n; i++) dst[at + i] = nn_f32_to_bf16(sum[i]);
}

void nn_comm_sum(nn_dtype dtype, int n_sources, const void *const src[], int64_t n, void *dst)
{
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t part = nn_min(BLOCK, n - at);
        if (dtype == NN_BF16)
            sum_bf16(n_sources, src, at, part, dst);
        else
            sum_f32(n_sources, src, at, part, dst);
    }
}
