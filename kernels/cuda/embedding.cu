/* embedding and its gradient. An id outside the table is a fault; its row is zero. */
#include "kernels/cuda/map.cuh"

__device__ __forceinline__ bool embedding_known(int id, int64_t rows, nn_cuda_fault *fault)
{
    if (id >= 0 && id < rows) return true;
    if (atomicCAS(&fault->kind, (int)NN_CUDA_FAULT_NONE, (int)NN_CUDA_FAULT_EMBEDDING_ID) ==
        NN_CUDA_FAULT_NONE)
        fault->value = id;
    return false;
}

struct embedding_table {
    int64_t rows, width;           /* width in elements */
    int64_t row_step, column_step; /* elements */
};

/* A thread owns W neighbouring elements of the result (16 bytes, or one where rows cannot be read
 * so). Traffic: rows read, result written, once. */
template <class T, int W>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    embedding_gather(const int *ids, const nn_steps<1> steps, const T *table,
                     const embedding_table t, T *y, nn_cuda_fault *fault)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x, pieces = t.width / W;
    const int64_t place = i / pieces, column = (i - place * pieces) * W;
    if (place >= steps.n) return;
    int64_t at[1];
    nn_offsets(steps, place, at);
    const int id = ids[at[0]];
    nn_vec<T, W> v;
#pragma unroll
    for (int k = 0; k < W; k++) v.at[k] = nn_from<T>(0.0f);
    if (embedding_known(id, t.rows, fault))
        v = nn_load<W>(table + id * t.row_step + column * t.column_step);
    nn_store(y + i * W, v);
}

constexpr int EMBEDDING_THREADS = 256, EMBEDDING_WARPS = EMBEDDING_THREADS / NN_WARP;

/* embedding_bwd_owner: the first place of an id owns its row of the gradient, which has been
 * zeroed: a block of a later place leaves. A warp adds up every 8th place of the id, a lane W
 * columns; the eight sums are joined in order. Steps: ids, dy. Traffic: ids once per block, from
 * the cache; dy and the rows that occur once. f32 sums, deterministic. */
template <class T, int W>
__global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_bwd_owner(const T *dy, const int *ids, const nn_steps<2> steps,
                        const embedding_table t, float *dtable, nn_cuda_fault *fault)
{
    constexpr int TILE = NN_WARP * W, STRIDE = NN_WARP + NN_WARP / W; /* neighbours share no bank */
    NN_SHARED(float, sums, EMBEDDING_WARPS *W *STRIDE);
    NN_SHARED(unsigned, found, EMBEDDING_WARPS);
    const int place = (int)blockIdx.x, n = (int)steps.n;
    const int64_t column = (int64_t)blockIdx.y * TILE + nn_lane() * W;
    int64_t at[2];
    nn_offsets(steps, place, at);
    const int id = ids[at[0]];
    if (!embedding_known(id, t.rows, fault)) return;

    int before = 0;
    for (int i = (int)threadIdx.x; i < place; i += EMBEDDING_THREADS) {
        nn_offsets(steps, i, at);
        before |= ids[at[0]] == id;
    }
    if (__syncthreads_or(before)) return;

    float sum[W] = {};
    for (int tile = place; tile < n; tile += EMBEDDING_THREADS) {
        const int i = tile + (int)threadIdx.x;
        if (i < n) nn_offsets(steps, i, at);
        const unsigned mine = __ballot_sync(NN_ALL_LANES, i < n && ids[at[0]] == id);
        if (nn_lane() == 0) found[nn_warp()] = mine;
        __syncthreads();
        int turn = 0;
        for (int w = 0; w < EMBEDDING_WARPS; w++) {
            for (unsigned left = found[w]; left; left &= left - 1) {
                if (turn++ % EMBEDDING_WARPS != nn_warp() || column >= t.width) continue;
                nn_offsets(steps, tile + w * NN_WARP + __ffs((int)left) - 1, at);
                const nn_vec<T, W> v = nn_load<W>(dy + at[1] + column * t.column_step);
#pragma unroll
                for (int k = 0; k < W; k++) sum[k] += nn_float(v.at[k]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < W; k++) sums[(nn_warp() * W + k) * STRIDE + nn_lane()] = sum[k];
    __syncthreads();
    const int64_t first = (int64_t)blockIdx.y * TILE;
    for (int k = (int)threadIdx.x; k < TILE && first + k < t.width; k += EMBEDDING_THREADS) {
        float all = 0;
#pragma unroll
        for (int w = 0; w < EMBEDDING_WARPS; w++) all += sums[(w * W + k % W) * STRIDE + k / W];
        dtable[id * t.width + first + k] = all;
    }
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[1]) && c->in[0].dtype == NN_I32 &&
           c->in[1].dtype == c->out[0].dtype && nn_view_contiguous(&c->out[0]);
}

/* Rows of a view can be read by pieces of 16 bytes, wherever they begin. */
static bool wide_rows(const nn_view *v)
{
    const int64_t wide = 16 / nn_dtype_bytes(v->dtype);
    bool fit = nn_aligned16(v) && nn_view_packed_from(v, v->rank - 1) && nn_last(v, 0) % wide == 0;
    for (int d = 0; d + 1 < v->rank; d++) fit = fit && v->stride[d] % wide == 0;
    return fit;
}

static bool accepts_wide(const nn_call *c)
{
    return accepts_any(c) && wide_rows(&c->in[1]) && nn_aligned16(&c->out[0]);
}

template <class T, int W> static nn_status gather_as(const nn_call *c)
{
    const nn_view *ids = &c->in[0], *table = &c->in[1];
    const nn_view *const views[1] = { ids };
    const nn_steps<1> steps = nn_steps_of(ids, views);
    const embedding_table t = { table->dim[0], table->dim[1], table->stride[0], table->stride[1] };
    const int64_t pieces = steps.n * (t.width / W);
    if (!pieces) return NN_OK;
    return NN_LAUNCH((embedding_gather<T, W>), (unsigned)nn_ceil_div(pieces, NN_MAP_THREADS),
                     NN_MAP_THREADS, 0, c, static_cast<const int *>(ids->data), steps,
                     static_cast<const T *>(table->data), t, static_cast<T *>(c->out[0].data),
                     nn_cuda_of(c)->fault);
}

static nn_status run_wide(const nn_call *c)
{
    NN_DISPATCH(c->in[1].dtype, T, return (gather_as<T, nn_wide<T>>(c)));
}

static nn_status run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[1].dtype, T, return (gather_as<T, 1>(c)));
}

