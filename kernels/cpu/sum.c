/* sum over any dims.
 *
 * Either the last dimension that is kept is packed in x: then whole rows are added (columns > 1);
 * or each result adds up runs of x (columns = 1). What is summed is cut into chunks by its size
 * alone, each chunk into blocks of f32 that are added up in f64, and the chunks are added in order:
 * the result does not depend on the number of threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

enum {
    STRIP = 1024,          /* columns of one item of work */
    ROWS = 16,             /* rows added in f32 */
    BLOCK = 32 * NN_LANES, /* elements of a run added in f32 */
    CHUNK_ROWS = 256,
    CHUNK_ELEMENTS = 65536,
    ENOUGH = 65536 /* results that keep the threads busy without chunks */
};

typedef struct job {
    nn_walk kept;    /* views: y, x */
    nn_walk reduced; /* views: x */
    int64_t columns, chunk, n_chunks, n_strips;
    const float *x;
    float *y;
    double *partial; /* [results / columns, n_chunks, columns] */
} job;

static job job_of(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0], *both[] = { y, x };
    nn_view part = *x; /* x restricted to what one result sums */
    for (int d = 0; d < x->rank; d++)
        if (y->dim[d] == x->dim[d]) part.dim[d] = 1;
    job j = { .kept = nn_walk_make(y, 2, both),
              .reduced = nn_walk_make(&part, 1, &x),
              .x = x->data,
              .y = y->data,
              .partial = c->workspace };
    bool rows = j.kept.n > 1 && nn_walk_inner(&j.kept, 1) == 1;
    j.columns = rows ? j.kept.dim[j.kept.rank - 1] : 1;
    j.chunk = rows ? CHUNK_ROWS : CHUNK_ELEMENTS;
    if (j.kept.n >= ENOUGH) j.chunk = nn_max(j.reduced.n, 1);
    j.n_chunks = nn_max((j.reduced.n + j.chunk - 1) / j.chunk, 1);
    j.n_strips = (j.columns + STRIP - 1) / STRIP;
    return j;
}

static void add_rows(const float *const *row, int n, int64_t width, double *sum)
{
    float lanes[NN_LANES];
    for (int64_t c = 0; c < width; c += NN_LANES) {
        int64_t m = nn_min(NN_LANES, width - c);
        nn_vf s = nn_set(0);
        if (m == NN_LANES)
            for (int i = 0; i < n; i++) s += nn_load(row[i] + c);
        else
            for (int i = 0; i < n; i++) s += nn_load_n(row[i] + c, m, 0);
        nn_store(lanes, s);
        for (int64_t i = 0; i < m; i++) sum[c + i] += (double)lanes[i];
    }
}

static void sum_columns(const job *j, const float *x, int64_t begin, int64_t end, int64_t width,
                        double *sum)
{
    const float *row[ROWS];
    int n = 0;
    int64_t step = nn_walk_inner(&j->reduced, 0);
    for (nn_run r = nn_run_first(&j->reduced, begin, end); r.n; nn_run_next(&j->reduced, &r)) {
        for (int64_t i = 0; i < r.n; i++) {
            row[n++] = x + r.at[0] + i * step;
            if (n < ROWS) continue;
            add_rows(row, n, width, sum);
            n = 0;
        }
    }
    add_rows(row, n, width, sum);
}

static double sum_block(const float *x, int64_t step, int64_t n)
{
    nn_vf s0 = nn_set(0), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        s0 += nn_load_step(x + i * step, step, NN_LANES);
        s1 += nn_load_step(x + (i + NN_LANES) * step, step, NN_LANES);
    }
    double tail = 0;
    for (; i < n; i++) tail += (double)x[i * step];
    return (double)nn_hsum(s0 + s1) + tail;
}

static double sum_runs(const job *j, const float *x, int64_t begin, int64_t end)
{
    double sum = 0;
    int64_t step = nn_walk_inner(&j->reduced, 0);
    for (nn_run r = nn_run_first(&j->reduced, begin, end); r.n; nn_run_next(&j->reduced, &r))
        for (int64_t i = 0; i < r.n; i += BLOCK)
            sum += sum_block(x + r.at[0] + i * step, step, nn_min(BLOCK, r.n - i));
    return sum;
}

/* One item: a strip of the columns of one chunk. */
static void sum_item(const job *j, int64_t item)
{
    double sum[STRIP] = { 0 };
    int64_t strip = item % j->n_strips, at = item / j->n_strips; /* result row and chunk */
    int64_t chunk = at % j->n_chunks, first = at / j->n_chunks * j->columns;
    int64_t width = nn_min(STRIP, j->columns - strip * STRIP);
    int64_t begin = chunk * j->chunk, end = nn_min(begin + j->chunk, j->reduced.n);
    const float *x = j->x + nn_run_first(&j->kept, first, first + 1).at[1] + strip * STRIP;
    if (j->columns > 1) {
        sum_columns(j, x, begin, end, width, sum);
    } else {
        sum[0] = sum_runs(j, x, begin, end);
    }
    if (j->n_chunks > 1)
        memcpy(j->partial + at * j->columns + strip * STRIP, sum, (size_t)width * sizeof(*sum));
    else
        for (int64_t i = 0; i < width; i++) j->y[first + strip * STRIP + i] = (float)sum[i];
}

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    for (int64_t i = begin; i < end; i++) sum_item(ctx, i);
}

static void join_chunks(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    for (int64_t i = begin; i < end; i++) {
        const double *p = j->partial + i / j->columns * j->n_chunks * j->columns + i % j->columns;
        double sum = 0;
        for (int64_t k = 0; k < j->n_chunks; k++) sum += p[k * j->columns];
        j->y[i] = (float)sum;
    }
}

static bool accepts(const nn_call *c)
{
    return c->in[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

static size_t workspace(const nn_call *c)
{
    job j = job_of(c);
    return j.n_chunks > 1 ? (size_t)(j.kept.n * j.n_chunks) * sizeof(double) : 0;
}

static nn_status run(const nn_call *c)
{
    job j = job_of(c);
    int64_t items = j.kept.n / j.columns * j.n_chunks * j.n_strips;
    int64_t cost = nn_min(j.reduced.n, j.chunk) * nn_min(j.columns, STRIP);
    nn_pool_for(c->pool, items, nn_max(1, NN_WALK_GRAIN / nn_max(cost, 1)), part, &j);
    if (j.n_chunks > 1) nn_pool_for(c->pool, j.kept.n, 64, join_chunks, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(sum)[] = {
    { .name = "sum_f32_chunks", .accepts = accepts, .workspace = workspace, .run = run }, { 0 }
};
