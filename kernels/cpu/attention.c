/* Attention, forward: attention_f32_flash. See attention_flash.h. */
#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/attention_decode.h"
#include "kernels/cpu/attention_flash.h"

/* Turn n rows of scores into 2^(score - largest), and scale down what was summed under a smaller
 * maximum. */
static void softmax_block(const nn_attn_group *g, int64_t n, int64_t depth, float *scores)
{
    for (int v = 0; v < g->vecs; v++) {
        float *column = scores + v * NN_LANES;
        nn_vf before = nn_load(g->largest + v * NN_LANES), largest = before, sum = nn_set(0);
        for (int64_t j = 0; j < n; j++)
            largest = nn_vmax(largest, nn_load(column + j * NN_ATTN_COLUMNS));
        for (int64_t j = 0; j < n; j++) {
            nn_vf p = nn_attn_exp2(nn_load(column + j * NN_ATTN_COLUMNS) - largest);
            sum += p;
            nn_store(column + j * NN_ATTN_COLUMNS, p);
        }
        nn_attn_rescale(g, v, depth, largest, nn_attn_exp2(before - largest), sum);
    }
}

/* Turn a tile of scores, less the maximum, into powers. */
NN_INLINE void powers(int vecs, float *scores, nn_attn_total *total)
{
    for (int v = 0; v < vecs; v++) {
        nn_vf excess = total->excess[v], sum = total->sum[v];
        for (int i = 0; i < NN_ATTN_TILE; i++) {
            float *at = scores + i * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_vf x = nn_load(at), p = nn_attn_exp2(x);
            excess = nn_vmax(excess, x);
            sum += p;
            nn_store(at, p);
        }
        total->excess[v] = excess;
        total->sum[v] = sum;
    }
}

/* Powers of a full block under the maximum so far; false: they are of no use. */
NN_INLINE bool powers_block(nn_attn_rows k, const nn_attn_group *g, int vecs, int64_t depth,
                            float *scores)
{
    nn_attn_total total = nn_attn_total_begin();
    for (int t = 0; t < NN_ATTN_BLOCK; t += NN_ATTN_TILE) {
        float *at = scores + t * NN_ATTN_COLUMNS;
        nn_attn_dot_tile(NN_ATTN_TILE, vecs, nn_attn_rows_from(k, t), g->panel, depth, g->largest,
                         at);
        powers(vecs, at, &total);
    }
    return nn_attn_accept(g, vecs, &total);
}

static bool try_block(nn_attn_rows k, const nn_attn_group *g, int64_t depth, float *scores)
{
    return g->vecs == 2 ? powers_block(k, g, 2, depth, scores)
                        : powers_block(k, g, 1, depth, scores);
}

static void add(const nn_attn_head *at, const nn_attn_group *g, int64_t key, int64_t n,
                float *scores)
{
    nn_attn_rows k = nn_attn_rows_from(at->k, key);
    if (!nn_attn_settled(at, g, key, n) || !try_block(k, g, at->depth, scores)) {
        nn_attn_dot(k, n, g->panel, at->depth, g->vecs, scores);
        NN_CPU_NAME(attention_hide)(at, g, key, n, scores);
        softmax_block(g, n, at->depth, scores);
    }
    nn_attn_sum(nn_attn_rows_from(at->v, key), n, scores, at->depth, g->vecs, g->acc);
}

/* Scores come out to base 2. */
static void pack(const nn_attn_head *at, const nn_attn_group *g)
{
    nn_attn_pack(nn_attn_rows_from(at->q, g->first), g->n, at->depth,
                 (float)at->p->scale * NN_ATTN_LOG2_E, g->panel);
}

static void fetch_row(const float *x, int64_t depth)
{
    const int64_t line = 64 / sizeof(*x);
    for (int64_t d = 0; d < depth; d += line) __builtin_prefetch(x + d, 0, 2);
    __builtin_prefetch(x + depth - 1, 0, 2);
}

/* Rows of a head lie too far apart for the processor to see them coming. */
static void fetch(const nn_attn_head *at, int64_t first, int64_t end)
{
    for (int64_t key = first; key < nn_min(end, at->n_k); key++) {
        fetch_row(at->k.x + key * at->k.stride, at->depth);
        fetch_row(at->v.x + key * at->v.stride, at->depth);
    }
}

static nn_status run(const nn_call *c)
{
    static const nn_attn_way f32 = { 1, pack, add, fetch };
    NN_CPU_NAME(attention_flash_run)(c, &f32);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(attention)[] = {
    { .name = "attention_f32_decode",
      .accepts = NN_CPU_NAME(attention_decode_accepts),
      .run = NN_CPU_NAME(attention_decode_run),
      .workspace = NN_CPU_NAME(attention_decode_workspace) },
#ifdef NN_CPU_BF16
    { .name = "attention_bf16_flash",
      .accepts = NN_CPU_NAME(attention_bf16_accepts),
      .run = NN_CPU_NAME(attention_bf16_run),
      .workspace = NN_CPU_NAME(attention_bf16_workspace) },
#endif
    { .name = "attention_f32_flash",
      .accepts = NN_CPU_NAME(attention_flash_accepts),
      .run = run,
      .workspace = NN_CPU_NAME(attention_flash_workspace) },
    { 0 }
};
