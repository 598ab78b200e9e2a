/* y = (x - mean) / sqrt(var + eps) * gamma + beta, statistics per sample and group of channels over
 * all places, biased variance; then SiLU if asked. Source: Wu & He 2018; equals
 * torch.nn.functional.group_norm in channels-last layout. */
#include "engine/nn.h"

enum { X, GAMMA, BETA };                      /* of groupnorm */
enum { Y, MEAN, RSTD };                       /* outputs of groupnorm */
enum { DY, X1, GAMMA1, BETA1, MEAN1, RSTD1 }; /* of groupnorm_bwd */
enum { DX, DGAMMA, DBETA };                   /* outputs of groupnorm_bwd */

nn_tensor *nn_groupnorm(nn_graph *g, nn_tensor *x, nn_tensor *gamma, nn_tensor *beta, int groups,
                        double eps, bool silu)
{
    return NN_NODE(g, GROUPNORM, (&(nn_groupnorm_params){ groups, eps, silu }), x, gamma, beta);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_groupnorm_params *p = n->params;
    const nn_view *x = nn_in(n, X), *gamma = nn_in(n, GAMMA), *beta = nn_in(n, BETA);
    NN_WANT(n,
            x->rank >= 2 && nn_view_elems(x) > 0 && gamma->rank == 1 && beta->rank == 1 &&
                gamma->dim[0] == nn_last(x, 0) && beta->dim[0] == nn_last(x, 0),
            "x is %s, gamma is %s, beta is %s: expected vectors of x's last dimension",
            nn_view_text(x).s, nn_view_text(gamma).s, nn_view_text(beta).s);
    NN_WANT(n, gamma->dtype == nn_stat_dtype(x) && beta->dtype == nn_stat_dtype(x),
            "x is %s, gamma is %s, beta is %s: expected vectors in the type of statistics, %s",
            nn_view_text(x).s, nn_view_text(gamma).s, nn_view_text(beta).s,
            nn_dtype_name(nn_stat_dtype(x)));
    NN_WANT(n, p->groups > 0 && nn_last(x, 0) % p->groups == 0,
            "x is %s: its channels do not make %d equal groups", nn_view_text(x).s, p->groups);
    out[Y] = nn_like(x);
    out[MEAN] = out[RSTD] = nn_view_make(nn_stat_dtype(x), 2, (int64_t[]){ x->dim[0], p->groups });
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (!dy[Y]) return NN_OK;
    dx[X] = NN_NODE(g, GROUPNORM_BWD, n->params, dy[Y], n->in[X], n->in[GAMMA], n->in[BETA],
                    n->out[MEAN], n->out[RSTD]);
    dx[GAMMA] = nn_sibling(dx[X], DGAMMA);
    dx[BETA] = nn_sibling(dx[X], DBETA);
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_groupnorm_params *p = n->params;
    *flops = (p->silu ? 12.0 : 7.0) * (double)nn_view_elems(nn_in(n, X));
}

const nn_op nn_op_groupnorm = { .name = "groupnorm",
                                .params_bytes = sizeof(nn_groupnorm_params),
                                .infer = infer,
                                .grad = grad,
                                .cost = cost,
                                .n_out = 3,
                                .inplace = 1u << X };

/* With h = (x - mean) * rstd, d = dy times the slope of SiLU at h * gamma + beta (or 1) and e = d *
 * gamma: dx = rstd * (e - mean(e) - h * mean(e * h)) with means over the group, dgamma = sum of d *
 * h, dbeta = sum of d. */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_groupnorm_params *p = n->params;
    const nn_view *dy = nn_in(n, DY), *x = nn_in(n, X1), *gamma = nn_in(n, GAMMA1);
    const nn_view *mean = nn_in(n, MEAN1), *rstd = nn_in(n, RSTD1);
    nn_view stat = nn_view_make(nn_stat_dtype(x), 2, (int64_t[]){ x->dim[0], p->groups });
    NN_WANT(n,
            nn_view_same_shape(dy, x) && dy->dtype == x->dtype && nn_view_same_shape(mean, &stat) &&
                nn_view_same_shape(rstd, &stat),
            "dy is %s, x is %s, mean is %s, rstd is %s", nn_view_text(dy).s, nn_view_text(x).s,
            nn_view_text(mean).s, nn_view_text(rstd).s);
    out[DX] = nn_like(x);
    out[DGAMMA] = out[DBETA] = nn_like(gamma);
    return NN_OK;
}

static void cost_bwd(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_groupnorm_params *p = n->params;
    *flops = (p->silu ? 24.0 : 14.0) * (double)nn_view_elems(nn_in(n, X1));
}

const nn_op nn_op_groupnorm_bwd = { .name = "groupnorm_bwd",
                                    .params_bytes = sizeof(nn_groupnorm_params),
                                    .infer = infer_bwd,
                                    .cost = cost_bwd,
                                    .n_out = 3 };
