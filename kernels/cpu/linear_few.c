/* linear of few rows.
 *
 * linear_f32_few: such a product is as fast as its weights can be read, so they are read once, from
 * the first to the last, as they are published; lanes run along a row. Nothing is packed.
 *
 * linear_bf16_few: the same with operands rounded to bf16, half as many bytes. The weights are
 * rounded once into packed memory. */
#include "kernels/cpu/linear_few.h"

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/rows.h"

enum { X, W, B, RESIDUAL };
enum {
    MOST_ROWS = 8,
    PARALLEL = 1 << 16 /* products that are worth a thread */
};

/* Dot products of a row of w with n rows of x. */
typedef void dots_fn(int n, const float *w, const float *const x[], int64_t depth,
                     float out[MOST_ROWS]);

/* A row is `depth` lanes: elements, or pairs of bf16. */
typedef struct job {
    const nn_call *c;
    int64_t rows, depth, w_stride;
    const float *x[MOST_ROWS], *w;
    const float *residual[MOST_ROWS]; /* NULL = none; may be the rows of y */
    float *y[MOST_ROWS];
    dots_fn *dots;
} job;

/* A dots_fn of n as a constant, so that the sums stay in registers: one for each row, added up in
 * an order that n does not change. add(sum, a, b) adds the product of two vectors. */
#define DEFINE_TILE(name, function, add)                                                           \
    function void name(int n, const float *w, const float *const x[], int64_t depth, float *out)   \
    {                                                                                              \
        nn_vf acc[MOST_ROWS];                                                                      \
        int64_t d = 0;                                                                             \
        for (int i = 0; i < n; i++) acc[i] = nn_set(0);                                            \
        for (; d + NN_LANES <= depth; d += NN_LANES) {                                             \
            nn_vf a = nn_load(w + d);                                                              \
            for (int i = 0; i < n; i++) acc[i] = add(acc[i], a, nn_load(x[i] + d));                \
        }                                                                                          \
        if (d < depth) {                                                                           \
            nn_vf a = nn_load_n(w + d, depth - d, 0);                                              \
            for (int i = 0; i < n; i++)                                                            \
                acc[i] = add(acc[i], a, nn_load_n(x[i] + d, depth - d, 0));                        \
        }                                                                                          \
        for (int i = 0; i < n; i++) out[i] = nn_hsum(acc[i]);                                      \
    }

#define CASE(tile, n)                                                                              \
    case n:                                                                                        \
        tile(n, w, x, depth, out);                                                                 \
        break;
#define CASES(tile)                                                                                \
    switch (n) {                                                                                   \
        CASE(tile, 1)                                                                              \
        CASE(tile, 2)                                                                              \
        CASE(tile, 3)                                                                              \
        CASE(tile, 4)                                                                              \
        CASE(tile, 5)                                                                              \
        CASE(tile, 6)                                                                              \
        CASE(tile, 7)                                                                              \
        CASE(tile, 8)                                                                              \
    }

NN_INLINE nn_vf add_f32(nn_vf sum, nn_vf a, nn_vf b)
{
    return sum + a * b;
}

DEFINE_TILE(tile_f32, NN_INLINE, add_f32)

static void dots_f32(int n, const float *w, const float *const x[], int64_t depth,
                     float out[MOST_ROWS])
{
    CASES(tile_f32)
}

/* Columns [begin, end) of y. */
static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    const nn_view *b = &j->c->in[B];
    (void)thread;
    for (int64_t at = begin; at < end; at++) {
        float out[MOST_ROWS], bias = nn_present(b) ? ((const float *)b->data)[at] : 0;
        j->dots((int)j->rows, j->w + at * j->w_stride, j->x, j->depth, out);
        for (int64_t i = 0; i < j->rows; i++)
            j->y[i][at] = out[i] + bias + (j->residual[i] ? j->residual[i][at] : 0);
    }
}

static int64_t rows_of(const nn_view *v)
{
    return nn_view_elems(v) / nn_last(v, 0);
}

