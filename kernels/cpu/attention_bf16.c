/* Attention, forward, of operands rounded to bf16, in frozen plans that compute in bf16: twice the
 * products of f32 per instruction. See attention_flash.h.
 *
 * The instruction takes sums of two products, so both products of attention run over pairs: q and k
 * in pairs of features, p and v in pairs of keys, a pair being one 32-bit lane with the earlier
 * element in its lower half. Keys and values are rounded once per call, into the workspace: k as
 * [key][pair of features], v as [pair of keys][feature]. Scores, softmax and sums are f32; p is
 * rounded after its sum was taken. */
#include "kernels/cpu/attention_bf16.h"

#ifdef NN_CPU_BF16
#include "kernels/cpu/attention_flash.h"

enum { Q, K, V };

static int64_t pairs_of(int64_t n)
{
    return (n + 1) / 2;
}

/* -- keys and values of a head in the workspace */

typedef struct packed {
    int32_t *k, *v; /* [n_k][pairs of D], [pairs of n_k][D] */
} packed;

static int64_t packed_pairs(const nn_call *c)
{
    int64_t n_k = c->in[K].dim[1], depth = c->in[Q].dim[3];
    return n_k * pairs_of(depth) + pairs_of(n_k) * depth;
}

static packed packed_at(const nn_call *c, int64_t head)
{
    char *at = (char *)c->workspace + NN_CPU_NAME(attention_flash_workspace)(c);
    packed p = { .k = (int32_t *)at + head * packed_pairs(c) };
    p.v = p.k + c->in[K].dim[1] * pairs_of(c->in[Q].dim[3]);
    return p;
}

/* Two rows of v; the second may be missing. */
NN_BF16_TARGET static void pack_values(const float *first, const float *second, int64_t depth,
                                       int32_t *to)
{
    for (int64_t d = 0; d < depth; d += NN_LANES) {
        int64_t n = nn_min(depth - d, NN_LANES);
        nn_vf b = second ? nn_load_n(second + d, n, 0) : nn_set(0);
        nn_vi both = nn_pair_up(nn_load_n(first + d, n, 0), b);
        _mm512_mask_storeu_epi32(to + d, (__mmask16)((1u << n) - 1), (__m512i)both);
    }
}

/* i counts pairs of keys, over all heads. */
static void pack_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    int64_t heads = c->in[Q].dim[2], depth = c->in[Q].dim[3], n_k = c->in[K].dim[1];
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / pairs_of(n_k), pair = i % pairs_of(n_k), key = 2 * pair;
        nn_attn_rows k = nn_attn_rows_at(&c->in[K], head / heads, head % heads);
        nn_attn_rows v = nn_attn_rows_at(&c->in[V], head / heads, head % heads);
        packed to = packed_at(c, head);
        const float *x = v.x + key * v.stride;
        for (int64_t t = key; t < nn_min(key + 2, n_k); t++)
            nn_pack_pairs(k.x + t * k.stride, depth, to.k + t * pairs_of(depth));
        pack_values(x, key + 1 < n_k ? x + v.stride : NULL, depth, to.v + pair * depth);
    }
}

/* -- queries */

/* [pairs of D][columns] pairs of features. */
NN_BF16_TARGET static void pack(const nn_attn_head *at, const nn_attn_group *g)
{
    int64_t depth = at->depth;
    nn_attn_pack(nn_attn_rows_from(at->q, g->first), g->n, depth, 1, g->panel);
    for (int64_t d = 0; d < depth; d += 2)
        for (int v = 0; v < g->vecs; v++) {
            const float *a = g->panel + d * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_vf b = d + 1 < depth ? nn_load(a + NN_ATTN_COLUMNS) : nn_set(0);
            nn_store(g->panel + d / 2 * NN_ATTN_COLUMNS + v * NN_LANES,
                     (nn_vf)nn_pair_up(nn_load(a), b));
        }
}

/* -- the two products: as in attention_tile.h, by pairs */

