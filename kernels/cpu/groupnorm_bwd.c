/* groupnorm_bwd: per-channel sums over chunks of rows; then one pass that makes dx.
 *
 * With SiLU the first pass leaves the gradient before SiLU in dx, where the second finds it, so
 * that the exponential is taken once. Sums are f32 within a chunk and f64 across. */
#include "kernels/cpu/groupnorm.h"

typedef struct job {
    nn_groups g;
    const float *dy, *x, *gamma, *beta, *mean, *rstd;
    float *dx, *dgamma, *dbeta;
    int64_t dy_sample, dy_row, x_sample, x_row;
    bool silu;
    double *sum;    /* [2, channels]: of one sample, sums of d * h and of d */
    double *total;  /* [2, channels]: of all samples */
    float *spread;  /* [samples, 2, channels]: mean and rstd per channel */
    float *coef;    /* [samples, 3, channels]: dx = first * d + second * (x - mean) + third */
    float *partial; /* [samples, chunks, 2, channels] */
} job;

/* Adds d * h and d of one row, d = dy times the slope of SiLU, h = the normalised x. */
NN_INLINE void add_row(const job *j, const float *dy, const float *x, float *dx,
                       const float *spread, float *sum, bool silu, int64_t c, int64_t m)
{
    int64_t n = j->g.channels;
    nn_vf h = (nn_take(x + c, m) - nn_take(spread + c, m)) * nn_take(spread + n + c, m);
    nn_vf d = nn_take(dy + c, m);
    if (silu) {
        d *= nn_vsilu_slope(h * nn_take(j->gamma + c, m) + nn_take(j->beta + c, m));
        nn_give(dx + c, d, m);
    }
    nn_give(sum + c, nn_take(sum + c, m) + d * h, m);
    nn_give(sum + n + c, nn_take(sum + n + c, m) + d, m);
}

NN_INLINE void sum_chunks(const job *j, int64_t begin, int64_t end, bool silu)
{
    const nn_groups *g = &j->g;
    int64_t n = g->channels;
    for (int64_t item = begin; item < end; item++) {
        nn_chunk k = nn_chunk_at(g, item);
        const float *spread = j->spread + k.sample * 2 * n;
        float *sum = j->partial + item * 2 * n;
        memset(sum, 0, (size_t)(2 * n) * sizeof(float));
        for (int64_t r = k.begin; r < k.end; r++)
            NN_CHANNELS(c, n, add_row, j, j->dy + k.sample * j->dy_sample + r * j->dy_row,
                        j->x + k.sample * j->x_sample + r * j->x_row,
                        j->dx + (k.sample * g->rows + r) * n, spread, sum, silu);
    }
}

static void part_plain(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    sum_chunks(ctx, begin, end, false);
}

static void part_silu(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    sum_chunks(ctx, begin, end, true);
}

static void spread_stats(const job *j)
{
    int64_t n = j->g.channels;
    for (int64_t i = 0; i < j->g.samples * n; i++) {
        int64_t sample = i / n, c = i % n, at = sample * j->g.groups + c / j->g.wide;
        j->spread[sample * 2 * n + c] = j->mean[at];
        j->spread[(sample * 2 + 1) * n + c] = j->rstd[at];
    }
}

/* Joins the chunks of a sample and makes its coefficients. */
static void join(const job *j, int64_t sample)
{
    const nn_groups *g = &j->g;
    int64_t n = g->channels;
    const float *partial = j->partial + sample * g->chunks * 2 * n;
    memset(j->sum, 0, (size_t)(2 * n) * sizeof(double));
    for (int64_t k = 0; k < g->chunks; k++)
        for (int64_t c = 0; c < 2 * n; c++) j->sum[c] += (double)partial[k * 2 * n + c];
    for (int64_t c = 0; c < 2 * n; c++) j->total[c] += j->sum[c];
    float *coef = j->coef + sample * 3 * n;
    double count = (double)(g->rows * g->wide);
    for (int64_t k = 0; k < g->groups; k++) {
        double rstd = (double)j->rstd[sample * g->groups + k], eh = 0, e = 0;
        for (int64_t c = k * g->wide; c < (k + 1) * g->wide; c++) {
            eh += (double)j->gamma[c] * j->sum[c] / count;
            e += (double)j->gamma[c] * j->sum[n + c] / count;
        }
        for (int64_t c = k * g->wide; c < (k + 1) * g->wide; c++) {
            coef[c] = (float)(rstd * (double)j->gamma[c]);
            coef[n + c] = (float)(-rstd * rstd * eh);
            coef[2 * n + c] = (float)(-rstd * e);
        }
    }
}

