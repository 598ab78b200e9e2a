/* groupnorm: statistics of chunks of rows, joined by Chan's formula; then one pass that normalises.
 *
 * A chunk sums x - shift and its square per channel, with the mean of its first rows as shift, so
 * that mean >> deviation costs no accuracy; channels are folded into groups in f64. x is read
 * twice, y written once. */
#include "kernels/cpu/groupnorm.h"

#include <math.h>

enum { ROWS = 8 }; /* added before the sums are touched again */

typedef struct job {
    nn_groups g;
    const float *x, *gamma, *beta;
    float *y, *mean, *rstd;
    int64_t x_sample, x_row;
    double eps;
    bool silu;
    double *stat;   /* [samples, chunks, groups, 2]: mean, sum of squared differences from it */
    float *affine;  /* [samples, 3, channels]: y = (x - first) * second + third */
    float *scratch; /* [threads, 3, channels]: shift, sums of x - shift and of its square */
} job;

NN_INLINE void shift_of(const float *x, int64_t stride, int64_t rows, float *shift, int64_t c,
                        int64_t m)
{
    nn_vf sum = nn_set(0);
    for (int64_t r = 0; r < rows; r++) sum += nn_take(x + r * stride + c, m);
    nn_give(shift + c, sum * (1.0f / (float)rows), m);
}

NN_INLINE void add_block(const float *x, int64_t stride, int64_t rows, float *shift,
                         int64_t channels, int64_t c, int64_t m)
{
    nn_vf sum = nn_set(0), squares = sum, k = nn_take(shift + c, m);
    for (int64_t r = 0; r < rows; r++) {
        nn_vf d = nn_take(x + r * stride + c, m) - k;
        sum += d;
        squares += d * d;
    }
    float *s = shift + channels + c, *q = s + channels;
    nn_give(s, nn_take(s, m) + sum, m);
    nn_give(q, nn_take(q, m) + squares, m);
}

/* Mean and squared differences per group, from those per channel. */
static void fold(const nn_groups *g, const float *shift, int64_t rows, double *stat)
{
    const float *s = shift + g->channels, *q = s + g->channels;
    double n = (double)rows, inverse = 1 / n;
    for (int64_t k = 0; k < g->groups; k++, stat += 2) {
        double mean = 0, squares = 0;
        for (int64_t c = k * g->wide; c < (k + 1) * g->wide; c++)
            mean += (double)shift[c] + (double)s[c] * inverse;
        mean /= (double)g->wide;
        for (int64_t c = k * g->wide; c < (k + 1) * g->wide; c++) {
            double rest = (double)s[c] * inverse, off = (double)shift[c] + rest - mean;
            squares += (double)q[c] - (double)s[c] * rest + n * off * off;
        }
        stat[0] = mean;
        stat[1] = squares;
    }
}

static void part_stat(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    const nn_groups *g = &j->g;
    float *shift = j->scratch + thread * 3 * g->channels;
    for (int64_t item = begin; item < end; item++) {
        nn_chunk k = nn_chunk_at(g, item);
        const float *x = j->x + k.sample * j->x_sample + k.begin * j->x_row;
        int64_t rows = k.end - k.begin, r = 0;
        NN_CHANNELS(c, g->channels, shift_of, x, j->x_row, nn_min(rows, ROWS), shift);
        memset(shift + g->channels, 0, (size_t)(2 * g->channels) * sizeof(float));
        for (; r + ROWS <= rows; r += ROWS)
            NN_CHANNELS(c, g->channels, add_block, x + r * j->x_row, j->x_row, ROWS, shift,
                        g->channels);
        if (r < rows)
            NN_CHANNELS(c, g->channels, add_block, x + r * j->x_row, j->x_row, rows - r, shift,
                        g->channels);
        fold(g, shift, rows, j->stat + item * g->groups * 2);
    }
}

