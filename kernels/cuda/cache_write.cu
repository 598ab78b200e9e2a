/* cache_write: rows copied into a cache at a place that only the device knows. */
#include "kernels/cuda/map.cuh"

enum { CACHE, ROWS, AT };

/* Where the rows go; `end` is the last place they fit at. */
struct cache_write_place {
    const int32_t *at;
    int64_t stride;
    int end;
    nn_cuda_fault *fault;
};

__device__ __forceinline__ void cache_write_one(uint4 &to, uint4 from)
{
    to = from;
}

template <class T, class U> __device__ __forceinline__ void cache_write_one(T &to, U from)
{
    to = nn_from<T>(nn_float(from));
}

/* cache_write_rows: a thread owns one element, or 16 bytes where T and U are uint4, of any strides.
 * Traffic: the rows once, their place in the cache once. Nothing is written where the rows do not
 * fit; sync then reports it. Deterministic. */
template <class T, class U>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    cache_write_rows(T *cache, const U *rows, const cache_write_place place,
                     const nn_steps<2> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    const int row = *place.at;
    if (row < 0 || row > place.end) {
        if (i == 0 &&
            atomicCAS(&place.fault->kind, NN_CUDA_FAULT_NONE, NN_CUDA_FAULT_CACHE_ROW) == 0)
            place.fault->value = row;
        return;
    }
    if (i >= steps.n) return;
    int64_t at[2];
    nn_offsets(steps, i, at);
    cache_write_one(cache[row * place.stride + at[0]], rows[at[1]]);
}

/* The view in units of 16 bytes. */
static nn_view widened(nn_view v)
{
    const int64_t width = 16 / nn_dtype_bytes(v.dtype);
    v.dim[v.rank - 1] /= width;
    for (int d = 0; d < v.rank - 1; d++) v.stride[d] /= width;
    return v;
}

static bool is_wide(const nn_view *v)
{
    const int64_t width = 16 / nn_dtype_bytes(v->dtype);
    bool fit = nn_aligned16(v) && nn_last(v, 0) % width == 0 && v->stride[v->rank - 1] == 1;
    for (int d = 0; d < v->rank - 1; d++) fit = fit && v->stride[d] % width == 0;
    return fit;
}

static bool accepts_wide(const nn_call *c)
{
    return nn_is_float(&c->in[ROWS]) && c->in[CACHE].dtype == c->in[ROWS].dtype &&
           c->in[ROWS].rank > 2 && is_wide(&c->in[CACHE]) && is_wide(&c->in[ROWS]);
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[CACHE]) && nn_is_float(&c->in[ROWS]);
}

template <class T, class U>
static nn_status run_as(const nn_call *c, const nn_view *cache, const nn_view *rows)
{
    const nn_view *const views[2] = { cache, rows };
    const nn_steps<2> steps = nn_steps_of(rows, views);
    const cache_write_place place = { .at = static_cast<const int32_t *>(c->in[AT].data),
                                      .stride = cache->stride[1],
                                      .end = (int)(cache->dim[1] - rows->dim[1]),
                                      .fault = nn_cuda_of(c)->fault };
    if (!steps.n) return NN_OK;
    return NN_LAUNCH((cache_write_rows<T, U>), (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS),
                     NN_MAP_THREADS, 0, c, static_cast<T *>(cache->data),
                     static_cast<const U *>(rows->data), place, steps);
}

static nn_status run_wide(const nn_call *c)
{
    const nn_view cache = widened(c->in[CACHE]), rows = widened(c->in[ROWS]);
    return run_as<uint4, uint4>(c, &cache, &rows);
}

static nn_status run_any(const nn_call *c)
{
    const nn_view *cache = &c->in[CACHE], *rows = &c->in[ROWS];
    NN_DISPATCH(cache->dtype, T,
                NN_DISPATCH(rows->dtype, U, return (run_as<T, U>(c, cache, rows))));
}

extern "C" const nn_kernel nn_cuda_cache_write[] = {
    { .name = "cache_write_wide", .accepts = accepts_wide, .run = run_wide },
    { .name = "cache_write_any", .accepts = accepts_any, .run = run_any },
    {}
};
