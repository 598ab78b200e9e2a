/* Mean squared error, optionally with a weight per sample. Source: torch.nn.functional.mse_loss. */
#include "engine/nn.h"

enum { X, Y, WEIGHT };        /* of mse */
enum { DY, X1, Y1, WEIGHT1 }; /* of mse_bwd */

nn_tensor *nn_mse(nn_graph *g, nn_tensor *x, nn_tensor *y, nn_tensor *weight)
{
    return NN_NODE(g, MSE, NULL, x, y, weight);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *x = nn_in(n, X), *y = nn_in(n, Y), *weight = nn_in(n, WEIGHT);
    NN_WANT(n, x->rank >= 1 && nn_view_elems(x) > 0 && nn_view_same_shape(x, y),
            "x is %s, y is %s: the shapes differ or are empty", nn_view_text(x).s,
            nn_view_text(y).s);
    NN_WANT(n, !nn_present(weight) || (weight->rank == 1 && weight->dim[0] == x->dim[0]),
            "the weight is %s, x is %s: one weight per sample is expected", nn_view_text(weight).s,
            nn_view_text(x).s);
    out[0] = nn_view_make(nn_stat_dtype(x), 1, (int64_t[]){ 1 });
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (nn_wants_grad(n, X))
        dx[X] = NN_NODE(g, MSE_BWD, NULL, dy[0], n->in[X], n->in[Y], n->in[WEIGHT]);
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 3.0 * (double)nn_view_elems(nn_in(n, n->op == NN_OP_MSE ? X : X1));
}

const nn_op nn_op_mse = { .name = "mse", .infer = infer, .grad = grad, .cost = cost };

/* dx = dy * 2 / elements * weight * (x - y) */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    out[0] = nn_like(nn_in(n, X1));
    return NN_OK;
}

const nn_op nn_op_mse_bwd = {
    .name = "mse_bwd", .infer = infer_bwd, .cost = cost, .inplace = 1u << X1 | 1u << Y1
};
