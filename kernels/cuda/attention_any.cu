/* Attention of any strides and head size, forward and backward: the kernels at the end of the
 * lists, and the row statistics that every backward pass begins with.
 *
 * A warp owns one row of the result: a query, or in attention_any_dkv a key. It walks over the
 * other side 32 rows at a time: a lane computes the scores of one of them, then the lanes share out
 * the head's columns and add the 32 rows in order. Heads wider than ANY_SPAN columns are
 * given to several warps, each of which computes the scores again. Traffic: from memory each
 * operand about once, from the caches K and V (Q, dY) once per row. f32 accumulation;
 * deterministic; no shared memory. */
#include "kernels/cuda/attention.cuh"

enum {
    ANY_WARPS = 4,
    ANY_THREADS = ANY_WARPS * NN_WARP,
    ANY_OWN = 8,                 /* columns of a lane */
    ANY_SPAN = ANY_OWN * NN_WARP /* of a warp */
};

template <class T>
__device__ __forceinline__ float attention_any_dot(const T *x, int64_t dx, const T *y, int64_t dy,
                                                   int n)
{
    float sum = 0;
    for (int d = 0; d < n; d++) sum += nn_float(x[d * dx]) * nn_float(y[d * dy]);
    return sum;
}

/* acc[c] += sum over the lanes' weights of weight * row, for this lane's columns */
template <class T>
__device__ __forceinline__ void attention_any_add(float (&acc)[ANY_OWN], float weight,
                                                  const attn_rows<T> &r, T *rows, int column,
                                                  int depth)
{
    for (int n = 0; n < NN_WARP; n++) {
        const float w = __shfl_sync(NN_ALL_LANES, weight, n);
        if (w == 0) continue;
#pragma unroll
        for (int c = 0; c < ANY_OWN; c++) {
            const int d = column + c * NN_WARP;
            if (d < depth) acc[c] += w * nn_float(rows[n * r.token + d * r.depth]);
        }
    }
}

template <class T>
__device__ __forceinline__ void attention_any_put(const attn_rows<T> &r, T *row, int column,
                                                  int depth, float factor,
                                                  const float (&acc)[ANY_OWN])
{
#pragma unroll
    for (int c = 0; c < ANY_OWN; c++) {
        const int d = column + c * NN_WARP;
        if (d < depth) row[d * r.depth] = nn_from<T>(factor * acc[c]);
    }
}

/* The row of a warp. */
struct attention_any_at {
    int b, h, t;
    int column; /* of this lane, the first */
    bool in;
};

__device__ __forceinline__ attention_any_at attention_any_locate(const attn_shape &a, int tokens)
{
    const int64_t row = (int64_t)blockIdx.x * ANY_WARPS + nn_warp();
    const int64_t head = row / tokens;
    attention_any_at at;
    at.t = (int)(row - head * tokens);
    at.b = (int)(head / a.heads);
    at.h = (int)(head - (int64_t)at.b * a.heads);
    at.column = (int)blockIdx.y * ANY_SPAN + nn_lane();
    at.in = at.b < a.batch;
    return at;
}

template <class T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_any(const attn_shape a, const attn_rows<const T> q, const attn_rows<const T> k,
                  const attn_rows<const T> v, const attn_rows<T> y, const attn_lse lse)
{
    const attention_any_at at = attention_any_locate(a, a.n_q);
    if (!at.in) return;
    const T *own = attn_row(q, at.b, at.h, at.t);
    const int reach = attn_reach(a, at.t);
    float acc[ANY_OWN] = {}, most = -INFINITY, sum = 0;
    for (int key = 0; key < reach; key += NN_WARP) {
        const int j = key + nn_lane();
        float s = -INFINITY;
        if (j < reach && attn_key_on(a, at.b, j))
            s = a.scale2 *
                attention_any_dot(own, q.depth, attn_row(k, at.b, at.h, j), k.depth, a.depth);
        const float next = fmaxf(most, nn_warp_max(s));
        if (next == -INFINITY) continue;
        const float p = exp2f(s - next), factor = exp2f(most - next);
        most = next;
        sum = sum * factor + nn_warp_sum(p);
#pragma unroll
        for (int c = 0; c < ANY_OWN; c++) acc[c] *= factor;
        attention_any_add(acc, p, v, attn_row(v, at.b, at.h, key), at.column, a.depth);
    }
    attention_any_put(y, attn_row(y, at.b, at.h, at.t), at.column, a.depth,
                      sum == 0 ? 0.0f : 1.0f / sum, acc);
    if (blockIdx.y == 0 && nn_lane() == 0)
        lse.x[at.b * lse.sample + at.h * lse.head + at.t * lse.token] =
            sum == 0 ? -INFINITY : most * ATTN_LN2 + logf(sum);
}

