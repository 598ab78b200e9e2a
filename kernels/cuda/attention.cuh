/* What all attention kernels share: the operands of one head, who sees whom, and the lists' parts.
 *
 * Everything is to base 2 inside: p = 2^(s * scale2 - lse2), scale2 = scale * log2(e). */
#ifndef KERNELS_CUDA_ATTENTION_CUH
#define KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/cuda.cuh"

#include <math.h>

enum { ATTN_Q, ATTN_K, ATTN_V, ATTN_MASK };                                  /* of attention */
enum { ATTN_Y, ATTN_LSE };                                                   /* its outputs */
enum { ATTN_DY, ATTN_BQ, ATTN_BK, ATTN_BV, ATTN_BY, ATTN_BLSE, ATTN_BMASK }; /* of its bwd */
enum { ATTN_DQ, ATTN_DK, ATTN_DV };                                          /* its outputs */

constexpr float ATTN_LOG2E = 1.44269504f, ATTN_LN2 = 0.693147181f;

/* One operand [B, T, H, D]; steps in elements. */
template <class T> struct attn_rows {
    T *x;
    int64_t sample, token, head, depth;
};

/* lse [B, H, Tq] */
struct attn_lse {
    float *x;
    int64_t sample, head, token;
};

/* What a query and a backward pass know of its row: lse to base 2 (infinite where nothing is seen
 * and behind the last row, so that every p is 0) and rowsum(dy * y). */
struct alignas(8) attn_stat {
    float lse2, delta;
};

enum { ATTN_STAT_ROWS = 64 /* the rows of a head's stats are a multiple of this */ };

/* The operands of a backward pass. */
template <class T> struct attn_bwd {
    attn_rows<const T> dy, q, k, v;
    attn_rows<T> dq, dk, dv;
    const attn_stat *stat;
};

struct attn_shape {
    int n_q, n_k, heads, depth, batch;
    int shift;  /* query i sees the keys to i + shift */
    int prefix; /* and those below it, at most n_k */
    bool causal;
    float scale, scale2;
    const int32_t *mask; /* NULL = all keys */
    int64_t mask_sample, mask_key;
};

/* Query i sees no key from here on. */
__device__ __forceinline__ int attn_reach(const attn_shape &a, int i)
{
    return a.causal ? min(a.n_k, max(a.prefix, i + a.shift + 1)) : a.n_k;
}

/* No query before this one sees key j. */
__device__ __forceinline__ int attn_first(const attn_shape &a, int j)
{
    return a.causal && j >= a.prefix ? max(0, j - a.shift) : 0;
}

__device__ __forceinline__ bool attn_key_on(const attn_shape &a, int b, int j)
{
    return !a.mask || a.mask[b * a.mask_sample + j * a.mask_key] != 0;
}

/* Token t of a head. */
template <class T>
__device__ __forceinline__ T *attn_row(const attn_rows<T> &r, int b, int h, int t)
{
    return r.x + b * r.sample + h * r.head + t * r.token;
}

__host__ __device__ __forceinline__ int attn_stat_rows(int n_q)
{
    return (n_q + ATTN_STAT_ROWS - 1) / ATTN_STAT_ROWS * ATTN_STAT_ROWS;
}

template <class T> static inline attn_rows<T> attn_rows_of(const nn_view *v)
{
    return { static_cast<T *>(v->data), v->stride[0], v->stride[1], v->stride[2], v->stride[3] };
}

static inline attn_lse attn_lse_of(const nn_view *v)
{
    return { static_cast<float *>(v->data), v->stride[0], v->stride[1], v->stride[2] };
}

