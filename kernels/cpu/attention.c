/* Attention, forward.
 *
 * attention_f32_flash: a thread owns up to GROUPS groups of NN_ATTN_COLUMNS queries of one head,
 * one query per lane, and walks over the keys in blocks of BLOCK: scores, running maximum and
 * denominator, weighted sum of values. Only one block of scores exists, in the first-level cache;
 * the groups share a block of keys and values while it is in the second-level cache. */
#include <math.h>

#include "kernels/cpu/attention_decode.h"
#include "kernels/cpu/attention_tile.h"

enum { BLOCK = 10 * NN_ATTN_TILE, GROUPS = 4 };

static const float HIDDEN = -1e30f; /* a score that is not seen: 2^(HIDDEN - largest) is 0 */
static const float LOWEST = -1e20f; /* a maximum while nothing has been seen */
static const float LOG2_E = 1.44269504f, LN_2 = 0.69314718f;

enum { Q, K, V, MASK };
enum { Y, LSE };

/* Queries [first, first + n) of a head, and their share of the thread's scratch. */
typedef struct group {
    int64_t first, n;
    int vecs;
    int64_t end;          /* none of them sees a key from here on */
    float *panel;         /* [D][columns] queries times scale * log2(e) */
    float *acc;           /* [D][columns] sum of p * v, not yet divided */
    float *largest, *sum; /* [columns] */
} group;

static int64_t group_floats(int64_t depth)
{
    return 2 * (depth + 1) * NN_ATTN_COLUMNS;
}

static int64_t scratch_floats(int64_t depth)
{
    return BLOCK * NN_ATTN_COLUMNS + GROUPS * group_floats(depth);
}

/* One head of one sample. */
typedef struct head {
    const nn_attention_params *p;
    nn_attn_rows q, k, v;
    int64_t b, h, n_q, n_k, depth;
    const int32_t *key_mask; /* NULL = all */
    int64_t mask_stride;
} head;

static head head_of(const nn_call *c, int64_t number)
{
    const nn_view *q = &c->in[Q], *mask = &c->in[MASK];
    int64_t b = number / q->dim[2], h = number % q->dim[2];
    head at = { .p = c->params,
                .q = nn_attn_rows_at(q, b, h),
                .k = nn_attn_rows_at(&c->in[K], b, h),
                .v = nn_attn_rows_at(&c->in[V], b, h),
                .b = b,
                .h = h,
                .n_q = q->dim[1],
                .n_k = c->in[K].dim[1],
                .depth = q->dim[3] };
    if (nn_present(mask)) {
        at.key_mask = (const int32_t *)mask->data + b * mask->stride[0];
        at.mask_stride = mask->stride[1];
    }
    return at;
}

static group group_begin(const head *at, int64_t first, float *scratch)
{
    const int64_t w = NN_ATTN_COLUMNS;
    group g = { .first = first, .n = nn_min(at->n_q - first, w), .panel = scratch };
    g.vecs = nn_attn_vecs(g.n);
    g.end = nn_attn_reach(at->p, first + g.n - 1, at->n_q, at->n_k);
    g.acc = g.panel + at->depth * w;
    g.largest = g.acc + at->depth * w;
    g.sum = g.largest + w;
    nn_attn_pack(nn_attn_rows_from(at->q, first), g.n, at->depth, (float)at->p->scale * LOG2_E,
                 g.panel);
    memset(g.acc, 0, (size_t)(at->depth * w) * sizeof(float));
    for (int i = 0; i < w; i++) g.largest[i] = LOWEST, g.sum[i] = 0;
    return g;
}

static bool sees_all(const head *at, const group *g, int64_t key_end)
{
    return !at->key_mask && key_end <= nn_attn_reach(at->p, g->first, at->n_q, at->n_k);
}

/* Replace the scores of keys [key, key + n) where a query does not see them. */
static void hide(const head *at, const group *g, int64_t key, int64_t n, float *scores)
{
    nn_vi reach[2];
    for (int v = 0; v < g->vecs; v++)
        for (int i = 0; i < NN_LANES; i++)
            reach[v][i] =
                (int32_t)nn_attn_reach(at->p, g->first + v * NN_LANES + i, at->n_q, at->n_k);
    for (int64_t j = 0; j < n; j++) {
        bool masked = at->key_mask && at->key_mask[(key + j) * at->mask_stride] == 0;
        nn_vi place = (nn_vi){ 0 } + (masked ? INT32_MAX : (int32_t)(key + j));
        for (int v = 0; v < g->vecs; v++) {
            float *p = scores + j * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_store(p, nn_select(place < reach[v], nn_load(p), nn_set(HIDDEN)));
        }
    }
}

