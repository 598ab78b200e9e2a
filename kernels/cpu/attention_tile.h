/* The inner loops of attention and its gradients.
 *
 * A block is a matrix whose columns are lanes: `vecs` (1 or 2) vectors, NN_ATTN_COLUMNS floats
 * apart from row to row. Its columns are tokens of one side (queries or keys), its rows tokens of
 * the other side or the D features of a head. Softmax then runs down the lanes without a horizontal
 * step, any D and any row stride of q, k, v fits without padding, and two products serve all seven
 * of forward and backward:
 *     nn_attn_dot   block[row][lane]  = sum over d of x[row][d] * panel[d][lane]     (q k^T, dy
 * v^T) nn_attn_sum   acc[d][lane]     += sum over rows of x[row][d] * block[row][lane] (p v, ds k,
 * ..) where x is a row-major view of q, k, v or dy, read by broadcasts. A register tile is up to
 * NN_ATTN_TILE rows (or features) by 2 vectors; work is cut evenly, so that no thin tile is left
 * over. */
#ifndef KERNELS_CPU_ATTENTION_TILE_H
#define KERNELS_CPU_ATTENTION_TILE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

enum {
    NN_ATTN_COLUMNS = 2 * NN_LANES,
    NN_ATTN_TILE = NN_LANES == 16 ? 12 : 6 /* 24 accumulators of 32 registers, 12 of 16 */
};

/* Rows of one head: x[row * stride + d]. */
typedef struct nn_attn_rows {
    const float *x;
    int64_t stride;
} nn_attn_rows;

NN_INLINE nn_attn_rows nn_attn_rows_at(const nn_view *v, int64_t b, int64_t h)
{
    return (nn_attn_rows){ (const float *)v->data + b * v->stride[0] + h * v->stride[2],
                           v->stride[1] };
}

NN_INLINE nn_attn_rows nn_attn_rows_from(nn_attn_rows r, int64_t row)
{
    return (nn_attn_rows){ r.x + row * r.stride, r.stride };
}

/* f32 with packed rows, as all operands of these kernels are. */
NN_INLINE bool nn_attn_operand(const nn_view *v)
{
    return v->dtype == NN_F32 && (v->stride[3] == 1 || v->dim[3] == 1);
}

NN_INLINE int nn_attn_vecs(int64_t columns)
{
    return columns > NN_LANES ? 2 : 1;
}

/* How many of the first keys query i sees: all of them, or up to its own place. */
NN_INLINE int64_t nn_attn_reach(const nn_attention_params *p, int64_t i, int64_t n_q, int64_t n_k)
{
    if (!p->causal) return n_k;
    int64_t reach = i + 1 + n_k - n_q;
    if (reach < p->prefix) reach = p->prefix;
    return reach < 0 ? 0 : reach > n_k ? n_k : reach;
}

/* 2^x where the result is finite, 0 far below. Largest error 2.4e-7 of the value, 1.5e-7 with
 * AVX-512. NaN stays NaN. */
NN_INLINE nn_vf nn_attn_exp2(nn_vf x)
{
#if defined(__AVX512F__)
    __asm__("" : "+v"(x)); /* from memory, both instructions take 20 cycles on Zen 4 */
    nn_vf r = (nn_vf)_mm512_reduce_ps((__m512)x, 1); /* x - floor(x) */
    nn_vf p = nn_set(1.8671300495e-3f);
    p = p * r + 9.0170307085e-3f;
    p = p * r + 5.5799912661e-2f;
    p = p * r + 2.4016444385e-1f;
    p = p * r + 6.9315129519e-1f;
    p = p * r + 1.0f;
    return (nn_vf)_mm512_scalef_ps((__m512)p, (__m512)x); /* p * 2^floor(x) */
#else
    const nn_vf magic = nn_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    x = nn_vmax(nn_set(-127.0f), x);
    nn_vf shifted = x + magic;
    nn_vf r = x - (shifted - magic);
    nn_vf p = nn_set(1.339887440266574e-3f);
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return (nn_vf)((nn_vi)p + ((nn_vi)shifted << 23)); /* the low bits of magic are 0 */
#endif
}

