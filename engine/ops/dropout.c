/* y = x * mask / (1 - p). The gradient is the same op on dy: it draws the same mask, because a
 * node's random numbers are named by its stream. Source: Srivastava et al. 2014. */
#include "engine/nn.h"

nn_tensor *nn_dropout(nn_graph *g, nn_tensor *x, double p)
{
    if (!g->training || p == 0) return x;
    return NN_NODE(g, DROPOUT, &(nn_dropout_params){ p }, x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_dropout_params *p = n->params;
    NN_WANT(n, p->p >= 0 && p->p < 1, "the probability %g is not in [0, 1)", p->p);
    out[0] = nn_like(nn_in(n, 0));
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    dx[0] = NN_NODE(g, DROPOUT, n->params, dy[0]);
    if (dx[0]->kind != NN_POISON) dx[0]->node->stream = n->stream;
    return NN_OK;
}

const nn_op nn_op_dropout = { .name = "dropout",
                              .params_bytes = sizeof(nn_dropout_params),
                              .infer = infer,
                              .grad = grad,
                              .inplace = 1,
                              .random = true };
