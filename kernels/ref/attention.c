/* Oracle of attention and its gradients: the formulas, one head at a time. Scores are computed
 * where they are used; the workspace holds a row or a column of them in double. */
#include "kernels/ref/ref.h"

#include <math.h>

typedef struct problem {
    const nn_view *q, *k, *v, *mask;
    const nn_attention_params *p;
    int64_t n_q, n_k, depth;
    int64_t b, h;
} problem;

static problem problem_of(const nn_call *c, const nn_view *qkv, const nn_view *mask)
{
    return (problem){ .q = &qkv[0],
                      .k = &qkv[1],
                      .v = &qkv[2],
                      .mask = mask,
                      .p = c->params,
                      .n_q = qkv[0].dim[1],
                      .n_k = qkv[1].dim[1],
                      .depth = qkv[0].dim[3] };
}

/* Start of token t in this head. */
static int64_t row(const nn_view *x, const problem *at, int64_t t)
{
    return at->b * x->stride[0] + t * x->stride[1] + at->h * x->stride[2];
}

static double dot(const nn_view *x, int64_t i, const nn_view *y, int64_t j, const problem *at)
{
    int64_t x0 = row(x, at, i), y0 = row(y, at, j);
    double sum = 0;
    for (int64_t d = 0; d < at->depth; d++)
        sum += nn_ref_get(x, x0 + d * x->stride[3]) * nn_ref_get(y, y0 + d * y->stride[3]);
    return sum;
}

/* out[t] = factor * sum over j of weight[j] * x[j] */
static void put_sum(const nn_view *out, int64_t t, double factor, const double *weight,
                    const nn_view *x, const problem *at)
{
    for (int64_t d = 0; d < at->depth; d++) {
        double sum = 0;
        for (int64_t j = 0; j < x->dim[1]; j++)
            if (weight[j] != 0) sum += weight[j] * nn_ref_get(x, row(x, at, j) + d * x->stride[3]);
        nn_ref_put(out, row(out, at, t) + d * out->stride[3], factor * sum);
    }
}

static bool sees(const problem *at, int64_t i, int64_t j)
{
    const nn_view *m = at->mask;
    if (nn_present(m) && nn_ref_get(m, at->b * m->stride[0] + j * m->stride[1]) == 0) return false;
    return !at->p->causal || j < at->p->prefix || j <= i + at->n_k - at->n_q;
}

static double score(const problem *at, int64_t i, int64_t j)
{
    return sees(at, i, j) ? at->p->scale * dot(at->q, i, at->k, j, at) : -INFINITY;
}

static int64_t lse_offset(const nn_view *lse, const problem *at, int64_t i)
{
    return at->b * lse->stride[0] + at->h * lse->stride[1] + i * lse->stride[2];
}

/* p[0 .. n_k) becomes the softmax of query i; returns the logarithm of its denominator. */
static double softmax_row(const problem *at, int64_t i, double *p)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < at->n_k; j++) {
        p[j] = score(at, i, j);
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < at->n_k; j++) {
        p[j] = largest == -INFINITY ? 0 : exp(p[j] - largest);
        sum += p[j];
    }
    for (int64_t j = 0; j < at->n_k; j++) p[j] = sum == 0 ? 0 : p[j] / sum;
    return largest + log(sum);
}

static size_t workspace(const nn_call *c)
{
    return (size_t)c->in[1].dim[1] * sizeof(double);
}

static nn_status run(const nn_call *c)
{
    problem at = problem_of(c, &c->in[0], &c->in[3]);
    for (at.b = 0; at.b < at.q->dim[0]; at.b++)
        for (at.h = 0; at.h < at.q->dim[2]; at.h++)
            for (int64_t i = 0; i < at.n_q; i++) {
                double lse = softmax_row(&at, i, c->workspace);
                put_sum(&c->out[0], i, 1, c->workspace, at.v, &at);
                nn_ref_put(&c->out[1], lse_offset(&c->out[1], &at, i), lse);
            }
    return NN_OK;
}

enum { DY, Q, K, V, Y, LSE, MASK }; /* inputs of attention_bwd */
enum { DQ, DK, DV };

/* p = exp(score - lse), and the gradient of the score, ds = p * (dy_i v_j - dy_i y_i). */
static void pair(const nn_call *c, const problem *at, int64_t i, int64_t j, double delta, double *p,
                 double *ds)
{
    double lse = nn_ref_get(&c->in[LSE], lse_offset(&c->in[LSE], at, i));
    *p = sees(at, i, j) ? exp(score(at, i, j) - lse) : 0;
    *ds = *p * (dot(&c->in[DY], i, at->v, j, at) - delta);
}

static void bwd_head(const nn_call *c, const problem *at)
{
    int64_t longest = at->n_q > at->n_k ? at->n_q : at->n_k;
    double *delta = c->workspace, *p = delta + at->n_q, *ds = p + longest;
    for (int64_t i = 0; i < at->n_q; i++) {
        delta[i] = dot(&c->in[DY], i, &c->in[Y], i, at);
        for (int64_t j = 0; j < at->n_k; j++) pair(c, at, i, j, delta[i], &p[j], &ds[j]);
        put_sum(&c->out[DQ], i, at->p->scale, ds, at->k, at);
    }
    for (int64_t j = 0; j < at->n_k; j++) {
        for (int64_t i = 0; i < at->n_q; i++) pair(c, at, i, j, delta[i], &p[i], &ds[i]);
        put_sum(&c->out[DK], j, at->p->scale, ds, at->q, at);
        put_sum(&c->out[DV], j, 1, p, &c->in[DY], at);
    }
}

static size_t bwd_workspace(const nn_call *c)
{
    int64_t n_q = c->in[Q].dim[1], n_k = c->in[K].dim[1];
    return (size_t)(n_q + 2 * (n_q > n_k ? n_q : n_k)) * sizeof(double);
}

static nn_status run_bwd(const nn_call *c)
{
    problem at = problem_of(c, &c->in[Q], &c->in[MASK]);
    for (at.b = 0; at.b < at.q->dim[0]; at.b++)
        for (at.h = 0; at.h < at.q->dim[2]; at.h++) bwd_head(c, &at);
    return NN_OK;
}

const nn_kernel nn_ref_attention[] = {
    { .name = "attention_any", .run = run, .workspace = workspace }, { 0 }
};
const nn_kernel nn_ref_attention_bwd[] = {
    { .name = "attention_bwd_any", .run = run_bwd, .workspace = bwd_workspace }, { 0 }
};
