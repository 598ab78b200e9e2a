/* layernorm and its gradient. A row stays in the first-level cache through all of its passes.
 *
 * The variance is of differences from a first mean, and what rounding left of the mean goes into
 * the shift, so that results keep their accuracy where mean >> deviation. Backward sums dgamma and
 * dbeta over chunks of rows, cut by their number alone, and adds the chunks in order: the result
 * does not depend on the number of threads. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

enum { CHUNKS = 32 };

typedef struct job {
    const float *x, *gamma, *beta;
    float *y, *mean, *rstd;
    const float *dy, *mean_in, *rstd_in;
    float *dx, *partial; /* [chunks, 2, n]: dgamma, dbeta */
    int64_t n, rows, chunks, x_stride, dy_stride;
    float eps;
} job;

static float sum_row(const float *x, int64_t n)
{
    nn_vf s0 = nn_set(0), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        s0 += nn_load(x + i);
        s1 += nn_load(x + i + NN_LANES);
    }
    for (; i < n; i += NN_LANES) s0 += nn_load_n(x + i, nn_min(NN_LANES, n - i), 0);
    return nn_hsum(s0 + s1);
}

/* Sums of x - mean and of its square. */
static void spread_row(const float *x, int64_t n, float mean, float *sum, float *squares)
{
    nn_vf s0 = nn_set(0), s1 = s0, q0 = s0, q1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        nn_vf a = nn_load(x + i) - mean, b = nn_load(x + i + NN_LANES) - mean;
        s0 += a, s1 += b;
        q0 += a * a, q1 += b * b;
    }
    for (; i < n; i += NN_LANES) {
        nn_vf a = nn_load_n(x + i, nn_min(NN_LANES, n - i), mean) - mean;
        s0 += a;
        q0 += a * a;
    }
    *sum = nn_hsum(s0 + s1);
    *squares = nn_hsum(q0 + q1);
}

static void forward_row(const job *j, int64_t r)
{
    const float *x = j->x + r * j->x_stride;
    float *y = j->y + r * j->n;
    int64_t n = j->n, i = 0;
    float mean = sum_row(x, n) / (float)n, sum, squares;
    spread_row(x, n, mean, &sum, &squares);
    float rest = sum / (float)n; /* of the mean */
    float var = (squares - sum * rest) / (float)n;
    float rstd = 1.0f / sqrtf(fmaxf(var, 0) + j->eps);
    j->mean[r] = mean + rest;
    j->rstd[r] = rstd;
    for (; i + NN_LANES <= n; i += NN_LANES)
        nn_store(y + i, (nn_load(x + i) - mean - rest) * rstd * nn_load(j->gamma + i) +
                            nn_load(j->beta + i));
    if (i < n)
        nn_store_n(y + i,
                   (nn_load_n(x + i, n - i, 0) - mean - rest) * rstd *
                           nn_load_n(j->gamma + i, n - i, 0) +
                       nn_load_n(j->beta + i, n - i, 0),
                   n - i);
}

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    for (int64_t r = begin; r < end; r++) forward_row(ctx, r);
}

typedef struct moments { /* with e = dy * gamma, h = (x - mean) * rstd */
    float e, eh;         /* means over the row */
} moments;

static moments moments_of_row(const job *j, const float *dy, const float *x, int64_t r,
                              float *dgamma, float *dbeta)
{
    nn_vf e = nn_set(0), eh = e;
    float mean = j->mean_in[r], rstd = j->rstd_in[r];
    int64_t n = j->n, i = 0;
    for (; i + NN_LANES <= n; i += NN_LANES) {
        nn_vf h = (nn_load(x + i) - mean) * rstd, d = nn_load(dy + i);
        nn_vf dg = d * nn_load(j->gamma + i);
        e += dg;
        eh += dg * h;
        nn_store(dgamma + i, nn_load(dgamma + i) + d * h);
        nn_store(dbeta + i, nn_load(dbeta + i) + d);
    }
    if (i < n) {
        int64_t m = n - i;
        nn_vf h = (nn_load_n(x + i, m, mean) - mean) * rstd, d = nn_load_n(dy + i, m, 0);
        nn_vf dg = d * nn_load_n(j->gamma + i, m, 0);
        e += dg;
        eh += dg * h;
        nn_store_n(dgamma + i, nn_load_n(dgamma + i, m, 0) + d * h, m);
        nn_store_n(dbeta + i, nn_load_n(dbeta + i, m, 0) + d, m);
    }
    return (moments){ nn_hsum(e) / (float)n, nn_hsum(eh) / (float)n };
}

