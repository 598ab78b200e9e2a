/* Attention of few queries to many keys, as decoding with a cache asks for.
 *
 * attention_decode: a block owns one query of one head and DECODE_SPLIT keys. Eight lanes own a key
 * at a time, 16 bytes of its row each, and keep their own running softmax; the 32 groups of a block
 * are merged in shared memory, in order. Keys that are masked are not read. Where there are several
 * splits, each leaves its sums in the workspace and attention_decode_merge adds them in order.
 * Traffic: K and V once per query, 4 (D + 2) bytes per split out and in. f32 arithmetic;
 * deterministic. Shared 128 (D + 2) bytes. */
#include "kernels/cuda/attention.cuh"

enum {
    DECODE_THREADS = 256,
    DECODE_LANES = 8, /* of a key */
    DECODE_GROUPS = DECODE_THREADS / DECODE_LANES,
    DECODE_SPLIT = 512,
    DECODE_QUERIES = 8, /* more are worth a tile */
    DECODE_DEEP = 256
};

/* Sums of a part of the keys: depth values of p * v, then the largest score and the sum of p. */
__device__ __forceinline__ float decode_merge(const float *parts, int n, int depth, int d,
                                              float *most_of_all, float *sum_of_all)
{
    float most = -INFINITY, sum = 0, value = 0;
    for (int g = 0; g < n; g++) most = fmaxf(most, parts[g * (depth + 2) + depth]);
    for (int g = 0; g < n; g++) {
        const float *part = parts + g * (depth + 2);
        const float factor = part[depth] == -INFINITY ? 0.0f : exp2f(part[depth] - most);
        value += factor * part[d];
        sum += factor * part[depth + 1];
    }
    *most_of_all = most;
    *sum_of_all = sum;
    return value;
}

/* Merges n parts into y and lse, or into one part of the workspace. */
template <class T>
__device__ __forceinline__ void decode_finish(const float *parts, int n, const attn_shape &a,
                                              const attn_rows<T> &y, const attn_lse &lse,
                                              float *part, int b, int h, int i)
{
    T *row = attn_row(y, b, h, i);
    for (int d = (int)threadIdx.x; d < a.depth; d += DECODE_THREADS) {
        float most, sum;
        const float value = decode_merge(parts, n, a.depth, d, &most, &sum);
        if (part) {
            part[d] = value;
            if (d == 0) part[a.depth] = most, part[a.depth + 1] = sum;
            continue;
        }
        row[d * y.depth] = nn_from<T>(sum == 0 ? 0.0f : value / sum);
        if (d == 0)
            lse.x[b * lse.sample + h * lse.head + i * lse.token] =
                sum == 0 ? -INFINITY : most * ATTN_LN2 + logf(sum);
    }
}

/* Grid: splits, heads * queries, samples. C: pieces of 16 bytes of a row that a lane owns. */
template <class T, int C>
__global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode(const attn_shape a, const attn_rows<const T> q, const attn_rows<const T> k,
                     const attn_rows<const T> v, const attn_rows<T> y, const attn_lse lse,
                     float *parts)
{
    constexpr int W = nn_wide<T>;
    NN_SHARED_DYN(float, merged);
    const int b = (int)blockIdx.z, h = (int)blockIdx.y / a.n_q, i = (int)blockIdx.y % a.n_q;
    const int group = (int)threadIdx.x / DECODE_LANES, lane = (int)threadIdx.x % DECODE_LANES;
    const int begin = (int)blockIdx.x * DECODE_SPLIT;
    const int end = min(begin + DECODE_SPLIT, attn_reach(a, i));
    const T *query = attn_row(q, b, h, i);
    float x[C][W], acc[C][W] = {}, most = -INFINITY, sum = 0;
#pragma unroll
    for (int c = 0; c < C; c++) {
        const int d = (c * DECODE_LANES + lane) * W;
        nn_vec<T, W> piece = {};
        if (d < a.depth) piece = nn_load<W>(query + d);
#pragma unroll
        for (int e = 0; e < W; e++) x[c][e] = nn_float(piece.at[e]) * a.scale2;
    }
    for (int key = begin; key < end; key += DECODE_GROUPS) {
        const int j = key + group;
        const bool seen = j < end && attn_key_on(a, b, j);
        nn_vec<T, W> ks[C] = {}, vs[C] = {};
        float s = 0;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int d = (c * DECODE_LANES + lane) * W;
            if (seen && d < a.depth) {
                ks[c] = nn_load<W>(attn_row(k, b, h, j) + d);
                vs[c] = nn_load<W>(attn_row(v, b, h, j) + d);
            }
        }
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int e = 0; e < W; e++) s += x[c][e] * nn_float(ks[c].at[e]);
        s = nn_warp_sum<DECODE_LANES>(s);
        if (!seen) continue;
        const float next = fmaxf(most, s), factor = exp2f(most - next), p = exp2f(s - next);
        most = next;
        sum = sum * factor + p;
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int e = 0; e < W; e++) acc[c][e] = acc[c][e] * factor + p * nn_float(vs[c].at[e]);
    }
    float *own = merged + group * (a.depth + 2);
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int e = 0; e < W; e++) {
            const int d = (c * DECODE_LANES + lane) * W + e;
            if (d < a.depth) own[d] = acc[c][e];
        }
    if (lane == 0) own[a.depth] = most, own[a.depth + 1] = sum;
    __syncthreads();
    const int64_t row = ((int64_t)b * a.heads + h) * a.n_q + i;
    float *part =
        gridDim.x == 1 ? nullptr : parts + (row * gridDim.x + blockIdx.x) * (int64_t)(a.depth + 2);
    decode_finish(merged, DECODE_GROUPS, a, y, lse, part, b, h, i);
}

