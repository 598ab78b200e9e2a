/* Attention, backward.
 *
 * attention_bwd_f32_flash: a thread owns a run of keys of one head, takes NN_ATTN_COLUMNS of them
 * at a time, one per lane, and walks over the queries in blocks of BLOCK. Per block, from the saved
 * lse (everything to base 2):
 *     p = 2^(q k^T - lse)      dp = dy v^T      ds = p * (dp - rowsum(dy * y))
 *     dv += p^T dy             dk += ds^T q     dq += ds k
 * dk and dv stay with the tile of keys; dq is summed in the workspace, over the keys in order.
 * Where there are few heads the keys of one are split, each part with a dq of its own, and the
 * parts are added in order: the result depends on the number of threads, never on timing. Source:
 * Dao et al. 2022, algorithm 4. */
#include "kernels/cpu/attention_tile.h"

#include <math.h>

enum { BLOCK = 96 }; /* a multiple of NN_ATTN_COLUMNS and of the register tile */

static const float LOG2_E = 1.44269504f;
static const float NOTHING_SEEN = 1e30f; /* lse of such a query, so that its p are 0 */

enum { DY, Q, K, V, Y, LSE, MASK };
enum { DQ, DK, DV };

typedef struct job {
    const nn_call *c;
    int64_t n_q, n_k, heads, depth;
    int64_t splits;     /* parts of the keys of a head */
    int64_t tiles;      /* of keys in a head */
    int64_t dq_floats;  /* of one dq, [group of queries][D][columns] */
    int64_t own_floats; /* scratch of one thread */
    int threads;
} job;

/* Scratch of one thread. */
typedef struct scratch {
    float *k, *v;       /* [D][columns] panels of the tile of keys */
    float *dk, *dv;     /* [D][columns] */
    float *p, *ds;      /* [BLOCK][columns] */
    float *ds_t;        /* [columns of keys][columns of queries] */
    float *lse, *delta; /* [n_q] to base 2; rowsum(dy * y) */
} scratch;

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static job job_make(const nn_call *c)
{
    const nn_view *q = &c->in[Q];
    job j = { .c = c,
              .n_q = q->dim[1],
              .n_k = c->in[K].dim[1],
              .heads = q->dim[2],
              .depth = q->dim[3],
              .splits = 1,
              .threads = nn_pool_threads(c->pool) };
    int64_t all_heads = q->dim[0] * q->dim[2];
    j.tiles = ceil_div(j.n_k, NN_ATTN_COLUMNS);
    if (all_heads > 0 && all_heads % j.threads != 0 && all_heads < 4 * j.threads)
        j.splits = nn_max(nn_min(ceil_div(4 * j.threads, all_heads), j.tiles), 1);
    j.dq_floats = ceil_div(j.n_q, NN_ATTN_COLUMNS) * j.depth * NN_ATTN_COLUMNS;
    j.own_floats = (4 * j.depth + 2 * BLOCK + NN_ATTN_COLUMNS) * NN_ATTN_COLUMNS +
                   2 * ceil_div(j.n_q, 16) * 16;
    return j;
}

static scratch scratch_at(const job *j, int thread)
{
    const int64_t w = NN_ATTN_COLUMNS;
    float *at = (float *)j->c->workspace + thread * j->own_floats;
    scratch s = { .k = at, .v = at + j->depth * w };
    s.dk = s.v + j->depth * w;
    s.dv = s.dk + j->depth * w;
    s.p = s.dv + j->depth * w;
    s.ds = s.p + BLOCK * w;
    s.ds_t = s.ds + BLOCK * w;
    s.lse = s.ds_t + w * w;
    s.delta = s.lse + ceil_div(j->n_q, 16) * 16;
    return s;
}

static float *dq_slot(const job *j, int64_t slot)
{
    return (float *)j->c->workspace + j->threads * j->own_floats + slot * j->dq_floats;
}

static float dot_row(const float *a, const float *b, int64_t n)
{
    nn_vf sum = nn_set(0);
    int64_t d = 0;
    for (; d + NN_LANES <= n; d += NN_LANES) sum += nn_load(a + d) * nn_load(b + d);
    float total = nn_hsum(sum);
    for (; d < n; d++) total += a[d] * b[d];
    return total;
}

