/* Focal binary cross-entropy. Source: Lin et al. 2017, eq. 4, for soft targets (Li et al. 2020,
 * quality focal loss). */
#include "engine/nn.h"

enum { X, Y };       /* of focal */
enum { DY, X1, Y1 }; /* of focal_bwd */

nn_tensor *nn_focal(nn_graph *g, nn_tensor *x, nn_tensor *y, double gamma)
{
    return NN_NODE(g, FOCAL, &(nn_focal_params){ gamma }, x, y);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_focal_params *p = n->params;
    const nn_view *x = nn_in(n, X), *y = nn_in(n, Y);
    NN_WANT(n, x->rank >= 1 && nn_view_elems(x) > 0 && nn_view_same_shape(x, y),
            "x is %s, y is %s: the shapes differ or are empty", nn_view_text(x).s,
            nn_view_text(y).s);
    NN_WANT(n, p->gamma >= 0, "gamma %g is negative", p->gamma);
    out[0] = nn_view_make(nn_stat_dtype(x), 1, (int64_t[]){ 1 });
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (nn_wants_grad(n, X)) dx[X] = NN_NODE(g, FOCAL_BWD, n->params, dy[0], n->in[X], n->in[Y]);
    return NN_OK;
}

const nn_op nn_op_focal = {
    .name = "focal", .params_bytes = sizeof(nn_focal_params), .infer = infer, .grad = grad
};

static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    out[0] = nn_like(nn_in(n, X1));
    return NN_OK;
}

const nn_op nn_op_focal_bwd = { .name = "focal_bwd",
                                .params_bytes = sizeof(nn_focal_params),
                                .infer = infer_bwd,
                                .inplace = 1u << X1 | 1u << Y1 };
