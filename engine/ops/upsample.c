/* Nearest-neighbour resize. Source: torch.nn.functional.interpolate(mode="nearest"). */
#include "engine/nn.h"

nn_tensor *nn_upsample(nn_graph *g, nn_tensor *x, int64_t height, int64_t width)
{
    return NN_NODE(g, UPSAMPLE, &((nn_upsample_params){ height, width }), x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_upsample_params *p = n->params;
    const nn_view *x = nn_in(n, 0);
    NN_WANT(n, x->rank == 4 && p->height > 0 && p->width > 0 && x->dim[1] > 0 && x->dim[2] > 0,
            "x is %s, cannot be resized to %lld x %lld", nn_view_text(x).s, (long long)p->height,
            (long long)p->width);
    out[0] = nn_view_make(x->dtype, 4, (int64_t[]){ x->dim[0], p->height, p->width, x->dim[3] });
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_view *x = nn_in(n, 0);
    dx[0] = NN_NODE(g, UPSAMPLE_BWD, &((nn_upsample_params){ x->dim[1], x->dim[2] }), dy[0]);
    return NN_OK;
}

const nn_op nn_op_upsample = {
    .name = "upsample", .params_bytes = sizeof(nn_upsample_params), .infer = infer, .grad = grad
};
const nn_op nn_op_upsample_bwd = { .name = "upsample_bwd",
                                   .params_bytes = sizeof(nn_upsample_params),
                                   .infer = infer };
