/* softmax_xent_f32_rows: a thread owns whole rows. Two passes over a row, which stays in the cache:
 * largest and sum, then the sum of exponentials. The losses of the rows are added in row order, in
 * double: the result does not depend on the number of threads.
 * softmax_xent_bwd_f32_rows: one pass; a row may be written over its logits. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd.h"

static int64_t label_at(const nn_view *labels, int64_t row)
{
    return ((const int32_t *)labels->data)[nn_row_offset(labels, labels->rank, row)];
}

static const float *row_at(const nn_view *x, int64_t row)
{
    return (const float *)x->data + nn_row_offset(x, x->rank - 1, row);
}

/* 0 for -infinity too: a logit that is masked out. */
NN_INLINE nn_vf exp_or_zero(nn_vf x)
{
    return nn_select(x < -104.0f, nn_set(0), nn_vexp(x));
}

static void max_and_sum(const float *x, int64_t n, float *max, float *sum)
{
    nn_vf m0 = nn_set(-INFINITY), m1 = m0, s0 = nn_set(0), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        nn_vf a = nn_load(x + i), b = nn_load(x + i + NN_LANES);
        m0 = nn_vmax(m0, a);
        m1 = nn_vmax(m1, b);
        s0 += a;
        s1 += b;
    }
    *max = nn_hmax(nn_vmax(m0, m1));
    *sum = nn_hsum(s0 + s1);
    for (; i < n; i++) {
        if (x[i] > *max) *max = x[i];
        *sum += x[i];
    }
}

static float sum_exp(const float *x, int64_t n, float max)
{
    nn_vf s0 = nn_set(0), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        s0 += exp_or_zero(nn_load(x + i) - max);
        s1 += exp_or_zero(nn_load(x + i + NN_LANES) - max);
    }
    for (; i < n; i += NN_LANES)
        s1 += exp_or_zero(nn_load_n(x + i, nn_min(n - i, NN_LANES), -INFINITY) - max);
    return nn_hsum(s0 + s1);
}

static void do_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_softmax_xent_params *p = c->params;
    int64_t n = nn_last(&c->in[0], 0);
    float *lse = c->out[1].data;
    double *loss = c->workspace;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        int64_t label = label_at(&c->in[1], r);
        const float *x = row_at(&c->in[0], r);
        float max, sum;
        loss[r] = 0;
        lse[r] = 0;
        if (label < 0) continue;
        max_and_sum(x, n, &max, &sum);
        double total = (double)max + log((double)sum_exp(x, n, max));
        lse[r] = (float)total;
        loss[r] = total - (1 - p->smoothing) * (double)x[label];
        if (p->smoothing > 0) loss[r] -= p->smoothing * (double)sum / (double)n;
    }
}

static nn_status run(const nn_call *c)
{
    int64_t rows = nn_view_elems(&c->in[1]), n = nn_last(&c->in[0], 0), count = 0;
    const double *loss = c->workspace;
    for (int64_t r = 0; r < rows; r++) {
        int64_t label = label_at(&c->in[1], r);
        count += label >= 0;
        if (label >= n)
            return nn_fail(NN_ARGUMENT, "label %lld, but there are %lld logits", (long long)label,
                           (long long)n);
    }
    nn_pool_for(c->pool, rows, 1, do_rows, (void *)(uintptr_t)c);
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += loss[r];
    *(float *)c->out[0].data = count ? (float)(sum / (double)count) : 0;
    *(float *)c->out[2].data = (float)count;
    return NN_OK;
}

static size_t workspace(const nn_call *c)
{
    return (size_t)nn_view_elems(&c->in[1]) * sizeof(double);
}

static bool accepts(const nn_call *c)
{
    return nn_rows_f32(&c->in[0]);
}

/* to = scale * exp(x - lse) - offset */
static void probabilities(const float *x, int64_t n, float lse, float scale, float offset,
                          float *to)
{
    int64_t i = 0;
    for (; i + NN_LANES <= n; i += NN_LANES)
        nn_store(to + i, scale * exp_or_zero(nn_load(x + i) - lse) - offset);
    if (i < n)
        nn_store_n(to + i, scale * exp_or_zero(nn_load_n(x + i, n - i, lse) - lse) - offset, n - i);
}

static void do_rows_bwd(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_softmax_xent_params *p = c->params;
    int64_t n = nn_last(&c->in[1], 0);
    double scale = (double)*(const float *)c->in[0].data / (double)*(const float *)c->in[4].data;
    const float *lse = c->in[3].data;
    float *dx = c->out[0].data;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        int64_t label = label_at(&c->in[2], r);
        float *to = dx + r * n;
        if (label < 0) {
            memset(to, 0, (size_t)n * sizeof(*to));
            continue;
        }
        probabilities(row_at(&c->in[1], r), n, lse[r], (float)scale,
                      (float)(scale * p->smoothing / (double)n), to);
        to[label] -= (float)(scale * (1 - p->smoothing));
    }
}

static nn_status run_bwd(const nn_call *c)
{
    nn_pool_for(c->pool, nn_view_elems(&c->in[2]), 1, do_rows_bwd, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    return nn_rows_f32(&c->in[1]) && nn_packed_f32(&c->in[3]);
}

const nn_kernel NN_CPU_NAME(softmax_xent)[] = {
    { .name = "softmax_xent_f32_rows", .accepts = accepts, .run = run, .workspace = workspace },
    { 0 }
};
const nn_kernel NN_CPU_NAME(softmax_xent_bwd)[] = {
    { .name = "softmax_xent_bwd_f32_rows", .accepts = accepts_bwd, .run = run_bwd }, { 0 }
};
