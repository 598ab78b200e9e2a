/* Attention, forward.
 *
 * attention_f32_flash: a thread owns NN_ATTN_COLUMNS queries of one head at a time, one per lane,
 * and walks over the keys in blocks of BLOCK: scores, running maximum and denominator, weighted sum
 * of values. Only one block of scores exists, in the first-level cache. */
#include "kernels/cpu/attention_tile.h"

#include <math.h>

enum { BLOCK = 10 * NN_ATTN_TILE };

static const float HIDDEN = -1e30f; /* a score that is not seen: 2^(HIDDEN - largest) is 0 */
static const float LOWEST = -1e20f; /* a maximum while nothing has been seen */
static const float LOG2_E = 1.44269504f, LN_2 = 0.69314718f;

enum { Q, K, V, MASK };
enum { Y, LSE };

/* Scratch of one thread. */
typedef struct scratch {
    float *panel;                  /* [D][columns] queries times scale * log2(e) */
    float *acc;                    /* [D][columns] sum of p * v, not yet divided */
    float *scores;                 /* [BLOCK][columns] */
    float *largest, *sum, *factor; /* [columns] */
} scratch;

static int64_t scratch_floats(int64_t depth)
{
    return (2 * depth + BLOCK + 3) * NN_ATTN_COLUMNS;
}

static scratch scratch_at(float *p, int64_t depth)
{
    const int64_t w = NN_ATTN_COLUMNS;
    scratch s = { .panel = p, .acc = p + depth * w, .scores = p + 2 * depth * w };
    s.largest = s.scores + BLOCK * w;
    s.sum = s.largest + w;
    s.factor = s.sum + w;
    return s;
}

/* One group of queries: which keys they may see. */
typedef struct sight {
    const nn_attention_params *p;
    int64_t n_q, n_k, first; /* first query of the group */
    const int32_t *key_mask; /* of this sample; NULL = all */
    int64_t mask_stride;
} sight;

static bool sees_all(const sight *s, int64_t key_end)
{
    return !s->key_mask && key_end <= nn_attn_reach(s->p, s->first, s->n_q, s->n_k);
}

/* Replace what queries of the group do not see of the keys [key, key + n). */
static void hide(const sight *s, int64_t key, int64_t n, int vecs, float *scores)
{
    nn_vi reach[2];
    for (int v = 0; v < vecs; v++)
        for (int i = 0; i < NN_LANES; i++)
            reach[v][i] = (int32_t)nn_attn_reach(s->p, s->first + v * NN_LANES + i, s->n_q, s->n_k);
    for (int64_t j = 0; j < n; j++) {
        bool masked = s->key_mask && s->key_mask[(key + j) * s->mask_stride] == 0;
        nn_vi at = (nn_vi){ 0 } + (masked ? INT32_MAX : (int32_t)(key + j));
        for (int v = 0; v < vecs; v++) {
            float *p = scores + j * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_store(p, nn_select(at < reach[v], nn_load(p), nn_set(HIDDEN)));
        }
    }
}

/* Turn n rows of scores into 2^(score - largest), and scale down what was summed under a smaller
 * maximum. */
static void softmax_block(const scratch *s, int64_t n, int64_t depth, int vecs)
{
    for (int v = 0; v < vecs; v++) {
        float *column = s->scores + v * NN_LANES;
        nn_vf before = nn_load(s->largest + v * NN_LANES), largest = before, sum = nn_set(0);
        for (int64_t j = 0; j < n; j++)
            largest = nn_vmax(largest, nn_load(column + j * NN_ATTN_COLUMNS));
        for (int64_t j = 0; j < n; j++) {
            nn_vf p = nn_attn_exp2(nn_load(column + j * NN_ATTN_COLUMNS) - largest);
            sum += p;
            nn_store(column + j * NN_ATTN_COLUMNS, p);
        }
        nn_vf factor = nn_attn_exp2(before - largest);
        nn_store(s->largest + v * NN_LANES, largest);
        nn_store(s->sum + v * NN_LANES, nn_load(s->sum + v * NN_LANES) * factor + sum);
        for (int64_t d = 0; d < depth; d++) {
            float *a = s->acc + d * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_store(a, nn_load(a) * factor);
        }
    }
}

