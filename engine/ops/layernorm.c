/* y = (x - mean) / sqrt(var + eps) * gamma + beta over the last dimension, biased variance. Source:
 * Ba et al. 2016; equals torch.nn.functional.layer_norm. */
#include "engine/nn.h"

enum { X, GAMMA, BETA };               /* of layernorm */
enum { Y, MEAN, RSTD };                /* outputs of layernorm */
enum { DY, X1, GAMMA1, MEAN1, RSTD1 }; /* of layernorm_bwd */
enum { DX, DGAMMA, DBETA };            /* outputs of layernorm_bwd */

nn_tensor *nn_layernorm(nn_graph *g, nn_tensor *x, nn_tensor *gamma, nn_tensor *beta, double eps)
{
    return NN_NODE(g, LAYERNORM, &(nn_layernorm_params){ eps }, x, gamma, beta);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *x = nn_in(n, X), *gamma = nn_in(n, GAMMA), *beta = nn_in(n, BETA);
    NN_WANT(n,
            x->rank >= 1 && nn_last(x, 0) > 0 && gamma->rank == 1 && beta->rank == 1 &&
                gamma->dim[0] == nn_last(x, 0) && beta->dim[0] == nn_last(x, 0),
            "x is %s, gamma is %s, beta is %s: expected vectors of x's last dimension",
            nn_view_text(x).s, nn_view_text(gamma).s, nn_view_text(beta).s);
    NN_WANT(n, gamma->dtype == nn_stat_dtype(x) && beta->dtype == nn_stat_dtype(x),
            "x is %s, gamma is %s, beta is %s: expected vectors in the type of statistics, %s",
            nn_view_text(x).s, nn_view_text(gamma).s, nn_view_text(beta).s,
            nn_dtype_name(nn_stat_dtype(x)));
    out[Y] = nn_like(x);
    out[MEAN] = out[RSTD] = nn_leading(x, 1);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (!dy[Y]) return NN_OK;
    dx[X] =
        NN_NODE(g, LAYERNORM_BWD, NULL, dy[Y], n->in[X], n->in[GAMMA], n->out[MEAN], n->out[RSTD]);
    dx[GAMMA] = nn_sibling(dx[X], DGAMMA);
    dx[BETA] = nn_sibling(dx[X], DBETA);
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 7.0 * (double)nn_view_elems(nn_in(n, X));
}

const nn_op nn_op_layernorm = { .name = "layernorm",
                                .params_bytes = sizeof(nn_layernorm_params),
                                .infer = infer,
                                .grad = grad,
                                .cost = cost,
                                .n_out = 3 };

/* With h = (x - mean) * rstd and e = dy * gamma: dx = rstd * (e - mean(e) - h * mean(e * h)),
 * dgamma = sum of dy * h, dbeta = sum of dy. */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY), *x = nn_in(n, X1), *gamma = nn_in(n, GAMMA1);
    const nn_view *mean = nn_in(n, MEAN1), *rstd = nn_in(n, RSTD1);
    nn_view rows = nn_leading(x, 1);
    NN_WANT(n,
            nn_view_same_shape(dy, x) && dy->dtype == x->dtype && nn_view_same_shape(mean, &rows) &&
                nn_view_same_shape(rstd, &rows),
            "dy is %s, x is %s, mean is %s, rstd is %s", nn_view_text(dy).s, nn_view_text(x).s,
            nn_view_text(mean).s, nn_view_text(rstd).s);
    out[DX] = nn_like(x);
    out[DGAMMA] = out[DBETA] = nn_like(gamma);
    return NN_OK;
}

static void cost_bwd(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 14.0 * (double)nn_view_elems(nn_in(n, X1));
}

const nn_op nn_op_layernorm_bwd = {
    .name = "layernorm_bwd", .infer = infer_bwd, .cost = cost_bwd, .n_out = 3
};