static void prepare_queries(const job *j, const scratch *s, int64_t b, int64_t h)
{
    nn_attn_rows dy = nn_attn_rows_at(&j->c->in[DY], b, h);
    nn_attn_rows y = nn_attn_rows_at(&j->c->in[Y], b, h);
    const float *lse = (const float *)j->c->in[LSE].data + (b * j->heads + h) * j->n_q;
    for (int64_t i = 0; i < j->n_q; i++) {
        s->lse[i] = lse[i] == -INFINITY ? NOTHING_SEEN : lse[i] * LOG2_E;
        s->delta[i] = dot_row(dy.x + i * dy.stride, y.x + i * y.stride, j->depth);
    }
}

/* The tile of keys at hand. */
typedef struct tile {
    int64_t first, n;
    int vecs;
    bool masked;
    nn_vi seen[2]; /* key_mask, all ones or zeros */
    nn_vi at[2];   /* numbers of the keys */
} tile;

static tile tile_make(const job *j, int64_t b, int64_t first)
{
    const nn_view *mask = &j->c->in[MASK];
    tile t = { .first = first, .n = nn_min(j->n_k - first, NN_ATTN_COLUMNS) };
    t.vecs = nn_attn_vecs(t.n);
    t.masked = nn_present(mask);
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) {
        int64_t key = nn_min(first + i, j->n_k - 1);
        bool seen = !t.masked ||
                    ((const int32_t *)mask->data)[b * mask->stride[0] + key * mask->stride[1]] != 0;
        t.seen[i / NN_LANES][i % NN_LANES] = seen ? -1 : 0;
        t.at[i / NN_LANES][i % NN_LANES] = (int32_t)key;
    }
    return t;
}

/* Turn scores and dp of n queries from `first` on into p and ds. */
static void softmax_bwd(const job *j, const scratch *s, const tile *t, int64_t first, int64_t n)
{
    const nn_attention_params *params = j->c->params;
    for (int64_t i = 0; i < n; i++) {
        int64_t reach = nn_attn_reach(params, first + i, j->n_q, j->n_k);
        bool partly = t->masked || reach < t->first + t->n;
        for (int v = 0; v < t->vecs; v++) {
            float *p = s->p + i * NN_ATTN_COLUMNS + v * NN_LANES;
            float *ds = s->ds + i * NN_ATTN_COLUMNS + v * NN_LANES;
            nn_vf x = nn_attn_exp2(nn_load(p) - s->lse[first + i]);
            if (partly) {
                nn_vi in_reach = t->at[v] < (nn_vi){ 0 } + (int32_t)reach;
                x = nn_select(t->seen[v] & in_reach, x, nn_set(0));
            }
            nn_store(p, x);
            nn_store(ds, x * (nn_load(ds) - s->delta[first + i]));
        }
    }
}

/* dq of the queries [first, first + n) += ds k */
static void add_dq(const job *j, const scratch *s, const tile *t, nn_attn_rows k, int64_t first,
                   int64_t n, float *dq)
{
    for (int64_t group = 0; group < n; group += NN_ATTN_COLUMNS) {
        int vecs = nn_attn_vecs(n - group);
        for (int v = 0; v < vecs; v++)
            for (int u = 0; u < t->vecs; u++) {
                nn_vf x[NN_LANES];
                for (int i = 0; i < NN_LANES; i++)
                    x[i] = nn_load(s->ds + (group + v * NN_LANES + i) * NN_ATTN_COLUMNS +
                                   u * NN_LANES);
                nn_transpose(x);
                for (int i = 0; i < NN_LANES; i++)
                    nn_store(s->ds_t + (u * NN_LANES + i) * NN_ATTN_COLUMNS + v * NN_LANES, x[i]);
            }
        nn_attn_sum(nn_attn_rows_from(k, t->first), t->n, s->ds_t, j->depth, vecs,
                    dq + (first + group) * j->depth);
    }
}

/* One row of lanes that all hold x. */
typedef struct lanes {
    float x[NN_ATTN_COLUMNS];
} lanes;

static lanes lanes_of(double x)
{
    lanes l;
    for (int i = 0; i < NN_ATTN_COLUMNS; i++) l.x[i] = (float)x;
    return l;
}

static void put(const job *j, const nn_view *out, int64_t b, int64_t h, int64_t first, int64_t n,
                double factor, const float *acc)
{
    lanes f = lanes_of(factor);
    nn_attn_unpack(acc, n, j->depth, f.x,
                   (float *)out->data + ((b * out->dim[1] + first) * j->heads + h) * j->depth,
                   j->heads * j->depth);
}

