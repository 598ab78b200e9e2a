/* Attention in full f32 arithmetic, forward and backward, of any strides: for f32, and for bf16
 * with a head size that has no flash kernel.
 *
 * A block of 256 threads owns 64 rows of one head (queries, or keys in attention_tiled_dkv) and
 * walks over the other side in tiles of 64. A thread owns 4 x 4 of the scores, rows 4 ty + r and
 * columns tx + 16 c, and 4 x 4 of each 64 columns of the result. Operands come through shared
 * memory in chunks, as f32; the weights of a tile pass through it too. Traffic: own rows once for
 * each tile of the other side, from the first caches; the other side once from memory and n / 64
 * times from the second-level cache. No bank conflicts: rows are 4 floats longer than a multiple of
 * 32. Shared 36 KiB. Sums in f32 in a fixed order; deterministic. */
#include "kernels/cuda/attention.cuh"

enum {
    TILED_THREADS = 256,
    TILED_ROWS = 64,
    TILED_CHUNK = 32,             /* columns of the head in a step of a dot product */
    TILED_PAD = TILED_CHUNK + 4,  /* floats of a row of such a chunk */
    TILED_WIDTH = TILED_ROWS + 4, /* of a row of weights */
    TILED_DEEP = 512,             /* largest head size, forward */
    TILED_DEEP_BWD = 256
};
static_assert((int)TILED_ROWS == (int)ATTN_STAT_ROWS, "statistics exist for whole tiles");

struct tiled_shared {
    float chunk[2 * TILED_ROWS * TILED_PAD]; /* of both operands, or 64 x 64 of one */
    float weight[TILED_ROWS * TILED_WIDTH];
};

__device__ __forceinline__ int tiled_tx()
{
    return (int)threadIdx.x % 16;
}

__device__ __forceinline__ int tiled_ty()
{
    return (int)threadIdx.x / 16;
}

/* Columns [from, from + COLUMNS) of 64 rows, `n` of which exist, into rows of STEP floats; zeros
 * where there is nothing. */
template <int COLUMNS, int STEP, class T>
__device__ __forceinline__ void tiled_copy(float *to, const attn_rows<T> &x, T *rows, int n,
                                           int from, int depth)
{
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < TILED_ROWS * COLUMNS; i += TILED_THREADS) {
        const int row = i / COLUMNS, d = from + i % COLUMNS;
        to[row * STEP + i % COLUMNS] =
            row < n && d < depth ? nn_float(rows[row * x.token + d * x.depth]) : 0.0f;
    }
}

/* s = x y^T of 64 rows each, from tokens i and j on. */
template <class T>
__device__ __forceinline__ void tiled_dot(float (&s)[4][4], tiled_shared &sh, const attn_rows<T> &x,
                                          T *xs, int n_x, const attn_rows<T> &y, T *ys, int n_y,
                                          int depth)
{
    float *a = sh.chunk, *b = sh.chunk + TILED_ROWS * TILED_PAD;
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) s[r][c] = 0;
    for (int from = 0; from < depth; from += TILED_CHUNK) {
        __syncthreads();
        tiled_copy<TILED_CHUNK, TILED_PAD>(a, x, xs, n_x, from, depth);
        tiled_copy<TILED_CHUNK, TILED_PAD>(b, y, ys, n_y, from, depth);
        __syncthreads();
        const int columns = min(TILED_CHUNK, depth - from);
#pragma unroll 1
        for (int d = 0; d < columns; d += 4) {
            nn_vec<float, 4> u[4], v[4];
#pragma unroll
            for (int r = 0; r < 4; r++) u[r] = nn_load<4>(a + (tiled_ty() * 4 + r) * TILED_PAD + d);
#pragma unroll
            for (int c = 0; c < 4; c++)
                v[c] = nn_load<4>(b + (tiled_tx() + 16 * c) * TILED_PAD + d);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++)
#pragma unroll
                    for (int e = 0; e < 4; e++) s[r][c] += u[r].at[e] * v[c].at[e];
        }
    }
}

