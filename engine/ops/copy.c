/* A packed copy, in another dtype if asked. */
#include "engine/nn.h"

nn_tensor *nn_contiguous(nn_graph *g, nn_tensor *x)
{
    if (nn_view_contiguous(&x->view)) return x;
    return NN_NODE(g, COPY, &(nn_copy_params){ x->view.dtype }, x);
}

nn_tensor *nn_cast(nn_graph *g, nn_tensor *x, nn_dtype dtype)
{
    if (x->view.dtype == dtype) return x;
    return NN_NODE(g, COPY, &(nn_copy_params){ dtype }, x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_copy_params *p = n->params;
    const nn_view *x = nn_in(n, 0);
    out[0] = nn_view_make(p->dtype, x->rank, x->dim);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    dx[0] = nn_cast(g, dy[0], nn_in(n, 0)->dtype);
    return NN_OK;
}

const nn_op nn_op_copy = {
    .name = "copy", .params_bytes = sizeof(nn_copy_params), .infer = infer, .grad = grad
};