/* Turn n rows of scores into 2^(score - largest), and scale down what was summed under a smaller
 * maximum. */
static void softmax_block(const group *g, int64_t n, int64_t depth, float *scores)
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
        nn_vf factor = nn_attn_exp2(before - largest);
        nn_store(g->largest + v * NN_LANES, largest);
        nn_store(g->sum + v * NN_LANES, nn_load(g->sum + v * NN_LANES) * factor + sum);
        for (int64_t d = 0; d < depth; d++) {
            float *a = g->acc + d * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_store(a, nn_load(a) * factor);
        }
    }
}

static void attend_block(const head *at, const group *g, int64_t key, float *scores)
{
    int64_t n = nn_min(g->end - key, BLOCK);
    if (n <= 0) return;
    nn_attn_dot(nn_attn_rows_from(at->k, key), n, g->panel, at->depth, g->vecs, scores);
    if (!sees_all(at, g, key + n)) hide(at, g, key, n, scores);
    softmax_block(g, n, at->depth, scores);
    nn_attn_sum(nn_attn_rows_from(at->v, key), n, scores, at->depth, g->vecs, g->acc);
}

/* y = acc / sum, lse = log(sum), or what stands for a query that sees nothing. */
static void group_finish(const nn_call *c, const head *at, const group *g)
{
    int64_t heads = c->in[Q].dim[2];
    float *lse = (float *)c->out[LSE].data + (at->b * heads + at->h) * at->n_q + g->first;
    for (int64_t i = 0; i < g->n; i++)
        lse[i] = g->sum[i] > 0 ? g->largest[i] * LN_2 + logf(g->sum[i]) : -INFINITY;
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) g->sum[i] = g->sum[i] > 0 ? 1 / g->sum[i] : 0;
    float *y = (float *)c->out[Y].data + ((at->b * at->n_q + g->first) * heads + at->h) * at->depth;
    nn_attn_unpack(g->acc, g->n, at->depth, g->sum, y, heads * at->depth);
}

typedef struct job {
    const nn_call *c;
    int64_t items;    /* per head: runs of groups */
    int64_t per_item; /* queries of one */
} job;

static void attend_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    int64_t depth = j->c->in[Q].dim[3];
    float *scores = (float *)j->c->workspace + thread * scratch_floats(depth);
    for (int64_t i = begin; i < end; i++) {
        head at = head_of(j->c, i / j->items);
        int64_t first = i % j->items * j->per_item, last = nn_min(first + j->per_item, at.n_q);
        group groups[GROUPS];
        int n = 0;
        for (; first < last; first += NN_ATTN_COLUMNS, n++)
            groups[n] =
                group_begin(&at, first, scores + BLOCK * NN_ATTN_COLUMNS + n * group_floats(depth));
        NN_ASSERT(n > 0);
        for (int64_t key = 0; key < groups[n - 1].end; key += BLOCK)
            for (int g = 0; g < n; g++) attend_block(&at, &groups[g], key, scores);
        for (int g = 0; g < n; g++) group_finish(j->c, &at, &groups[g]);
    }
}

static bool accepts(const nn_call *c)
{
    return nn_attn_operand(&c->in[Q]) && nn_attn_operand(&c->in[K]) && nn_attn_operand(&c->in[V]) &&
           nn_view_contiguous(&c->out[Y]) && nn_view_contiguous(&c->out[LSE]) &&
           c->in[K].dim[1] < INT32_MAX;
}

static size_t workspace(const nn_call *c)
{
    return (size_t)(nn_pool_threads(c->pool) * scratch_floats(c->in[Q].dim[3])) * sizeof(float);
}

static nn_status run(const nn_call *c)
{
    const nn_view *q = &c->in[Q];
    int64_t heads = q->dim[0] * q->dim[2];
    int64_t groups = (q->dim[1] + NN_ATTN_COLUMNS - 1) / NN_ATTN_COLUMNS;
    int64_t share = heads * groups / (4 * nn_pool_threads(c->pool)); /* four items a thread */
    job j = { .c = c, .per_item = nn_max(nn_min(share, GROUPS), 1) * NN_ATTN_COLUMNS };
    j.items = (q->dim[1] + j.per_item - 1) / j.per_item;
    nn_pool_for(c->pool, heads * j.items, 1, attend_range, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(attention)[] = {
    { .name = "attention_f32_decode",
      .accepts = NN_CPU_NAME(attention_decode_accepts),
      .run = NN_CPU_NAME(attention_decode_run),
      .workspace = NN_CPU_NAME(attention_decode_workspace) },
    { .name = "attention_f32_flash", .accepts = accepts, .run = run, .workspace = workspace },
    { 0 }
};
