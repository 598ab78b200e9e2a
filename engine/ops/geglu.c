/* y = value * gelu(gate), value and gate being the halves of x. Source: Shazeer 2020, "GLU
 * variants"; diffusers GEGLU (without its projection). */
#include "engine/nn.h"

enum { X };      /* of geglu */
enum { DY, X1 }; /* of geglu_bwd */

nn_tensor *nn_geglu(nn_graph *g, nn_tensor *x)
{
    return NN_NODE(g, GEGLU, NULL, x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *x = nn_in(n, X);
    NN_WANT(n, x->rank >= 1 && nn_last(x, 0) % 2 == 0, "x is %s: the last dimension has no halves",
            nn_view_text(x).s);
    nn_view y = *x;
    y.dim[y.rank - 1] /= 2;
    out[0] = nn_like(&y);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    dx[X] = NN_NODE(g, GEGLU_BWD, NULL, dy[0], n->in[X]);
    return NN_OK;
}

const nn_op nn_op_geglu = { .name = "geglu", .infer = infer, .grad = grad };

static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY), *x = nn_in(n, X1);
    nn_view y = *x;
    y.dim[y.rank - 1] /= 2;
    NN_WANT(n, nn_view_same_shape(dy, &y) && dy->dtype == x->dtype, "dy is %s, x is %s",
            nn_view_text(dy).s, nn_view_text(x).s);
    out[0] = nn_like(x);
    return NN_OK;
}

const nn_op nn_op_geglu_bwd = { .name = "geglu_bwd", .infer = infer_bwd };