typedef struct job {
    const nn_call *c;
    int64_t groups; /* of queries in a head */
} job;

/* y = acc / sum, lse = log(sum), or what stands for a query that sees nothing. */
static void finish_group(const nn_call *c, const scratch *s, int64_t b, int64_t h, int64_t first,
                         int64_t n)
{
    const nn_view *y = &c->out[Y];
    int64_t n_q = y->dim[1], heads = y->dim[2], depth = y->dim[3];
    float *lse = (float *)c->out[LSE].data + (b * heads + h) * n_q + first;
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) s->factor[i] = s->sum[i] > 0 ? 1 / s->sum[i] : 0;
    for (int64_t i = 0; i < n; i++)
        lse[i] = s->sum[i] > 0 ? s->largest[i] * LN_2 + logf(s->sum[i]) : -INFINITY;
    nn_attn_unpack(s->acc, n, depth, s->factor,
                   (float *)y->data + ((b * n_q + first) * heads + h) * depth, heads * depth);
}

static void attend_group(const nn_call *c, const scratch *s, int64_t b, int64_t h, int64_t first)
{
    const nn_attention_params *p = c->params;
    const nn_view *q = &c->in[Q], *mask = &c->in[MASK];
    int64_t depth = q->dim[3], n = nn_min(q->dim[1] - first, NN_ATTN_COLUMNS);
    int vecs = nn_attn_vecs(n);
    nn_attn_rows k = nn_attn_rows_at(&c->in[K], b, h), v = nn_attn_rows_at(&c->in[V], b, h);
    sight see = { .p = p, .n_q = q->dim[1], .n_k = c->in[K].dim[1], .first = first };
    if (nn_present(mask)) {
        see.key_mask = (const int32_t *)mask->data + b * mask->stride[0];
        see.mask_stride = mask->stride[1];
    }
    nn_attn_pack(nn_attn_rows_from(nn_attn_rows_at(q, b, h), first), n, depth,
                 (float)p->scale * LOG2_E, s->panel);
    memset(s->acc, 0, (size_t)(depth * NN_ATTN_COLUMNS) * sizeof(float));
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) s->largest[i] = LOWEST, s->sum[i] = 0;

    int64_t end = nn_attn_reach(p, first + n - 1, see.n_q, see.n_k);
    for (int64_t key = 0; key < end; key += BLOCK) {
        int64_t keys = nn_min(end - key, BLOCK);
        nn_attn_dot(nn_attn_rows_from(k, key), keys, s->panel, depth, vecs, s->scores);
        if (!sees_all(&see, key + keys)) hide(&see, key, keys, vecs, s->scores);
        softmax_block(s, keys, depth, vecs);
        nn_attn_sum(nn_attn_rows_from(v, key), keys, s->scores, depth, vecs, s->acc);
    }
    finish_group(c, s, b, h, first, n);
}

static void attend_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    const nn_view *q = &j->c->in[Q];
    int64_t depth = q->dim[3];
    scratch s = scratch_at((float *)j->c->workspace + thread * scratch_floats(depth), depth);
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / j->groups, group = i % j->groups;
        attend_group(j->c, &s, head / q->dim[2], head % q->dim[2], group * NN_ATTN_COLUMNS);
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
    job j = { .c = c, .groups = (q->dim[1] + NN_ATTN_COLUMNS - 1) / NN_ATTN_COLUMNS };
    nn_pool_for(c->pool, q->dim[0] * q->dim[2] * j.groups, 1, attend_range, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(attention)[] = {
    { .name = "attention_f32_flash", .accepts = accepts, .run = run, .workspace = workspace }, { 0 }
};
