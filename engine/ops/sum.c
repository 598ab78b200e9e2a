/* Sum over the dims that shrink to 1. */
#include <string.h>

#include "engine/nn.h"

nn_tensor *nn_sum(nn_graph *g, nn_tensor *x, int rank, const int64_t *dim)
{
    nn_sum_params p = { .rank = rank };
    memcpy(p.dim, dim, (size_t)rank * sizeof(*dim));
    return NN_NODE(g, SUM, &p, x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_sum_params *p = n->params;
    const nn_view *x = nn_in(n, 0);
    out[0] = nn_view_make(x->dtype, p->rank, p->dim);
    bool fits = p->rank == x->rank;
    for (int i = 0; fits && i < p->rank; i++) fits = p->dim[i] == 1 || p->dim[i] == x->dim[i];
    NN_WANT(n, fits, "x is %s: cannot be summed to %s", nn_view_text(x).s, nn_view_text(&out[0]).s);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_view *x = nn_in(n, 0);
    dx[0] = nn_broadcast(g, dy[0], x->rank, x->dim);
    return NN_OK;
}

const nn_op nn_op_sum = {
    .name = "sum", .params_bytes = sizeof(nn_sum_params), .infer = infer, .grad = grad
};