/* attention_stats: a warp owns one query. Traffic: dy and y once, 8 bytes written. */
template <class T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_stats(const attn_shape a, const attn_rows<const T> dy, const attn_rows<const T> y,
                    const attn_lse lse, attn_stat *stat)
{
    const int rows = attn_stat_rows(a.n_q);
    const attention_any_at at = attention_any_locate(a, rows);
    if (!at.in) return;
    attn_stat own = { INFINITY, 0.0f };
    if (at.t < a.n_q) {
        const T *g = attn_row(dy, at.b, at.h, at.t), *x = attn_row(y, at.b, at.h, at.t);
        float sum = 0;
        for (int d = nn_lane(); d < a.depth; d += NN_WARP)
            sum += nn_float(g[d * dy.depth]) * nn_float(x[d * y.depth]);
        own.delta = nn_warp_sum(sum);
        const float l = lse.x[at.b * lse.sample + at.h * lse.head + at.t * lse.token];
        if (l != -INFINITY) own.lse2 = l * ATTN_LOG2E;
    }
    if (nn_lane() == 0) stat[((int64_t)at.b * a.heads + at.h) * rows + at.t] = own;
}

/* p of a pair that sees each other, and ds = p * (dy v - delta). */
template <class T>
__device__ __forceinline__ float attention_any_pair(const attn_shape &a, const attn_bwd<T> &o,
                                                    int b, int h, int i, int j, float &ds)
{
    const attn_stat stat = o.stat[((int64_t)b * a.heads + h) * attn_stat_rows(a.n_q) + i];
    const float s = attention_any_dot(attn_row(o.q, b, h, i), o.q.depth, attn_row(o.k, b, h, j),
                                      o.k.depth, a.depth);
    const float dp = attention_any_dot(attn_row(o.dy, b, h, i), o.dy.depth, attn_row(o.v, b, h, j),
                                       o.v.depth, a.depth);
    const float p = exp2f(s * a.scale2 - stat.lse2);
    ds = p * (dp - stat.delta);
    return p;
}

template <class T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_any_dq(const attn_shape a, const attn_bwd<T> o)
{
    const attention_any_at at = attention_any_locate(a, a.n_q);
    if (!at.in) return;
    const int reach = attn_reach(a, at.t);
    float acc[ANY_OWN] = {};
    for (int key = 0; key < reach; key += NN_WARP) {
        const int j = key + nn_lane();
        float ds = 0;
        if (j < reach && attn_key_on(a, at.b, j)) attention_any_pair(a, o, at.b, at.h, at.t, j, ds);
        attention_any_add(acc, ds, o.k, attn_row(o.k, at.b, at.h, key), at.column, a.depth);
    }
    attention_any_put(o.dq, attn_row(o.dq, at.b, at.h, at.t), at.column, a.depth, a.scale, acc);
}