/* The statistics of one group, from those of its chunks. */
static void join(const job *j, int64_t sample, int64_t group)
{
    const nn_groups *g = &j->g;
    const double *stat = j->stat + (sample * g->chunks * g->groups + group) * 2;
    double mean = 0, squares = 0, n = 0;
    for (int64_t k = 0; k < g->chunks; k++, stat += g->groups * 2) {
        double m = (double)((nn_min((k + 1) * g->chunk, g->rows) - k * g->chunk) * g->wide);
        double off = stat[0] - mean;
        mean += off * m / (n + m);
        squares += stat[1] + off * off * n * m / (n + m);
        n += m;
    }
    double rstd = 1 / sqrt(fmax(squares / n, 0) + j->eps);
    float first = (float)mean, *affine = j->affine + sample * 3 * g->channels;
    j->mean[sample * g->groups + group] = first;
    j->rstd[sample * g->groups + group] = (float)rstd;
    for (int64_t c = group * g->wide; c < (group + 1) * g->wide; c++) {
        double scale = rstd * (double)j->gamma[c];
        affine[c] = first;
        affine[g->channels + c] = (float)scale;
        affine[2 * g->channels + c] = (float)((double)j->beta[c] - (mean - (double)first) * scale);
    }
}

NN_INLINE void apply(const float *x, float *y, const float *affine, int64_t channels, bool silu,
                     int64_t c, int64_t m)
{
    nn_vf z = (nn_take(x + c, m) - nn_take(affine + c, m)) * nn_take(affine + channels + c, m) +
              nn_take(affine + 2 * channels + c, m);
    nn_give(y + c, silu ? nn_vsilu(z) : z, m);
}

NN_INLINE void normalise(const job *j, int64_t begin, int64_t end, bool silu)
{
    const nn_groups *g = &j->g;
    for (int64_t item = begin; item < end; item++) {
        nn_chunk k = nn_chunk_at(g, item);
        const float *affine = j->affine + k.sample * 3 * g->channels;
        for (int64_t r = k.begin; r < k.end; r++)
            NN_CHANNELS(c, g->channels, apply, j->x + k.sample * j->x_sample + r * j->x_row,
                        j->y + (k.sample * g->rows + r) * g->channels, affine, g->channels, silu);
    }
}

static void part_plain(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    normalise(ctx, begin, end, false);
}

static void part_silu(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    normalise(ctx, begin, end, true);
}

static bool accepts(const nn_call *c)
{
    nn_rows rows;
    return c->in[0].dtype == NN_F32 && nn_groups_rows(&c->in[0], &rows) &&
           nn_view_contiguous(&c->in[1]) && nn_view_contiguous(&c->in[2]);
}

static nn_groups groups_of(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    return nn_groups_of(&c->in[0], p->groups);
}

static size_t workspace(const nn_call *c)
{
    nn_groups g = groups_of(c);
    return (size_t)(g.samples * g.chunks * g.groups * 2) * sizeof(double) +
           (size_t)((g.samples + nn_pool_threads(c->pool)) * 3 * g.channels) * sizeof(float);
}

static nn_status run(const nn_call *c)
{
    const nn_groupnorm_params *p = c->params;
    nn_rows rows;
    NN_ASSERT(nn_groups_rows(&c->in[0], &rows));
    job j = { .g = groups_of(c),
              .x = c->in[0].data,
              .gamma = c->in[1].data,
              .beta = c->in[2].data,
              .y = c->out[0].data,
              .mean = c->out[1].data,
              .rstd = c->out[2].data,
              .x_sample = c->in[0].stride[0],
              .x_row = rows.stride,
              .eps = p->eps,
              .silu = p->silu,
              .stat = c->workspace };
    int64_t items = j.g.samples * j.g.chunks;
    j.affine = (float *)(j.stat + items * j.g.groups * 2);
    j.scratch = j.affine + j.g.samples * 3 * j.g.channels;
    nn_pool_for(c->pool, items, j.g.grain, part_stat, &j);
    for (int64_t i = 0; i < j.g.samples * j.g.groups; i++) join(&j, i / j.g.groups, i % j.g.groups);
    nn_pool_for(c->pool, items, j.g.grain, p->silu ? part_silu : part_plain, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(groupnorm)[] = {
    { .name = "groupnorm_f32_chunks", .accepts = accepts, .run = run, .workspace = workspace },
    { 0 }
};