static void backward_row(const job *j, int64_t r, float *dgamma, float *dbeta)
{
    const float *x = j->x + r * j->x_stride, *dy = j->dy + r * j->dy_stride;
    float *dx = j->dx + r * j->n, mean = j->mean_in[r], rstd = j->rstd_in[r];
    moments m = moments_of_row(j, dy, x, r, dgamma, dbeta);
    int64_t n = j->n, i = 0;
    for (; i + NN_LANES <= n; i += NN_LANES) {
        nn_vf h = (nn_load(x + i) - mean) * rstd;
        nn_store(dx + i, (nn_load(dy + i) * nn_load(j->gamma + i) - m.e - h * m.eh) * rstd);
    }
    if (i < n) {
        nn_vf h = (nn_load_n(x + i, n - i, 0) - mean) * rstd;
        nn_vf e = nn_load_n(dy + i, n - i, 0) * nn_load_n(j->gamma + i, n - i, 0);
        nn_store_n(dx + i, (e - m.e - h * m.eh) * rstd, n - i);
    }
}

static void part_bwd(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    for (int64_t k = begin; k < end; k++) {
        float *dgamma = j->partial + k * 2 * j->n, *dbeta = dgamma + j->n;
        memset(dgamma, 0, (size_t)(2 * j->n) * sizeof(float));
        for (int64_t r = j->rows * k / j->chunks; r < j->rows * (k + 1) / j->chunks; r++)
            backward_row(j, r, dgamma, dbeta);
    }
}

static bool accepts(const nn_call *c)
{
    nn_rows x;
    return c->in[0].dtype == NN_F32 && nn_rows_of(&c->in[0], &x) && nn_view_contiguous(&c->in[1]) &&
           nn_view_contiguous(&c->in[2]);
}

static nn_status run(const nn_call *c)
{
    const nn_layernorm_params *p = c->params;
    nn_rows x;
    NN_ASSERT(nn_rows_of(&c->in[0], &x));
    job j = { .x = c->in[0].data,
              .gamma = c->in[1].data,
              .beta = c->in[2].data,
              .y = c->out[0].data,
              .mean = c->out[1].data,
              .rstd = c->out[2].data,
              .n = x.width,
              .x_stride = x.stride,
              .eps = (float)p->eps };
    nn_pool_for(c->pool, x.n, nn_max(1, NN_WALK_GRAIN / x.width), part, &j);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    nn_rows dy, x;
    return c->in[1].dtype == NN_F32 && nn_rows_of(&c->in[0], &dy) && nn_rows_of(&c->in[1], &x) &&
           nn_view_contiguous(&c->in[2]) && nn_view_contiguous(&c->in[3]) &&
           nn_view_contiguous(&c->in[4]);
}

static int64_t chunks_of(int64_t rows)
{
    return nn_max(nn_min(rows, CHUNKS), 1);
}

static size_t workspace_bwd(const nn_call *c)
{
    nn_rows x;
    NN_ASSERT(nn_rows_of(&c->in[1], &x));
    return (size_t)(chunks_of(x.n) * 2 * x.width) * sizeof(float);
}

static nn_status run_bwd(const nn_call *c)
{
    nn_rows dy, x;
    NN_ASSERT(nn_rows_of(&c->in[0], &dy) && nn_rows_of(&c->in[1], &x));
    job j = { .dy = c->in[0].data,
              .x = c->in[1].data,
              .gamma = c->in[2].data,
              .mean_in = c->in[3].data,
              .rstd_in = c->in[4].data,
              .dx = c->out[0].data,
              .partial = c->workspace,
              .n = x.width,
              .rows = x.n,
              .chunks = chunks_of(x.n),
              .x_stride = x.stride,
              .dy_stride = dy.stride };
    int64_t chunk = x.width * nn_max(x.n / j.chunks, 1);
    nn_pool_for(c->pool, j.chunks, nn_max(1, NN_WALK_GRAIN / chunk), part_bwd, &j);
    float *dgamma = c->out[1].data, *dbeta = c->out[2].data;
    for (int64_t i = 0; i < j.n; i++) {
        double sum_h = 0, sum = 0;
        for (int64_t k = 0; k < j.chunks; k++) {
            sum_h += (double)j.partial[k * 2 * j.n + i];
            sum += (double)j.partial[(k * 2 + 1) * j.n + i];
        }
        dgamma[i] = (float)sum_h;
        dbeta[i] = (float)sum;
    }
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(layernorm)[] = {
    { .name = "layernorm_f32_rows", .accepts = accepts, .run = run }, { 0 }
};
const nn_kernel NN_CPU_NAME(layernorm_bwd)[] = { { .name = "layernorm_bwd_f32_rows",
                                                   .accepts = accepts_bwd,
                                                   .run = run_bwd,
                                                   .workspace = workspace_bwd },
                                                 { 0 } };