__device__ __forceinline__ void tiled_put_weights(tiled_shared &sh, const float (&w)[4][4])
{
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            sh.weight[(tiled_ty() * 4 + r) * TILED_WIDTH + tiled_tx() + 16 * c] = w[r][c];
}

/* acc += weights x, for 64 G columns of x. */
template <int G, class T>
__device__ __forceinline__ void tiled_sum(float (&acc)[G][4][4], tiled_shared &sh,
                                          const attn_rows<T> &x, T *xs, int n, int depth)
{
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (g * TILED_ROWS >= depth) break;
        __syncthreads();
        tiled_copy<TILED_ROWS, TILED_ROWS>(sh.chunk, x, xs, n, g * TILED_ROWS, depth);
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < TILED_ROWS; k += 4) {
            nn_vec<float, 4> w[4], v[4];
#pragma unroll
            for (int r = 0; r < 4; r++)
                w[r] = nn_load<4>(sh.weight + (tiled_ty() * 4 + r) * TILED_WIDTH + k);
#pragma unroll
            for (int e = 0; e < 4; e++)
                v[e] = nn_load<4>(sh.chunk + (k + e) * TILED_ROWS + tiled_tx() * 4);
#pragma unroll
            for (int e = 0; e < 4; e++)
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int c = 0; c < 4; c++) acc[g][r][c] += w[r].at[e] * v[e].at[c];
        }
    }
    __syncthreads(); /* the weights may be replaced */
}

/* Stores four columns at a time where the rows allow it. */
template <int G, class T>
__device__ __forceinline__ void tiled_put(const float (&acc)[G][4][4], const float (&factor)[4],
                                          const attn_rows<T> &y, T *rows, int n, int depth)
{
    const bool wide = y.depth == 1 && y.token % 4 == 0 && depth % 4 == 0 &&
                      reinterpret_cast<uintptr_t>(rows) % (4 * sizeof(T)) == 0;
#pragma unroll
    for (int g = 0; g < G; g++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int row = tiled_ty() * 4 + r, d = g * TILED_ROWS + tiled_tx() * 4;
            if (row >= n || d >= depth) continue;
            T *to = rows + row * y.token + d * y.depth;
            nn_vec<T, 4> v;
#pragma unroll
            for (int c = 0; c < 4; c++) v.at[c] = nn_from<T>(acc[g][r][c] * factor[r]);
            if (wide) {
                nn_store(to, v);
                continue;
            }
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (d + c < depth) to[c * y.depth] = v.at[c];
        }
}

/* Scores become p; returns in `factor` what earlier sums must be scaled by. */
__device__ __forceinline__ void tiled_softmax(float (&s)[4][4], float (&most)[4], float (&sum)[4],
                                              float (&factor)[4], const attn_shape &a, int b,
                                              int query, int key)
{
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int reach = attn_reach(a, query + tiled_ty() * 4 + r);
        float top = most[r];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const int j = key + tiled_tx() + 16 * c;
            s[r][c] = j < reach && attn_key_on(a, b, j) ? s[r][c] * a.scale2 : -INFINITY;
            top = fmaxf(top, s[r][c]);
        }
        top = nn_warp_max<16>(top);
        const float zero = top == -INFINITY ? 0.0f : top;
        factor[r] = exp2f(most[r] - zero);
        most[r] = top;
        sum[r] *= factor[r];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            s[r][c] = exp2f(s[r][c] - zero);
            sum[r] += s[r][c];
        }
    }
}