template <class T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_any_dkv(const attn_shape a, const attn_bwd<T> o)
{
    const attention_any_at at = attention_any_locate(a, a.n_k);
    if (!at.in) return;
    float dk[ANY_OWN] = {}, dv[ANY_OWN] = {};
    const int first = attn_key_on(a, at.b, at.t) ? attn_first(a, at.t) : a.n_q;
    for (int query = first; query < a.n_q; query += NN_WARP) {
        const int i = query + nn_lane();
        float p = 0, ds = 0;
        if (i < a.n_q) p = attention_any_pair(a, o, at.b, at.h, i, at.t, ds);
        attention_any_add(dv, p, o.dy, attn_row(o.dy, at.b, at.h, query), at.column, a.depth);
        attention_any_add(dk, ds, o.q, attn_row(o.q, at.b, at.h, query), at.column, a.depth);
    }
    attention_any_put(o.dk, attn_row(o.dk, at.b, at.h, at.t), at.column, a.depth, a.scale, dk);
    attention_any_put(o.dv, attn_row(o.dv, at.b, at.h, at.t), at.column, a.depth, 1.0f, dv);
}

/* One warp for each of `tokens` rows of every head, and for each span of columns. */
static dim3 grid_of(const attn_shape *a, int64_t tokens, int64_t depth)
{
    return dim3((unsigned)nn_ceil_div((int64_t)a->batch * a->heads * tokens, ANY_WARPS),
                (unsigned)nn_ceil_div(depth, ANY_SPAN));
}

bool nn_attention_any_accepts(const nn_call *c)
{
    return attn_one_type(c, false);
}

bool nn_attention_any_bwd_accepts(const nn_call *c)
{
    return attn_one_type(c, true);
}

template <class T> static nn_status run_as(const nn_call *c)
{
    const attn_shape a = attn_shape_fwd(c);
    const dim3 grid = grid_of(&a, a.n_q, a.depth);
    if (!grid.x || !grid.y) return NN_OK;
    return NN_LAUNCH(attention_any<T>, grid, ANY_THREADS, 0, c, a,
                     attn_rows_of<const T>(&c->in[ATTN_Q]), attn_rows_of<const T>(&c->in[ATTN_K]),
                     attn_rows_of<const T>(&c->in[ATTN_V]), attn_rows_of<T>(&c->out[ATTN_Y]),
                     attn_lse_of(&c->out[ATTN_LSE]));
}

nn_status nn_attention_any_run(const nn_call *c)
{
    NN_DISPATCH(c->in[ATTN_Q].dtype, T, return run_as<T>(c));
}

size_t nn_attention_stats_bytes(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_BQ];
    return (size_t)(q->dim[0] * q->dim[2] * attn_stat_rows((int)q->dim[1])) * sizeof(attn_stat);
}

nn_status nn_attention_stats_run(const nn_call *c)
{
    const attn_shape a = attn_shape_bwd(c);
    const dim3 grid = grid_of(&a, attn_stat_rows(a.n_q), 1);
    if (!grid.x) return NN_OK;
    NN_DISPATCH(c->in[ATTN_DY].dtype, T,
                return NN_LAUNCH(
                    attention_stats<T>, grid, ANY_THREADS, 0, c, a,
                    attn_rows_of<const T>(&c->in[ATTN_DY]), attn_rows_of<const T>(&c->in[ATTN_BY]),
                    attn_lse_of(&c->in[ATTN_BLSE]), static_cast<attn_stat *>(c->workspace)));
}

template <class T> static nn_status run_bwd_as(const nn_call *c)
{
    const attn_shape a = attn_shape_bwd(c);
    const attn_bwd<T> o = attn_bwd_of<T>(c);
    const dim3 queries = grid_of(&a, a.n_q, a.depth), keys = grid_of(&a, a.n_k, a.depth);
    if (queries.x && queries.y)
        NN_TRY(NN_LAUNCH(attention_any_dq<T>, queries, ANY_THREADS, 0, c, a, o));
    if (keys.x && keys.y) NN_TRY(NN_LAUNCH(attention_any_dkv<T>, keys, ANY_THREADS, 0, c, a, o));
    return NN_OK;
}

nn_status nn_attention_any_run_bwd(const nn_call *c)
{
    NN_TRY(nn_attention_stats_run(c));
    NN_DISPATCH(c->in[ATTN_BQ].dtype, T, return run_bwd_as<T>(c));
}