NN_BF16_INLINE void dot_tile(int n, int vecs, const int32_t *k, int64_t pairs, const float *panel,
                             float *scores)
{
    nn_vf acc[NN_ATTN_TILE][2];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++) acc[i][v] = nn_set(0);
    for (int64_t d = 0; d < pairs; d++) {
        nn_vf column[2];
        for (int v = 0; v < vecs; v++)
            column[v] = nn_load(panel + d * NN_ATTN_COLUMNS + v * NN_LANES);
        for (int i = 0; i < n; i++) {
            nn_vi x = nn_set_pair(k + i * pairs + d);
            for (int v = 0; v < vecs; v++) acc[i][v] = nn_dot_pairs(acc[i][v], (nn_vi)column[v], x);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            nn_store(scores + i * NN_ATTN_COLUMNS + v * NN_LANES, acc[i][v]);
}

NN_BF16_INLINE void sum_tile(int n, int vecs, const int32_t *x, int64_t stride, const float *p,
                             int64_t pairs, float *out)
{
    nn_vf acc[NN_ATTN_TILE][2];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            acc[i][v] = nn_load(out + i * NN_ATTN_COLUMNS + v * NN_LANES);
    for (int64_t t = 0; t < pairs; t++) {
        nn_vf column[2];
        for (int v = 0; v < vecs; v++) column[v] = nn_load(p + t * NN_ATTN_COLUMNS + v * NN_LANES);
        for (int i = 0; i < n; i++) {
            nn_vi value = nn_set_pair(x + t * stride + i);
            for (int v = 0; v < vecs; v++)
                acc[i][v] = nn_dot_pairs(acc[i][v], (nn_vi)column[v], value);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vecs; v++)
            nn_store(out + i * NN_ATTN_COLUMNS + v * NN_LANES, acc[i][v]);
}

NN_BF16_TARGET static void dot(const int32_t *k, int64_t keys, const float *panel, int64_t pairs,
                               int vecs, float *scores)
{
    for (int64_t t = 0; t < keys;) {
        int n = nn_attn_cut(keys - t);
        NN_ATTN_SWITCH(n, vecs, dot_tile, k + t * pairs, pairs, panel, scores + t * NN_ATTN_COLUMNS)
        t += n;
    }
}

NN_BF16_TARGET static void sum(const int32_t *x, int64_t pairs, const float *p, int64_t depth,
                               int vecs, float *acc)
{
    for (int64_t d = 0; d < depth;) {
        int n = nn_attn_cut(depth - d);
        NN_ATTN_SWITCH(n, vecs, sum_tile, x + d, depth, p, pairs, acc + d * NN_ATTN_COLUMNS)
        d += n;
    }
}

/* -- softmax */

/* 2^x for x <= 0, 0 far below: largest error 3e-6 of the value, far below what rounding to bf16
 * makes of it. */
NN_BF16_INLINE nn_vf power(nn_vf x)
{
    __asm__("" : "+v"(x));                           /* as in nn_attn_exp2 */
    nn_vf r = (nn_vf)_mm512_reduce_ps((__m512)x, 1); /* x - floor(x) */
    nn_vf p = nn_set(1.342668306e-2f);
    p = p * r + 5.224247621e-2f;
    p = p * r + 2.412802039e-1f;
    p = p * r + 6.930448450e-1f;
    p = p * r + 1.0f;
    return (nn_vf)_mm512_scalef_ps((__m512)p, (__m512)x); /* p * 2^floor(x) */
}

/* Turn n rows of scores into pairs of rows of 2^(scale * score - largest), in their place, and
 * scale down what was summed under a smaller maximum. */
NN_BF16_TARGET static void softmax_block(const nn_attn_group *g, int64_t n, int64_t depth,
                                         float scale, float *scores)
{
    for (int v = 0; v < g->vecs; v++) {
        float *column = scores + v * NN_LANES;
        nn_vf before = nn_load(g->largest + v * NN_LANES), largest = nn_load(column);
        for (int64_t j = 1; j < n; j++)
            largest = nn_vmax(largest, nn_load(column + j * NN_ATTN_COLUMNS));
        largest = nn_vmax(before, largest * scale);
        nn_vf total = nn_set(0);
        for (int64_t j = 0; j < n; j += 2) {
            const float *x = column + j * NN_ATTN_COLUMNS;
            nn_vf a = power(nn_load(x) * scale - largest), b = nn_set(0);
            if (j + 1 < n) b = power(nn_load(x + NN_ATTN_COLUMNS) * scale - largest);
            total += a + b;
            nn_store(column + j / 2 * NN_ATTN_COLUMNS, (nn_vf)nn_pair_up(a, b));
        }
        nn_attn_rescale(g, v, depth, largest, power(before - largest), total);
    }
}

/* Turn a tile of scores into pairs of rows of powers under the maximum so far, in `to`. */
NN_BF16_INLINE void powers(const nn_attn_group *g, int vecs, float scale, const float *scores,
                           float *to, nn_attn_total *total)
{
    for (int v = 0; v < vecs; v++) {
        nn_vf largest = nn_load(g->largest + v * NN_LANES);
        nn_vf excess = total->excess[v], sum = total->sum[v];
        for (int i = 0; i < NN_ATTN_TILE; i += 2) {
            const float *at = scores + i * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_vf x = nn_load(at) * scale - largest;
            nn_vf y = nn_load(at + NN_ATTN_COLUMNS) * scale - largest;
            nn_vf a = power(x), b = power(y);
            excess = nn_vmax(excess, nn_vmax(x, y));
            sum += a + b;
            nn_store(to + i / 2 * NN_ATTN_COLUMNS + v * NN_LANES, (nn_vf)nn_pair_up(a, b));
        }
        total->excess[v] = excess;
        total->sum[v] = sum;
    }
}

/* Powers of a full block under the maximum so far; false: they are of no use. */
NN_BF16_INLINE bool powers_block(const int32_t *k, const nn_attn_group *g, int vecs, int64_t half,
                                 float scale, float *scores)
{
    nn_attn_total total = nn_attn_total_begin();
    for (int t = 0; t < NN_ATTN_BLOCK; t += NN_ATTN_TILE) {
        float *at = scores + t * NN_ATTN_COLUMNS;
        dot_tile(NN_ATTN_TILE, vecs, k + t * half, half, g->panel, at);
        powers(g, vecs, scale, at, scores + t / 2 * NN_ATTN_COLUMNS, &total);
    }
    return nn_attn_accept(g, vecs, &total);
}

NN_BF16_TARGET static bool try_block(const int32_t *k, const nn_attn_group *g, int64_t half,
                                     float scale, float *scores)
{
    return g->vecs == 2 ? powers_block(k, g, 2, half, scale, scores)
                        : powers_block(k, g, 1, half, scale, scores);
}

NN_BF16_TARGET static void add(const nn_attn_head *at, const nn_attn_group *g, int64_t key,
                               int64_t n, float *scores)
{
    packed x = packed_at(at->c, at->number);
    int64_t depth = at->depth, half = pairs_of(depth);
    const int32_t *k = x.k + key * half;
    float scale = (float)at->p->scale * NN_ATTN_LOG2_E;
    if (!nn_attn_settled(at, g, key, n) || !try_block(k, g, half, scale, scores)) {
        dot(k, n, g->panel, half, g->vecs, scores);
        NN_CPU_NAME(attention_hide)(at, g, key, n, scores);
        softmax_block(g, n, depth, scale, scores);
    }
    sum(x.v + key / 2 * depth, pairs_of(n), scores, depth, g->vecs, g->acc);
}

/* Fewer queries do not repay the rounding of the keys. Scores are scaled after they were compared
 * and hidden, which the limits of the scale allow. */
bool NN_CPU_NAME(attention_bf16_accepts)(const nn_call *c)
{
    const nn_attention_params *p = c->params;
    return c->arithmetic == NN_BF16 && c->frozen && __builtin_cpu_supports("avx512bf16") &&
           c->in[Q].dim[1] >= NN_LANES && p->scale > 1e-6 && p->scale < 1e6 &&
           NN_CPU_NAME(attention_flash_accepts)(c);
}

size_t NN_CPU_NAME(attention_bf16_workspace)(const nn_call *c)
{
    int64_t heads = c->in[Q].dim[0] * c->in[Q].dim[2];
    return NN_CPU_NAME(attention_flash_workspace)(c) +
           (size_t)(heads * packed_pairs(c)) * sizeof(int32_t);
}

nn_status NN_CPU_NAME(attention_bf16_run)(const nn_call *c)
{
    static const nn_attn_way bf16 = { 2, pack, add, NULL };
    int64_t heads = c->in[Q].dim[0] * c->in[Q].dim[2];
    nn_pool_for(c->pool, heads * pairs_of(c->in[K].dim[1]), 64, pack_range, (void *)c);
    NN_CPU_NAME(attention_flash_run)(c, &bf16);
    return NN_OK;
}
#endif