template <class T, int G>
__global__ void __launch_bounds__(TILED_THREADS, G == 1 ? 2 : 1)
    attention_tiled(const attn_shape a, const attn_rows<const T> q, const attn_rows<const T> k,
                    const attn_rows<const T> v, const attn_rows<T> y, const attn_lse lse)
{
    NN_SHARED(tiled_shared, sh, 1);
    const int b = (int)blockIdx.z, h = (int)blockIdx.y;
    const int first = (int)blockIdx.x * TILED_ROWS, n = a.n_q - first;
    const int end = attn_reach(a, min(first + TILED_ROWS, a.n_q) - 1);
    const T *own = attn_row(q, b, h, first);
    float acc[G][4][4] = {}, most[4], sum[4] = {}, factor[4];
#pragma unroll
    for (int r = 0; r < 4; r++) most[r] = -INFINITY;
    for (int key = 0; key < end; key += TILED_ROWS) {
        float s[4][4];
        tiled_dot(s, sh[0], q, own, n, k, attn_row(k, b, h, key), end - key, a.depth);
        tiled_softmax(s, most, sum, factor, a, b, first, key);
#pragma unroll
        for (int g = 0; g < G; g++)
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) acc[g][r][c] *= factor[r];
        tiled_put_weights(sh[0], s);
        tiled_sum(acc, sh[0], v, attn_row(v, b, h, key), end - key, a.depth);
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int i = first + tiled_ty() * 4 + r;
        sum[r] = nn_warp_sum<16>(sum[r]);
        factor[r] = sum[r] == 0 ? 0.0f : 1.0f / sum[r];
        if (tiled_tx() == 0 && i < a.n_q)
            lse.x[b * lse.sample + h * lse.head + i * lse.token] =
                sum[r] == 0 ? -INFINITY : most[r] * ATTN_LN2 + logf(sum[r]);
    }
    tiled_put(acc, factor, y, attn_row(y, b, h, first), n, a.depth);
}

template <class T, int G>
__global__ void __launch_bounds__(TILED_THREADS, G == 1 ? 2 : 1)
    attention_tiled_dq(const attn_shape a, const attn_bwd<T> o)
{
    NN_SHARED(tiled_shared, sh, 1);
    const int b = (int)blockIdx.z, h = (int)blockIdx.y;
    const int first = (int)blockIdx.x * TILED_ROWS, n = a.n_q - first;
    const int end = attn_reach(a, min(first + TILED_ROWS, a.n_q) - 1);
    const attn_stat *stats = o.stat + ((int64_t)b * a.heads + h) * attn_stat_rows(a.n_q) + first;
    float acc[G][4][4] = {};
    for (int key = 0; key < end; key += TILED_ROWS) {
        float s[4][4], dp[4][4];
        tiled_dot(s, sh[0], o.q, attn_row(o.q, b, h, first), n, o.k, attn_row(o.k, b, h, key),
                  end - key, a.depth);
        tiled_dot(dp, sh[0], o.dy, attn_row(o.dy, b, h, first), n, o.v, attn_row(o.v, b, h, key),
                  end - key, a.depth);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int reach = attn_reach(a, first + tiled_ty() * 4 + r);
            const attn_stat stat = stats[tiled_ty() * 4 + r];
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int j = key + tiled_tx() + 16 * c;
                const float p = exp2f(s[r][c] * a.scale2 - stat.lse2);
                s[r][c] = j < reach && attn_key_on(a, b, j) ? p * (dp[r][c] - stat.delta) : 0.0f;
            }
        }
        tiled_put_weights(sh[0], s);
        tiled_sum(acc, sh[0], o.k, attn_row(o.k, b, h, key), end - key, a.depth);
    }
    const float scale[4] = { a.scale, a.scale, a.scale, a.scale };
    tiled_put(acc, scale, o.dq, attn_row(o.dq, b, h, first), n, a.depth);
}