static inline attn_shape attn_shape_of(const nn_call *c, const nn_view *q, const nn_view *k,
                                       const nn_view *mask)
{
    const nn_attention_params *p = static_cast<const nn_attention_params *>(c->params);
    attn_shape a = { .n_q = (int)q->dim[1],
                     .n_k = (int)k->dim[1],
                     .heads = (int)q->dim[2],
                     .depth = (int)q->dim[3],
                     .batch = (int)q->dim[0],
                     .shift = (int)(k->dim[1] - q->dim[1]),
                     .prefix = (int)(p->prefix < k->dim[1] ? p->prefix : k->dim[1]),
                     .causal = p->causal,
                     .scale = (float)p->scale,
                     .scale2 = (float)(p->scale * 1.4426950408889634) };
    if (nn_present(mask)) {
        a.mask = static_cast<const int32_t *>(mask->data);
        a.mask_sample = mask->stride[0];
        a.mask_key = mask->stride[1];
    }
    return a;
}

static inline attn_shape attn_shape_fwd(const nn_call *c)
{
    return attn_shape_of(c, &c->in[ATTN_Q], &c->in[ATTN_K], &c->in[ATTN_MASK]);
}

static inline attn_shape attn_shape_bwd(const nn_call *c)
{
    return attn_shape_of(c, &c->in[ATTN_BQ], &c->in[ATTN_BK], &c->in[ATTN_BMASK]);
}

template <class T> static inline attn_bwd<T> attn_bwd_of(const nn_call *c)
{
    return { attn_rows_of<const T>(&c->in[ATTN_DY]), attn_rows_of<const T>(&c->in[ATTN_BQ]),
             attn_rows_of<const T>(&c->in[ATTN_BK]), attn_rows_of<const T>(&c->in[ATTN_BV]),
             attn_rows_of<T>(&c->out[ATTN_DQ]),      attn_rows_of<T>(&c->out[ATTN_DK]),
             attn_rows_of<T>(&c->out[ATTN_DV]),      static_cast<const attn_stat *>(c->workspace) };
}

/* f32 or bf16, one type for all operands of [B, T, H, D]. */
static inline bool attn_one_type(const nn_call *c, bool bwd)
{
    const nn_dtype t = c->in[0].dtype;
    bool fit = nn_is_float(&c->in[0]) && c->in[1].dtype == t && c->in[2].dtype == t &&
               c->out[0].dtype == t;
    if (bwd)
        fit = fit && c->in[ATTN_BV].dtype == t && c->in[ATTN_BY].dtype == t &&
              c->out[ATTN_DK].dtype == t && c->out[ATTN_DV].dtype == t;
    return fit && (bwd ? c->in[ATTN_BLSE] : c->out[ATTN_LSE]).dtype == NN_F32;
}

/* Rows of a head are packed and can be moved 16 bytes at a time, whatever token, head and sample.
 */
static inline bool attn_wide_rows(const nn_view *v)
{
    const int64_t width = 16 / nn_dtype_bytes(v->dtype);
    bool fit = nn_aligned16(v) && v->stride[3] == 1;
    for (int d = 0; d < 3; d++) fit = fit && (v->dim[d] == 1 || v->stride[d] % width == 0);
    return fit && v->stride[1] < (1 << 23);
}

/* Grids put heads and samples in y and z. */
static inline bool attn_fits_grid(const nn_view *q)
{
    return q->dim[0] < 65536 && q->dim[2] < 65536;
}

/* attention_any.cu */
bool nn_attention_any_accepts(const nn_call *c);
bool nn_attention_any_bwd_accepts(const nn_call *c);
nn_status nn_attention_any_run(const nn_call *c);
nn_status nn_attention_any_run_bwd(const nn_call *c);

/* attention_tiled.cu */
bool nn_attention_tiled_accepts(const nn_call *c);
bool nn_attention_tiled_bwd_accepts(const nn_call *c);
nn_status nn_attention_tiled_run(const nn_call *c);
nn_status nn_attention_tiled_run_bwd(const nn_call *c);

/* attention_decode.cu */
bool nn_attention_decode_accepts(const nn_call *c);
nn_status nn_attention_decode_run(const nn_call *c);
size_t nn_attention_decode_workspace(const nn_call *c);

/* Writes the stats of all queries, in order [B, H, attn_stat_rows], and their bytes. */
nn_status nn_attention_stats_run(const nn_call *c);
size_t nn_attention_stats_bytes(const nn_call *c);

#endif