template <class T>
__global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode_merge(const attn_shape a, const attn_rows<T> y, const attn_lse lse,
                           const float *parts, int splits)
{
    const int b = (int)blockIdx.z, h = (int)blockIdx.y, i = (int)blockIdx.x;
    const int64_t row = ((int64_t)b * a.heads + h) * a.n_q + i;
    decode_finish(parts + row * splits * (a.depth + 2), splits, a, y, lse,
                  static_cast<float *>(nullptr), b, h, i);
}

bool nn_attention_decode_accepts(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_Q];
    return attn_one_type(c, false) && attn_fits_grid(q) && q->dim[1] <= DECODE_QUERIES &&
           q->dim[2] * q->dim[1] < 65536 && q->dim[3] <= DECODE_DEEP &&
           q->dim[3] % (16 / nn_dtype_bytes(q->dtype)) == 0 && attn_wide_rows(q) &&
           attn_wide_rows(&c->in[ATTN_K]) && attn_wide_rows(&c->in[ATTN_V]);
}

static int64_t splits_of(const nn_call *c)
{
    const int64_t n = nn_ceil_div(c->in[ATTN_K].dim[1], DECODE_SPLIT);
    return n > 1 ? n : 1;
}

size_t nn_attention_decode_workspace(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_Q];
    const int64_t splits = splits_of(c);
    if (splits == 1) return 0;
    return (size_t)(q->dim[0] * q->dim[1] * q->dim[2] * splits * (q->dim[3] + 2)) * sizeof(float);
}

template <class T, int C> static nn_status run_as(const nn_call *c)
{
    const attn_shape a = attn_shape_fwd(c);
    const unsigned splits = (unsigned)splits_of(c);
    const attn_rows<T> y = attn_rows_of<T>(&c->out[ATTN_Y]);
    const attn_lse lse = attn_lse_of(&c->out[ATTN_LSE]);
    float *parts = static_cast<float *>(c->workspace);
    const size_t shared = (size_t)(DECODE_GROUPS * (a.depth + 2)) * sizeof(float);
    const dim3 grid(splits, (unsigned)(a.heads * a.n_q), (unsigned)a.batch);
    const dim3 rows((unsigned)a.n_q, (unsigned)a.heads, (unsigned)a.batch);
    if (!grid.y || !grid.z) return NN_OK;
    NN_TRY(NN_LAUNCH((attention_decode<T, C>), grid, DECODE_THREADS, shared, c, a,
                     attn_rows_of<const T>(&c->in[ATTN_Q]), attn_rows_of<const T>(&c->in[ATTN_K]),
                     attn_rows_of<const T>(&c->in[ATTN_V]), y, lse, parts));
    if (splits == 1) return NN_OK;
    return NN_LAUNCH(attention_decode_merge<T>, rows, DECODE_THREADS, 0, c, a, y, lse, parts,
                     splits);
}

template <class T> static nn_status run_sized(const nn_call *c)
{
    const int64_t pieces = nn_ceil_div(c->in[ATTN_Q].dim[3], nn_wide<T> * DECODE_LANES);
    if (pieces <= 1) return run_as<T, 1>(c);
    if (pieces <= 2) return run_as<T, 2>(c);
    if (pieces <= 4) return run_as<T, 4>(c);
    return run_as<T, DECODE_DEEP / (nn_wide<T> * DECODE_LANES)>(c);
}

nn_status nn_attention_decode_run(const nn_call *c)
{
    NN_DISPATCH(c->in[ATTN_Q].dtype, T, return run_sized<T>(c));
}