template <class T, int G>
__global__ void __launch_bounds__(TILED_THREADS, 1)
    attention_tiled_dkv(const attn_shape a, const attn_bwd<T> o)
{
    NN_SHARED(tiled_shared, sh, 1);
    const int b = (int)blockIdx.z, h = (int)blockIdx.y;
    const int first = (int)blockIdx.x * TILED_ROWS, n = a.n_k - first;
    const attn_stat *stats = o.stat + ((int64_t)b * a.heads + h) * attn_stat_rows(a.n_q);
    float dk[G][4][4] = {}, dv[G][4][4] = {};
    for (int query = attn_first(a, first) / TILED_ROWS * TILED_ROWS; query < a.n_q;
         query += TILED_ROWS) {
        float p[4][4], ds[4][4];
        const T *qs = attn_row(o.q, b, h, query), *dys = attn_row(o.dy, b, h, query);
        tiled_dot(p, sh[0], o.k, attn_row(o.k, b, h, first), n, o.q, qs, a.n_q - query, a.depth);
        tiled_dot(ds, sh[0], o.v, attn_row(o.v, b, h, first), n, o.dy, dys, a.n_q - query, a.depth);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int j = first + tiled_ty() * 4 + r;
            const int from = j < a.n_k && attn_key_on(a, b, j) ? attn_first(a, j) : INT32_MAX;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int i = query + tiled_tx() + 16 * c;
                const attn_stat stat = stats[i];
                p[r][c] = i < from ? 0.0f : exp2f(p[r][c] * a.scale2 - stat.lse2);
                ds[r][c] = p[r][c] * (ds[r][c] - stat.delta);
            }
        }
        tiled_put_weights(sh[0], p);
        tiled_sum(dv, sh[0], o.dy, dys, a.n_q - query, a.depth);
        tiled_put_weights(sh[0], ds);
        tiled_sum(dk, sh[0], o.q, qs, a.n_q - query, a.depth);
    }
    const float scale[4] = { a.scale, a.scale, a.scale, a.scale }, one[4] = { 1, 1, 1, 1 };
    tiled_put(dk, scale, o.dk, attn_row(o.dk, b, h, first), n, a.depth);
    tiled_put(dv, one, o.dv, attn_row(o.dv, b, h, first), n, a.depth);
}

bool nn_attention_tiled_accepts(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_Q];
    return attn_one_type(c, false) && attn_fits_grid(q) && q->dim[3] <= TILED_DEEP;
}

bool nn_attention_tiled_bwd_accepts(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_BQ];
    return attn_one_type(c, true) && attn_fits_grid(q) && q->dim[3] <= TILED_DEEP_BWD;
}

static dim3 grid_of(const attn_shape *a, int rows)
{
    return dim3((unsigned)nn_ceil_div(rows, TILED_ROWS), (unsigned)a->heads, (unsigned)a->batch);
}

template <class T, int G> static nn_status run_as(const nn_call *c)
{
    const attn_shape a = attn_shape_fwd(c);
    const dim3 grid = grid_of(&a, a.n_q);
    if (!grid.x || !grid.y || !grid.z) return NN_OK;
    return NN_LAUNCH((attention_tiled<T, G>), grid, TILED_THREADS, 0, c, a,
                     attn_rows_of<const T>(&c->in[ATTN_Q]), attn_rows_of<const T>(&c->in[ATTN_K]),
                     attn_rows_of<const T>(&c->in[ATTN_V]), attn_rows_of<T>(&c->out[ATTN_Y]),
                     attn_lse_of(&c->out[ATTN_LSE]));
}

nn_status nn_attention_tiled_run(const nn_call *c)
{
    const int64_t depth = c->in[ATTN_Q].dim[3];
    NN_DISPATCH(c->in[ATTN_Q].dtype, T,
                return depth <= 64    ? (run_as<T, 1>(c))
                       : depth <= 192 ? (run_as<T, 3>(c))
                                      : (run_as<T, 8>(c)));
}

template <class T, int G> static nn_status run_bwd_as(const nn_call *c)
{
    const attn_shape a = attn_shape_bwd(c);
    const attn_bwd<T> o = attn_bwd_of<T>(c);
    const dim3 queries = grid_of(&a, a.n_q), keys = grid_of(&a, a.n_k);
    if (!keys.y || !keys.z) return NN_OK;
    if (queries.x)
        NN_TRY(NN_LAUNCH((attention_tiled_dq<T, G>), queries, TILED_THREADS, 0, c, a, o));
    if (keys.x) NN_TRY(NN_LAUNCH((attention_tiled_dkv<T, G>), keys, TILED_THREADS, 0, c, a, o));
    return NN_OK;
}

nn_status nn_attention_tiled_run_bwd(const nn_call *c)
{
    const int64_t depth = c->in[ATTN_BQ].dim[3];
    NN_TRY(nn_attention_stats_run(c));
    NN_DISPATCH(c->in[ATTN_BQ].dtype, T,
                return depth <= 64    ? (run_bwd_as<T, 1>(c))
                       : depth <= 192 ? (run_bwd_as<T, 3>(c))
                                      : (run_bwd_as<T, 4>(c)));
}