static bool accepts_bwd_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[1].dtype == NN_I32 && c->out[0].dtype == NN_F32 &&
           nn_view_contiguous(&c->out[0]) && nn_view_elems(&c->in[1]) < INT32_MAX;
}

static bool accepts_bwd_wide(const nn_call *c)
{
    return accepts_bwd_any(c) && wide_rows(&c->in[0]);
}

template <class T, int W> static nn_status scatter_as(const nn_call *c)
{
    const nn_view *ids = &c->in[1], *dy = &c->in[0], *dtable = &c->out[0];
    nn_view places = *dy;
    places.rank = ids->rank;
    const nn_view *const views[2] = { ids, &places };
    const nn_steps<2> steps = nn_steps_of(ids, views);
    const embedding_table t = { dtable->dim[0], dtable->dim[1], 0, dy->stride[dy->rank - 1] };
    if (!nn_view_elems(dtable)) return NN_OK;
    if (nn_cuda_may_start(c))
        NN_TRY(nn_cuda_status(
            cudaMemsetAsync(dtable->data, 0, (size_t)nn_view_bytes(dtable), nn_cuda_of(c)->stream),
            "embedding_bwd"));
    if (!steps.n) return NN_OK;
    const dim3 grid((unsigned)steps.n, (unsigned)nn_ceil_div(t.width, NN_WARP * W));
    return NN_LAUNCH((embedding_bwd_owner<T, W>), grid, EMBEDDING_THREADS, 0, c,
                     static_cast<const T *>(dy->data), static_cast<const int *>(ids->data), steps,
                     t, static_cast<float *>(dtable->data), nn_cuda_of(c)->fault);
}

static nn_status run_bwd_wide(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (scatter_as<T, nn_wide<T>>(c)));
}

static nn_status run_bwd_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (scatter_as<T, 1>(c)));
}

extern "C" const nn_kernel nn_cuda_embedding[] = {
    { .name = "embedding_wide", .accepts = accepts_wide, .run = run_wide },
    { .name = "embedding_any", .accepts = accepts_any, .run = run_any },
    {}
};
extern "C" const nn_kernel nn_cuda_embedding_bwd[] = {
    { .name = "embedding_bwd_wide", .accepts = accepts_bwd_wide, .run = run_bwd_wide },
    { .name = "embedding_bwd_any", .accepts = accepts_bwd_any, .run = run_bwd_any },
    {}
};
