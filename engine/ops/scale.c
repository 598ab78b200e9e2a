/* y = factor * x + offset. */
#include "engine/nn.h"

nn_tensor *nn_scale(nn_graph *g, nn_tensor *x, double factor, double offset)
{
    return NN_NODE(g, SCALE, (&(nn_scale_params){ factor, offset }), x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    out[0] = nn_like(nn_in(n, 0));
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_scale_params *p = n->params;
    dx[0] = p->factor == 1 ? dy[0] : nn_scale(g, dy[0], p->factor, 0);
    return NN_OK;
}

const nn_op nn_op_scale = { .name = "scale",
                            .params_bytes = sizeof(nn_scale_params),
                            .infer = infer,
                            .grad = grad,
                            .inplace = 1 };
