/* sum over the dims that shrink to 1. */
#include "kernels/cuda/any.cuh"
#include "kernels/cuda/columns.cuh"

constexpr int SUM_THREADS = 128;
constexpr int64_t SUM_LEAST = 64; /* rows of a chunk */

/* sum_steps: a block owns one element of the result and walks what it sums over, of any strides,
 * in a fixed order: deterministic. Traffic: x once (in whole sectors only where the last dim is
 * summed), the result once. */
template <class T>
__global__ void __launch_bounds__(SUM_THREADS)
    sum_steps(const T *x, T *y, const nn_steps<1> kept, const nn_steps<1> summed)
{
    NN_SHARED(float, scratch, SUM_THREADS / NN_WARP);
    int64_t base[1], at[1];
    float sum = 0;
    nn_offsets(kept, blockIdx.x, base);
    for (int64_t i = threadIdx.x; i < summed.n; i += SUM_THREADS) {
        nn_offsets(summed, i, at);
        sum += nn_float(x[base[0] + at[0]]);
    }
    sum = nn_block_sum<SUM_THREADS>(sum, scratch);
    if (threadIdx.x == 0) y[blockIdx.x] = nn_from<T>(sum);
}

static bool accepts(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype &&
           nn_view_contiguous(&c->out[0]);
}

/* x with its kept dims alone, or its summed ones. */
static nn_steps<1> part(const nn_view *x, const nn_view *y, bool kept)
{
    nn_view v = *x;
    for (int d = 0; d < x->rank; d++)
        if ((y->dim[d] == x->dim[d]) != kept) v.dim[d] = 1;
    const nn_view *const views[1] = { &v };
    return nn_steps_of(&v, views);
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const int64_t n = nn_view_elems(y);
    if (!n) return NN_OK;
    NN_DISPATCH(x->dtype, T,
                return NN_LAUNCH(sum_steps<T>, (unsigned)n, SUM_THREADS, 0, c,
                                 static_cast<const T *>(x->data), static_cast<T *>(y->data),
                                 part(x, y, true), part(x, y, false)));
}

/* sum_total: one element is left (any.cuh). */
struct sum_value {
    __device__ float operator()(const float (&x)[1]) const { return x[0]; }
    __device__ float total(float sum) const { return sum; }
};

static bool accepts_total(const nn_call *c)
{
    return accepts(c) && nn_view_elems(&c->out[0]) == 1;
}

static nn_status run_total(const nn_call *c)
{
    const nn_view *const x[1] = { &c->in[0] };
    return nn_any_run_total(c, sum_value{}, &c->out[0], x);
}

/* sum_columns: the dims that are summed lie in one row before those that are kept at the end
 * (columns.cuh); at most one dim is kept before them. */
static bool columns_of(const nn_call *c, nn_columns_layout *l)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const int64_t wide = 16 / nn_dtype_bytes(x->dtype);
    const nn_steps<1> kept = part(x, y, true), summed = part(x, y, false);
    const bool inner = kept.rank > 0 && kept.stride[0][kept.rank - 1] == 1;
    if (!inner || kept.rank > 2 || summed.rank != 1) return false;
    const int64_t width = kept.dim[kept.rank - 1], pieces = width / wide;
    const bool outer = kept.rank == 2;
    *l = { .outer = outer ? kept.dim[0] : 1,
           .rows = summed.n,
           .width = width,
           .outer_step = outer ? kept.stride[0][0] : 0,
           .pitch = summed.stride[0][0],
           .pieces = pieces < NN_COLUMNS_THREADS ? (int)pieces : NN_COLUMNS_THREADS,
           .slabs = 1 };
    if (width % wide || l->pitch % wide || l->outer_step % wide || !pieces) return false;
    l->slabs = (int)nn_ceil_div(pieces, l->pieces);
    const int64_t blocks = nn_ceil_div(NN_COLUMNS_BLOCKS, l->outer * l->slabs);
    const int64_t chunk = nn_ceil_div(l->rows, blocks);
    l->chunk = chunk > SUM_LEAST ? chunk : SUM_LEAST;
    l->chunks = nn_ceil_div(l->rows, l->chunk);
    return l->outer <= UINT16_MAX;
}

static bool accepts_columns(const nn_call *c)
{
    nn_columns_layout l;
    return accepts(c) && nn_aligned16(&c->in[0]) && columns_of(c, &l);
}

static size_t workspace_columns(const nn_call *c)
{
    nn_columns_layout l;
    return columns_of(c, &l) ? (size_t)(l.outer * l.chunks * l.width) * sizeof(float) : 0;
}

template <class T> static nn_status run_columns_as(const nn_call *c)
{
    nn_columns_layout l;
    const T *x = static_cast<const T *>(c->in[0].data);
    T *y = static_cast<T *>(c->out[0].data);
    float *sums = static_cast<float *>(c->workspace);
    if (!columns_of(c, &l)) return NN_OK;
    const dim3 grid((unsigned)l.chunks, (unsigned)l.slabs, (unsigned)l.outer);
    if (l.chunks == 1)
        return NN_LAUNCH((nn_columns<T, T>), grid, NN_COLUMNS_THREADS, 0, c, x, y, l);
    NN_TRY(NN_LAUNCH((nn_columns<T, float>), grid, NN_COLUMNS_THREADS, 0, c, x, sums, l));
    return nn_columns_run_join<T>(c, sums, l.outer, l.chunks, l.width, y, nullptr, l.width);
}

static nn_status run_columns(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return run_columns_as<T>(c));
}

extern "C" const nn_kernel nn_cuda_sum[] = {
    { .name = "sum_columns",
      .accepts = accepts_columns,
      .run = run_columns,
      .workspace = workspace_columns },
    { .name = "sum_total",
      .accepts = accepts_total,
      .run = run_total,
      .workspace = nn_total_workspace },
    { .name = "sum_steps", .accepts = accepts, .run = run },
    {}
};
