/* The walk over heads, queries and blocks of keys: see attention_flash.h. */
#include "kernels/cpu/attention_flash.h"

#include <math.h>

enum { GROUPS = 8 };

static const float LN_2 = 0.69314718f;

enum { Q, K, V, MASK };
enum { Y, LSE };

static int64_t group_floats(int64_t depth)
{
    return 2 * (depth + 1) * NN_ATTN_COLUMNS;
}

static int64_t scratch_floats(int64_t depth)
{
    return NN_ATTN_BLOCK * NN_ATTN_COLUMNS + GROUPS * group_floats(depth);
}

static nn_attn_head head_of(const nn_call *c, int64_t number)
{
    const nn_view *q = &c->in[Q], *mask = &c->in[MASK];
    int64_t b = number / q->dim[2], h = number % q->dim[2];
    nn_attn_head at = { .c = c,
                        .p = c->params,
                        .q = nn_attn_rows_at(q, b, h),
                        .k = nn_attn_rows_at(&c->in[K], b, h),
                        .v = nn_attn_rows_at(&c->in[V], b, h),
                        .number = number,
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

static nn_attn_group group_begin(const nn_attn_head *at, int64_t first, float *scratch)
{
    const int64_t w = NN_ATTN_COLUMNS;
    nn_attn_group g = { .first = first, .n = nn_min(at->n_q - first, w), .panel = scratch };
    g.vecs = nn_attn_vecs(g.n);
    g.end = nn_attn_reach(at->p, first + g.n - 1, at->n_q, at->n_k);
    g.acc = g.panel + at->depth * w;
    g.largest = g.acc + at->depth * w;
    g.sum = g.largest + w;
    memset(g.acc, 0, (size_t)(at->depth * w) * sizeof(float));
    for (int i = 0; i < w; i++) g.largest[i] = NN_ATTN_LOWEST, g.sum[i] = 0;
    return g;
}

void NN_CPU_NAME(attention_hide)(const nn_attn_head *at, const nn_attn_group *g, int64_t key,
                                 int64_t n, float *scores)
{
    if (!nn_attn_hides(at, g, key + n)) return;
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
            nn_store(p, nn_select(place < reach[v], nn_load(p), nn_set(NN_ATTN_HIDDEN)));
        }
    }
}

/* y = acc / sum, lse = log(sum), or what stands for a query that sees nothing. */
static void group_finish(const nn_attn_head *at, const nn_attn_group *g)
{
    const nn_call *c = at->c;
    int64_t heads = c->in[Q].dim[2];
    float *lse = (float *)c->out[LSE].data + at->number * at->n_q + g->first;
    for (int64_t i = 0; i < g->n; i++)
        lse[i] = g->sum[i] > 0 ? g->largest[i] * LN_2 + logf(g->sum[i]) : -INFINITY;
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) g->sum[i] = g->sum[i] > 0 ? 1 / g->sum[i] : 0;
    float *y = (float *)c->out[Y].data + ((at->b * at->n_q + g->first) * heads + at->h) * at->depth;
    nn_attn_unpack(g->acc, g->n, at->depth, g->sum, y, heads * at->depth);
}

/* So many keys that the others fill their blocks, or up to grain - 1 more. */
static int64_t first_block(int64_t keys, int64_t grain)
{
    int64_t rest = (keys + grain - 1) / grain * grain % NN_ATTN_BLOCK;
    return rest ? rest : NN_ATTN_BLOCK;
}

typedef struct job {
    const nn_call *c;
    const nn_attn_way *way;
    int64_t items;    /* per head: runs of groups */
    int64_t per_item; /* queries of one */
} job;

/* Each group in its turn, and a share of the next block's keys on its way. */
static void attend_block(const nn_attn_way *way, const nn_attn_head *at,
                         const nn_attn_group *groups, int n, int64_t key, int64_t size,
                         float *scores)
{
    for (int g = 0; g < n; g++) {
        if (key >= groups[g].end) continue;
        if (way->fetch)
            way->fetch(at, key + size + g * NN_ATTN_BLOCK / n,
                       key + size + (g + 1) * NN_ATTN_BLOCK / n);
        way->add(at, &groups[g], key, nn_min(groups[g].end - key, size), scores);
    }
}

static void attend_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    int64_t depth = j->c->in[Q].dim[3];
    float *scores = (float *)j->c->workspace + thread * scratch_floats(depth);
    for (int64_t i = begin; i < end; i++) {
        nn_attn_head at = head_of(j->c, i / j->items);
        int64_t first = i % j->items * j->per_item, last = nn_min(first + j->per_item, at.n_q);
        nn_attn_group groups[GROUPS];
        int n = 0;
        for (; first < last; first += NN_ATTN_COLUMNS, n++) {
            groups[n] = group_begin(
                &at, first, scores + NN_ATTN_BLOCK * NN_ATTN_COLUMNS + n * group_floats(depth));
            j->way->pack(&at, &groups[n]);
        }
        NN_ASSERT(n > 0);
        int64_t size = first_block(groups[n - 1].end, j->way->grain);
        for (int64_t key = 0; key < groups[n - 1].end; key += size, size = NN_ATTN_BLOCK)
            attend_block(j->way, &at, groups, n, key, size, scores);
        for (int g = 0; g < n; g++) group_finish(&at, &groups[g]);
    }
}

bool NN_CPU_NAME(attention_flash_accepts)(const nn_call *c)
{
    return nn_attn_operand(&c->in[Q]) && nn_attn_operand(&c->in[K]) && nn_attn_operand(&c->in[V]) &&
           nn_view_contiguous(&c->out[Y]) && nn_view_contiguous(&c->out[LSE]) &&
           c->in[K].dim[1] < INT32_MAX;
}

size_t NN_CPU_NAME(attention_flash_workspace)(const nn_call *c)
{
    size_t floats = (size_t)(nn_pool_threads(c->pool) * scratch_floats(c->in[Q].dim[3]));
    return (floats * sizeof(float) + 63) / 64 * 64;
}

void NN_CPU_NAME(attention_flash_run)(const nn_call *c, const nn_attn_way *way)
{
    const nn_view *q = &c->in[Q];
    int64_t heads = q->dim[0] * q->dim[2];
    int64_t groups = (q->dim[1] + NN_ATTN_COLUMNS - 1) / NN_ATTN_COLUMNS;
    int64_t share = heads * groups / (4 * nn_pool_threads(c->pool)); /* four items a thread */
    job j = { .c = c, .way = way };
    j.per_item = nn_max(nn_min(share, GROUPS), 1) * NN_ATTN_COLUMNS;
    j.items = (q->dim[1] + j.per_item - 1) / j.per_item;
    nn_pool_for(c->pool, heads * j.items, 1, attend_range, &j);
}