static void bwd_tile(const job *j, const scratch *s, int64_t b, int64_t h, int64_t key, float *dq)
{
    const nn_attention_params *p = j->c->params;
    const nn_call *c = j->c;
    nn_attn_rows q = nn_attn_rows_at(&c->in[Q], b, h), dy = nn_attn_rows_at(&c->in[DY], b, h);
    nn_attn_rows k = nn_attn_rows_at(&c->in[K], b, h), v = nn_attn_rows_at(&c->in[V], b, h);
    tile t = tile_make(j, b, key);
    nn_attn_pack(nn_attn_rows_from(k, key), t.n, j->depth, (float)p->scale * LOG2_E, s->k);
    nn_attn_pack(nn_attn_rows_from(v, key), t.n, j->depth, 1, s->v);
    memset(s->dk, 0, (size_t)(2 * j->depth * NN_ATTN_COLUMNS) * sizeof(float)); /* and dv */
    for (int64_t first = 0; first < j->n_q; first += BLOCK) {
        int64_t n = nn_min(j->n_q - first, BLOCK);
        if (nn_attn_reach(p, first + n - 1, j->n_q, j->n_k) <= key) continue;
        nn_attn_rows q_at = nn_attn_rows_from(q, first), dy_at = nn_attn_rows_from(dy, first);
        nn_attn_dot(q_at, n, s->k, j->depth, t.vecs, s->p);
        nn_attn_dot(dy_at, n, s->v, j->depth, t.vecs, s->ds);
        softmax_bwd(j, s, &t, first, n);
        nn_attn_sum(dy_at, n, s->p, j->depth, t.vecs, s->dv);
        nn_attn_sum(q_at, n, s->ds, j->depth, t.vecs, s->dk);
        add_dq(j, s, &t, k, first, n, dq);
    }
    put(j, &c->out[DK], b, h, key, t.n, p->scale, s->dk);
    put(j, &c->out[DV], b, h, key, t.n, 1, s->dv);
}

static void put_dq(const job *j, int64_t head, const float *dq)
{
    const nn_attention_params *p = j->c->params;
    for (int64_t first = 0; first < j->n_q; first += NN_ATTN_COLUMNS)
        put(j, &j->c->out[DQ], head / j->heads, head % j->heads, first,
            nn_min(j->n_q - first, NN_ATTN_COLUMNS), p->scale, dq + first * j->depth);
}

static void bwd_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    scratch s = scratch_at(j, thread);
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / j->splits, part = i % j->splits;
        int64_t b = head / j->heads, h = head % j->heads;
        float *dq = dq_slot(j, j->splits > 1 ? i : thread);
        memset(dq, 0, (size_t)j->dq_floats * sizeof(float));
        prepare_queries(j, &s, b, h);
        for (int64_t t = j->tiles * part / j->splits; t < j->tiles * (part + 1) / j->splits; t++)
            bwd_tile(j, &s, b, h, t * NN_ATTN_COLUMNS, dq);
        if (j->splits == 1) put_dq(j, head, dq);
    }
}

/* Add the parts of a head's dq. */
static void reduce_range(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *j = ctx;
    (void)thread;
    for (int64_t head = begin; head < end; head++) {
        float *sum = dq_slot(j, head * j->splits);
        for (int64_t part = 1; part < j->splits; part++) {
            const float *more = dq_slot(j, head * j->splits + part);
            for (int64_t i = 0; i < j->dq_floats; i++) sum[i] += more[i];
        }
        put_dq(j, head, sum);
    }
}

static bool accepts(const nn_call *c)
{
    for (int i = DY; i <= Y; i++)
        if (!nn_attn_operand(&c->in[i])) return false;
    for (int i = DQ; i <= DV; i++)
        if (!nn_view_contiguous(&c->out[i])) return false;
    return nn_view_contiguous(&c->in[LSE]) && c->in[K].dim[1] < INT32_MAX;
}

static size_t workspace(const nn_call *c)
{
    job j = job_make(c);
    int64_t all_heads = c->in[Q].dim[0] * j.heads;
    int64_t slots = j.splits > 1 ? all_heads * j.splits : j.threads;
    return (size_t)(j.threads * j.own_floats + slots * j.dq_floats) * sizeof(float);
}

static nn_status run(const nn_call *c)
{
    job j = job_make(c);
    int64_t all_heads = c->in[Q].dim[0] * j.heads;
    nn_pool_for(c->pool, all_heads * j.splits, 1, bwd_range, &j);
    if (j.splits > 1) nn_pool_for(c->pool, all_heads, 1, reduce_range, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(attention_bwd)[] = {
    { .name = "attention_bwd_f32_flash", .accepts = accepts, .run = run, .workspace = workspace },
    { 0 }
};
