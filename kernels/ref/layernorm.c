/* Oracle of layernorm and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

/* Element k of the row at index r of a tensor. */
static int64_t at(const nn_view *v, const nn_ref_index *r, int64_t k)
{
    int64_t offset = k * v->stride[v->rank - 1];
    for (int d = 0; d < r->rank; d++) offset += r->at[d] * v->stride[d];
    return offset;
}

static nn_status run(const nn_call *c)
{
    const nn_layernorm_params *p = c->params;
    const nn_view *x = &c->in[0], *gamma = &c->in[1], *beta = &c->in[2], *y = &c->out[0];
    int64_t n = nn_last(x, 0);
    for (nn_ref_index r = nn_ref_begin(x, x->rank - 1); r.more; nn_ref_next(&r)) {
        double mean = 0, var = 0;
        for (int64_t k = 0; k < n; k++) mean += nn_ref_get(x, at(x, &r, k)) / (double)n;
        for (int64_t k = 0; k < n; k++)
            var += pow(nn_ref_get(x, at(x, &r, k)) - mean, 2) / (double)n;
        double rstd = 1 / sqrt(var + p->eps);
        nn_ref_put(&c->out[1], nn_ref_offset(&c->out[1], &r), mean);
        nn_ref_put(&c->out[2], nn_ref_offset(&c->out[2], &r), rstd);
        for (int64_t k = 0; k < n; k++)
            nn_ref_put(y, at(y, &r, k),
                       (nn_ref_get(x, at(x, &r, k)) - mean) * rstd *
                               nn_ref_get(gamma, k * gamma->stride[0]) +
                           nn_ref_get(beta, k * beta->stride[0]));
    }
    return NN_OK;
}

typedef struct row {
    const nn_view *dy, *x, *gamma;
    nn_ref_index r;
    double mean, rstd;
} row;

static row row_at(const nn_call *c, nn_ref_index r)
{
    return (row){ .dy = &c->in[0],
                  .x = &c->in[1],
                  .gamma = &c->in[2],
                  .r = r,
                  .mean = nn_ref_get(&c->in[3], nn_ref_offset(&c->in[3], &r)),
                  .rstd = nn_ref_get(&c->in[4], nn_ref_offset(&c->in[4], &r)) };
}

static double hat(const row *w, int64_t k)
{
    return (nn_ref_get(w->x, at(w->x, &w->r, k)) - w->mean) * w->rstd;
}

static double slope(const row *w, int64_t k)
{
    return nn_ref_get(w->dy, at(w->dy, &w->r, k));
}

static double scaled(const row *w, int64_t k)
{
    return slope(w, k) * nn_ref_get(w->gamma, k * w->gamma->stride[0]);
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *x = &c->in[1], *dx = &c->out[0], *dgamma = &c->out[1], *dbeta = &c->out[2];
    int64_t n = nn_last(x, 0);
    for (nn_ref_index r = nn_ref_begin(x, x->rank - 1); r.more; nn_ref_next(&r)) {
        row w = row_at(c, r);
        double mean_e = 0, mean_eh = 0;
        for (int64_t k = 0; k < n; k++) {
            mean_e += scaled(&w, k) / (double)n;
            mean_eh += scaled(&w, k) * hat(&w, k) / (double)n;
        }
        for (int64_t k = 0; k < n; k++)
            nn_ref_put(dx, at(dx, &r, k), w.rstd * (scaled(&w, k) - mean_e - hat(&w, k) * mean_eh));
    }
    for (int64_t k = 0; k < n; k++) {
        double sum_h = 0, sum = 0;
        for (nn_ref_index r = nn_ref_begin(x, x->rank - 1); r.more; nn_ref_next(&r)) {
            row w = row_at(c, r);
            sum_h += slope(&w, k) * hat(&w, k);
            sum += slope(&w, k);
        }
        nn_ref_put(dgamma, k * dgamma->stride[0], sum_h);
        nn_ref_put(dbeta, k * dbeta->stride[0], sum);
    }
    return NN_OK;
}

const nn_kernel nn_ref_layernorm[] = { { .name = "layernorm_any", .run = run }, { 0 } };
const nn_kernel nn_ref_layernorm_bwd[] = { { .name = "layernorm_bwd_any", .run = run_bwd }, { 0 } };
