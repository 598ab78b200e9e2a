/* Flash attention, forward, in two precisions: what attention.c and attention_bf16.c share.
 *
 * A thread owns up to GROUPS groups of NN_ATTN_COLUMNS queries of one head, one query per lane, and
 * walks over the keys in blocks of NN_ATTN_BLOCK: scores, running maximum and denominator, weighted
 * sum of values. Only one block of scores exists, in the first-level cache; the groups share a
 * block of keys and values while it is in the second-level cache.
 *
 * The maximum keeps powers finite, and any number near it does. So a full block takes the powers of
 * a tile of scores as soon as it is multiplied, under the maximum of the blocks before; nothing has
 * to be brought to another one. Only where a score exceeds that by NN_ATTN_EXCESS (to base 2) is
 * the block done again with its own. The first block is the one that is not full. */
#ifndef KERNELS_CPU_ATTENTION_FLASH_H
#define KERNELS_CPU_ATTENTION_FLASH_H

#include "kernels/cpu/attention_tile.h"

enum { NN_ATTN_BLOCK = 10 * NN_ATTN_TILE };

#define NN_ATTN_HIDDEN -1e30f /* a score that is not seen: 2^(it - largest) is 0 */
#define NN_ATTN_LOWEST -1e20f /* a maximum while nothing has been seen */
#define NN_ATTN_EXCESS 16.0f  /* what a score may exceed the maximum by before that is replaced */
#define NN_ATTN_LOG2_E 1.44269504f

/* One head of one sample. */
typedef struct nn_attn_head {
    const nn_call *c;
    const nn_attention_params *p;
    nn_attn_rows q, k, v;
    int64_t number, b, h, n_q, n_k, depth;
    const int32_t *key_mask; /* NULL = all */
    int64_t mask_stride;
} nn_attn_head;

/* Queries [first, first + n) of a head, and their share of the thread's scratch. */
typedef struct nn_attn_group {
    int64_t first, n;
    int vecs;
    int64_t end;          /* none of them sees a key from here on */
    float *panel;         /* [D][columns] queries, as the precision wants them */
    float *acc;           /* [D][columns] sum of p * v, not yet divided */
    float *largest, *sum; /* [columns] scores to base 2 */
} nn_attn_group;

/* A precision: how queries are laid out in the panel, how a block of n keys from `key` on is added
 * to a group, and how keys [first, end), of which there may be fewer, are brought near (NULL: they
 * lie without gaps, which needs no help). scores: [NN_ATTN_BLOCK][columns]. */
typedef struct nn_attn_way {
    int64_t grain; /* blocks begin at multiples of it */
    void (*pack)(const nn_attn_head *at, const nn_attn_group *g);
    void (*add)(const nn_attn_head *at, const nn_attn_group *g, int64_t key, int64_t n,
                float *scores);
    void (*fetch)(const nn_attn_head *at, int64_t first, int64_t end);
} nn_attn_way;

/* What lanes v of a group have summed, brought to a new maximum by factor = 2^(old - new), with the
 * total of the block that set it. */
NN_INLINE void nn_attn_rescale(const nn_attn_group *g, int v, int64_t depth, nn_vf largest,
                               nn_vf factor, nn_vf total)
{
    nn_store(g->largest + v * NN_LANES, largest);
    nn_store(g->sum + v * NN_LANES, nn_load(g->sum + v * NN_LANES) * factor + total);
    for (int64_t d = 0; d < depth; d++) {
        float *a = g->acc + d * NN_ATTN_COLUMNS + v * NN_LANES;
        nn_store(a, nn_load(a) * factor);
    }
}

/* Whether keys before `end` are hidden from some query of the group. */
NN_INLINE bool nn_attn_hides(const nn_attn_head *at, const nn_attn_group *g, int64_t end)
{
    return at->key_mask || end > nn_attn_reach(at->p, g->first, at->n_q, at->n_k);
}

/* Whether a block may be tried under the maximum of the blocks before it. */
NN_INLINE bool nn_attn_settled(const nn_attn_head *at, const nn_attn_group *g, int64_t key,
                               int64_t n)
{
    return key > 0 && n == NN_ATTN_BLOCK && !nn_attn_hides(at, g, key + n);
}

/* What the powers of a block come to. */
typedef struct nn_attn_total {
    nn_vf sum[2], excess[2]; /* excess: the largest score less the maximum */
} nn_attn_total;

NN_INLINE nn_attn_total nn_attn_total_begin(void)
{
    return (nn_attn_total){ .excess = { nn_set(NN_ATTN_LOWEST), nn_set(NN_ATTN_LOWEST) } };
}

/* Add it to the group; false: a score exceeds the maximum by too much. */
NN_INLINE bool nn_attn_accept(const nn_attn_group *g, int vecs, const nn_attn_total *t)
{
    for (int v = 0; v < vecs; v++)
        if (nn_hmax(t->excess[v]) > NN_ATTN_EXCESS) return false;
    for (int v = 0; v < vecs; v++)
        nn_store(g->sum + v * NN_LANES, nn_load(g->sum + v * NN_LANES) + t->sum[v]);
    return true;
}

/* Replace the scores of keys [key, key + n) where a query does not see them. */
void NN_CPU_NAME(attention_hide)(const nn_attn_head *at, const nn_attn_group *g, int64_t key,
                                 int64_t n, float *scores);

/* q, k and v in f32 with packed rows, results without gaps. */
bool NN_CPU_NAME(attention_flash_accepts)(const nn_call *c);

/* Bytes of scratch, a multiple of 64. A precision may ask for more and keep it behind these. */
size_t NN_CPU_NAME(attention_flash_workspace)(const nn_call *c);

void NN_CPU_NAME(attention_flash_run)(const nn_call *c, const nn_attn_way *way);

#endif