static const float *row_at(const nn_view *v, int64_t i)
{
    return (const float *)v->data + nn_row_offset(v, v->rank - 1, i);
}

static void run(job *j)
{
    const nn_view *y = &j->c->out[0], *residual = &j->c->in[RESIDUAL];
    for (int64_t i = 0; i < j->rows; i++) {
        j->y[i] = (float *)row_at(y, i);
        if (nn_present(residual)) j->residual[i] = row_at(residual, i);
    }
    nn_pool_for(j->c->pool, nn_last(y, 0), PARALLEL / (j->rows * j->depth) + 1, part, j);
}

bool NN_CPU_NAME(linear_few_accepts)(const nn_call *c)
{
    const nn_view *b = &c->in[B], *residual = &c->in[RESIDUAL];
    return nn_rows_f32(&c->in[X]) && nn_rows_f32(&c->in[W]) && nn_rows_f32(&c->out[0]) &&
           nn_view_elems(&c->in[X]) > 0 && rows_of(&c->in[X]) <= MOST_ROWS &&
           (!nn_present(b) || nn_packed_f32(b)) && (!nn_present(residual) || nn_rows_f32(residual));
}

nn_status NN_CPU_NAME(linear_few_run)(const nn_call *c)
{
    const nn_view *x = &c->in[X], *w = &c->in[W];
    job j = { .c = c,
              .rows = rows_of(x),
              .depth = w->dim[1],
              .w_stride = w->stride[0],
              .w = w->data,
              .dots = dots_f32 };
    for (int64_t i = 0; i < j.rows; i++) j.x[i] = row_at(x, i);
    run(&j);
    return NN_OK;
}

#ifdef NN_CPU_BF16

NN_BF16_INLINE nn_vf add_bf16(nn_vf sum, nn_vf a, nn_vf b)
{
    return nn_dot_pairs(sum, (nn_vi)a, (nn_vi)b);
}

DEFINE_TILE(tile_bf16, NN_BF16_INLINE, add_bf16)

NN_BF16_TARGET static void dots_bf16(int n, const float *w, const float *const x[], int64_t depth,
                                     float out[MOST_ROWS])
{
    CASES(tile_bf16)
}

static int64_t row_pairs(const nn_call *c)
{
    return (c->in[W].dim[1] + 1) / 2;
}

static void pack_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        nn_pack_pairs(row_at(&c->in[W], i), c->in[W].dim[1],
                      (int32_t *)c->packed + i * row_pairs(c));
}

bool NN_CPU_NAME(linear_few_bf16_accepts)(const nn_call *c)
{
    return c->frozen && c->arithmetic == NN_BF16 && __builtin_cpu_supports("avx512bf16") &&
           NN_CPU_NAME(linear_few_accepts)(c);
}

nn_status NN_CPU_NAME(linear_few_bf16_prepare)(nn_call *c)
{
    size_t row = (size_t)row_pairs(c) * sizeof(int32_t);
    c->packed_bytes = (size_t)c->in[W].dim[0] * row;
    c->packed_in = 1u << W;
    c->workspace_bytes = (size_t)rows_of(&c->in[X]) * row;
    return NN_OK;
}

nn_status NN_CPU_NAME(linear_few_bf16_pack)(const nn_call *c)
{
    nn_pool_for(c->pool, c->in[W].dim[0], PARALLEL / row_pairs(c) + 1, pack_range, (void *)c);
    return NN_OK;
}

nn_status NN_CPU_NAME(linear_few_bf16_run)(const nn_call *c)
{
    const nn_view *x = &c->in[X], *w = &c->in[W];
    int64_t pairs = row_pairs(c);
    job j = { .c = c,
              .rows = rows_of(x),
              .depth = pairs,
              .w_stride = pairs,
              .w = c->packed,
              .dots = dots_bf16 };
    for (int64_t i = 0; i < j.rows; i++) {
        int32_t *to = (int32_t *)c->workspace + i * pairs;
        nn_pack_pairs(row_at(x, i), w->dim[1], to);
        j.x[i] = (const float *)to;
    }
    run(&j);
    return NN_OK;
}

#endif
