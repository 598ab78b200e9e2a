/* copy: packs views and converts between f32 and bf16.
 *
 * A view whose memory runs along another dimension than the result's is copied in square tiles, so
 * that both sides touch whole cache lines. */
#include "engine/base/half.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

enum { TILE = 16 };

typedef struct job {
    nn_walk walk; /* views: y, x; along the tiles when there are tiles: their first elements */
    void *y;
    const void *x;
    int64_t rows, columns; /* of a plane of tiles: x runs along the rows, y along the columns */
    int64_t y_step, x_step;
} job;

static void part_b32(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t step = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        uint32_t *y = (uint32_t *)j->y + r.at[0];
        const uint32_t *x = (const uint32_t *)j->x + r.at[1];
        if (step == 1)
            memcpy(y, x, (size_t)r.n * sizeof(*y));
        else
            for (int64_t i = 0; i < r.n; i++) y[i] = x[i * step];
    }
}

static void part_to_bf16(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t step = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        uint16_t *y = (uint16_t *)j->y + r.at[0];
        const float *x = (const float *)j->x + r.at[1];
        if (step == 1)
            for (int64_t i = 0; i < r.n; i++) y[i] = nn_f32_to_bf16(x[i]);
        else
            for (int64_t i = 0; i < r.n; i++) y[i] = nn_f32_to_bf16(x[i * step]);
    }
}

static void part_from_bf16(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t step = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        float *y = (float *)j->y + r.at[0];
        const uint16_t *x = (const uint16_t *)j->x + r.at[1];
        if (step == 1)
            for (int64_t i = 0; i < r.n; i++) y[i] = nn_bf16_to_f32(x[i]);
        else
            for (int64_t i = 0; i < r.n; i++) y[i] = nn_bf16_to_f32(x[i * step]);
    }
}

static job job_of(const nn_call *c)
{
    const nn_view *views[] = { &c->out[0], &c->in[0] };
    return (
        job){ .walk = nn_walk_make(views[0], 2, views), .y = c->out[0].data, .x = c->in[0].data };
}

static nn_status run_runs(const nn_call *c, nn_pool_fn *part)
{
    job j = job_of(c);
    nn_pool_for(c->pool, j.walk.n, NN_WALK_GRAIN, part, &j);
    return NN_OK;
}

static nn_status run_b32(const nn_call *c)
{
    return run_runs(c, part_b32);
}

static nn_status run_to_bf16(const nn_call *c)
{
    return run_runs(c, part_to_bf16);
}

static nn_status run_from_bf16(const nn_call *c)
{
    return run_runs(c, part_from_bf16);
}

/* y[i][k] = x[k][i], through a tile that no stride can throw out of the cache. */
static void transpose_tile(const job *j, uint32_t *y, const uint32_t *x, int64_t rows,
                           int64_t columns)
{
    uint32_t tile[TILE][TILE + 1];
    for (int64_t k = 0; k < columns; k++)
        for (int64_t i = 0; i < rows; i++) tile[k][i] = x[k * j->x_step + i];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++) y[i * j->y_step + k] = tile[k][i];
}

static void part_tiles(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t bands = (j->rows + TILE - 1) / TILE;
    for (int64_t item = begin; item < end; item++) {
        nn_run plane = nn_run_first(&j->walk, item / bands, item / bands + 1);
        int64_t i = item % bands * TILE, rows = nn_min(TILE, j->rows - i);
        uint32_t *y = (uint32_t *)j->y + plane.at[0] + i * j->y_step;
        const uint32_t *x = (const uint32_t *)j->x + plane.at[1] + i;
        for (int64_t k = 0; k < j->columns; k += TILE) {
            if (rows == TILE && k + TILE <= j->columns)
                transpose_tile(j, y + k, x + k * j->x_step, TILE, TILE);
            else
                transpose_tile(j, y + k, x + k * j->x_step, rows, nn_min(TILE, j->columns - k));
        }
    }
}

/* The dim along which x runs, if it is not the last; -1 otherwise. */
static int run_dim(const nn_walk *w)
{
    if (nn_walk_inner(w, 1) == 1) return -1;
    for (int d = 0; d < w->rank - 1; d++)
        if (w->stride[1][d] == 1) return d;
    return -1;
}

static nn_status run_tiles(const nn_call *c)
{
    job j = job_of(c);
    nn_walk *w = &j.walk;
    int along = run_dim(w), last = w->rank - 1;
    j.rows = w->dim[along];
    j.columns = w->dim[last];
    j.y_step = w->stride[0][along];
    j.x_step = w->stride[1][last];
    w->dim[along] = w->dim[last] = 1; /* what remains walks over the planes */
    w->n /= nn_max(j.rows * j.columns, 1);
    nn_pool_for(c->pool, w->n * ((j.rows + TILE - 1) / TILE),
                nn_max(1, NN_WALK_GRAIN / (TILE * nn_max(j.columns, 1))), part_tiles, &j);
    return NN_OK;
}

static bool accepts_b32(const nn_call *c)
{
    return c->in[0].dtype == c->out[0].dtype && nn_dtype_bytes(c->in[0].dtype) == 4 &&
           nn_view_contiguous(&c->out[0]);
}

static bool accepts_tiles(const nn_call *c)
{
    job j = job_of(c);
    return accepts_b32(c) && run_dim(&j.walk) >= 0;
}

static bool accepts_to_bf16(const nn_call *c)
{
    return c->in[0].dtype == NN_F32 && c->out[0].dtype == NN_BF16 && nn_view_contiguous(&c->out[0]);
}

static bool accepts_from_bf16(const nn_call *c)
{
    return c->in[0].dtype == NN_BF16 && c->out[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

const nn_kernel NN_CPU_NAME(copy)[] = {
    { .name = "copy_b32_tiles", .accepts = accepts_tiles, .run = run_tiles },
    { .name = "copy_b32_runs", .accepts = accepts_b32, .run = run_b32 },
    { .name = "copy_bf16_runs", .accepts = accepts_to_bf16, .run = run_to_bf16 },
    { .name = "copy_f32_runs", .accepts = accepts_from_bf16, .run = run_from_bf16 },
    { 0 }
};