NN_INLINE void finish_row(const float *d, const float *x, float *dx, const float *mean,
                          const float *coef, int64_t n, int64_t c, int64_t m)
{
    nn_vf off = nn_take(x + c, m) - nn_take(mean + c, m);
    nn_give(dx + c,
            nn_take(coef + c, m) * nn_take(d + c, m) +
                (nn_take(coef + n + c, m) * off + nn_take(coef + 2 * n + c, m)),
            m);
}

static void part_finish(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    const nn_groups *g = &j->g;
    int64_t n = g->channels;
    for (int64_t item = begin; item < end; item++) {
        nn_chunk k = nn_chunk_at(g, item);
        const float *mean = j->spread + k.sample * 2 * n, *coef = j->coef + k.sample * 3 * n;
        for (int64_t r = k.begin; r < k.end; r++) {
            float *dx = j->dx + (k.sample * g->rows + r) * n;
            const float *dy = j->dy + k.sample * j->dy_sample + r * j->dy_row;
            NN_CHANNELS(c, n, finish_row, j->silu ? dx : dy,
                        j->x + k.sample * j->x_sample + r * j->x_row, dx, mean, coef, n);
        }
    }
}

static bool accepts(const nn_call *c)
{
    nn_rows rows;
    for (int i = 2; i < 6; i++)
        if (!nn_view_contiguous(&c->in[i])) return false;
    return c->in[1].dtype == NN_F32 && nn_groups_rows(&c->in[0], &rows) &&
           nn_groups_rows(&c->in[1], &rows);
}

static nn_groups groups_of(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    return nn_groups_of(&c->in[1], p->groups);
}

static size_t workspace(const nn_call *c)
{
    nn_groups g = groups_of(c);
    return (size_t)(4 * g.channels) * sizeof(double) +
           (size_t)(g.samples * (5 + 2 * g.chunks) * g.channels) * sizeof(float);
}

static nn_status run(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    nn_rows dy, x;
    NN_ASSERT(nn_groups_rows(&c->in[0], &dy) && nn_groups_rows(&c->in[1], &x));
    job j = { .g = groups_of(c),
              .dy = c->in[0].data,
              .x = c->in[1].data,
              .gamma = c->in[2].data,
              .beta = c->in[3].data,
              .mean = c->in[4].data,
              .rstd = c->in[5].data,
              .dx = c->out[0].data,
              .dgamma = c->out[1].data,
              .dbeta = c->out[2].data,
              .dy_sample = c->in[0].stride[0],
              .dy_row = dy.stride,
              .x_sample = c->in[1].stride[0],
              .x_row = x.stride,
              .silu = p->silu,
              .sum = c->workspace };
    int64_t n = j.g.channels, items = j.g.samples * j.g.chunks;
    j.total = j.sum + 2 * n;
    j.spread = (float *)(j.total + 2 * n);
    j.coef = j.spread + j.g.samples * 2 * n;
    j.partial = j.coef + j.g.samples * 3 * n;
    spread_stats(&j);
    nn_pool_for(c->pool, items, j.g.grain, p->silu ? part_silu : part_plain, &j);
    memset(j.total, 0, (size_t)(2 * n) * sizeof(double));
    for (int64_t i = 0; i < j.g.samples; i++) join(&j, i);
    for (int64_t i = 0; i < n; i++) {
        j.dgamma[i] = (float)j.total[i];
        j.dbeta[i] = (float)j.total[n + i];
    }
    nn_pool_for(c->pool, items, j.g.grain, part_finish, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(groupnorm_bwd)[] = {
    { .name = "groupnorm_bwd_f32_chunks", .accepts = accepts, .run = run, .workspace = workspace },
    { 0 }
};