/* -- the two products
 * ---------------------------------------------------------------------------------------------- */

/* from: what is subtracted in each column, NULL = nothing. */
NN_INLINE void nn_attn_dot_tile(int n, int vecs, nn_attn_rows r, const float *panel, int64_t depth,
                                const float *from, float *block)
{
    nn_vf acc[NN_ATTN_TILE][2];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++) acc[i][v] = from ? -nn_load(from + v * NN_LANES) : nn_set(0);
    for (int64_t d = 0; d < depth; d++) {
        nn_vf column[2];
        for (int v = 0; v < vecs; v++)
            column[v] = nn_load(panel + d * NN_ATTN_COLUMNS + v * NN_LANES);
        for (int i = 0; i < n; i++) {
            nn_vf x = nn_set(r.x[i * r.stride + d]);
            for (int v = 0; v < vecs; v++) acc[i][v] += x * column[v];
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            nn_store(block + i * NN_ATTN_COLUMNS + v * NN_LANES, acc[i][v]);
}

NN_INLINE void nn_attn_sum_tile(int n, int vecs, nn_attn_rows r, const float *block, int64_t rows,
                                float *out)
{
    nn_vf acc[NN_ATTN_TILE][2];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            acc[i][v] = nn_load(out + i * NN_ATTN_COLUMNS + v * NN_LANES);
    for (int64_t t = 0; t < rows; t++) {
        nn_vf column[2];
        for (int v = 0; v < vecs; v++)
            column[v] = nn_load(block + t * NN_ATTN_COLUMNS + v * NN_LANES);
        for (int i = 0; i < n; i++) {
            nn_vf x = nn_set(r.x[t * r.stride + i]);
            for (int v = 0; v < vecs; v++) acc[i][v] += x * column[v];
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            nn_store(out + i * NN_ATTN_COLUMNS + v * NN_LANES, acc[i][v]);
}

/* Call tile(n, vecs, ...) with both as constants, so that its arrays become registers. */
#define NN_ATTN_CASE(n, tile, ...)                                                                 \
    case 2 * (n):                                                                                  \
        tile((n), 1, __VA_ARGS__);                                                                 \
        break;                                                                                     \
    case 2 * (n) + 1:                                                                              \
        tile((n), 2, __VA_ARGS__);                                                                 \
        break;
#if defined(__AVX512F__)
#define NN_ATTN_WIDE_CASES(tile, ...)                                                              \
    NN_ATTN_CASE(7, tile, __VA_ARGS__)                                                             \
    NN_ATTN_CASE(8, tile, __VA_ARGS__)                                                             \
    NN_ATTN_CASE(9, tile, __VA_ARGS__)                                                             \
    NN_ATTN_CASE(10, tile, __VA_ARGS__)                                                            \
    NN_ATTN_CASE(11, tile, __VA_ARGS__)                                                            \
    NN_ATTN_CASE(12, tile, __VA_ARGS__)
#else
#define NN_ATTN_WIDE_CASES(tile, ...)
#endif
#define NN_ATTN_SWITCH(n, vecs, tile, ...)                                                         \
    switch (2 * (n) + (vecs)-1) {                                                                  \
        NN_ATTN_CASE(1, tile, __VA_ARGS__)                                                         \
        NN_ATTN_CASE(2, tile, __VA_ARGS__)                                                         \
        NN_ATTN_CASE(3, tile, __VA_ARGS__)                                                         \
        NN_ATTN_CASE(4, tile, __VA_ARGS__)                                                         \
        NN_ATTN_CASE(5, tile, __VA_ARGS__)                                                         \
        NN_ATTN_CASE(6, tile, __VA_ARGS__)                                                         \
        NN_ATTN_WIDE_CASES(tile, __VA_ARGS__)                                                      \
    }

/* Size of the next of the fewest tiles that cover `left`, all of nearly one size. */
NN_INLINE int nn_attn_cut(int64_t left)
{
    int64_t tiles = (left + NN_ATTN_TILE - 1) / NN_ATTN_TILE;
    return (int)((left + tiles - 1) / tiles);
}

/* block[0 .. rows) = x panel, over depth features. */
static inline void nn_attn_dot(nn_attn_rows x, int64_t rows, const float *panel, int64_t depth,
                               int vecs, float *block)
{
    for (int64_t t = 0; t < rows;) {
        int n = nn_attn_cut(rows - t);
        NN_ATTN_SWITCH(n, vecs, nn_attn_dot_tile, nn_attn_rows_from(x, t), panel, depth, NULL,
                       block + t * NN_ATTN_COLUMNS)
        t += n;
    }
}

/* acc[0 .. depth) += x^T block, over rows tokens. */
static inline void nn_attn_sum(nn_attn_rows x, int64_t rows, const float *block, int64_t depth,
                               int vecs, float *acc)
{
    for (int64_t d = 0; d < depth;) {
        int n = nn_attn_cut(depth - d);
        nn_attn_rows at = { x.x + d, x.stride };
        NN_ATTN_SWITCH(n, vecs, nn_attn_sum_tile, at, block, rows, acc + d * NN_ATTN_COLUMNS)
        d += n;
    }
}

/* -- transposition */

/* panel[d][lane] = factor * x[lane][d] for n <= NN_ATTN_COLUMNS rows. Lanes beyond the last row
 * repeat it: they must be finite, and are never stored. */
static inline void nn_attn_pack(nn_attn_rows x, int64_t n, int64_t depth, float factor,
                                float *panel)
{
    for (int64_t first = 0; first < n; first += NN_LANES) {
        const float *row[NN_LANES];
        for (int i = 0; i < NN_LANES; i++)
            row[i] = x.x + (first + i < n ? first + i : n - 1) * x.stride;
        int64_t d = 0;
        for (; depth >= NN_LANES && d < depth; d += NN_LANES) {
            nn_vf tile[NN_LANES];
            if (d > depth - NN_LANES) d = depth - NN_LANES; /* the last tile overlaps */
            for (int i = 0; i < NN_LANES; i++) tile[i] = nn_load(row[i] + d) * factor;
            nn_transpose(tile);
            for (int i = 0; i < NN_LANES; i++)
                nn_store(panel + (d + i) * NN_ATTN_COLUMNS + first, tile[i]);
        }
        for (; d < depth; d++)
            for (int i = 0; i < NN_LANES; i++)
                panel[d * NN_ATTN_COLUMNS + first + i] = factor * row[i][d];
    }
}

/* y[lane][d] = acc[d][lane] * factor[lane] for n rows of stride `stride`. */
static inline void nn_attn_unpack(const float *acc, int64_t n, int64_t depth, const float *factor,
                                  float *y, int64_t stride)
{
    for (int64_t first = 0; first < n; first += NN_LANES) {
        int64_t rows = n - first < NN_LANES ? n - first : NN_LANES, d = 0;
        nn_vf f = nn_load(factor + first);
        float *to = y + first * stride;
        for (; depth >= NN_LANES && d < depth; d += NN_LANES) {
            nn_vf tile[NN_LANES];
            if (d > depth - NN_LANES) d = depth - NN_LANES;
            for (int i = 0; i < NN_LANES; i++)
                tile[i] = nn_load(acc + (d + i) * NN_ATTN_COLUMNS + first) * f;
            nn_transpose(tile);
            for (int64_t i = 0; i < rows; i++) nn_store(to + i * stride + d, tile[i]);
        }
        for (; d < depth; d++)
            for (int64_t i = 0; i < rows; i++)
                to[i * stride + d] = acc[d * NN_ATTN_COLUMNS + first + i] * f[i];
    }
}

#endif
