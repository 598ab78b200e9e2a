/* y = f(x), element by element. Source: torch.nn.functional; gelu is exact (erf) unless named tanh.
 */
#include "engine/nn.h"

enum { X };      /* of activation */
enum { DY, X1 }; /* of activation_bwd */

nn_tensor *nn_activation(nn_graph *g, nn_tensor *x, nn_act kind)
{
    return NN_NODE(g, ACTIVATION, &(nn_activation_params){ kind }, x);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    out[0] = nn_like(nn_in(n, X));
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    dx[X] = NN_NODE(g, ACTIVATION_BWD, n->params, dy[0], n->in[X]);
    return NN_OK;
}

const nn_op nn_op_activation = { .name = "activation",
                                 .params_bytes = sizeof(nn_activation_params),
                                 .infer = infer,
                                 .grad = grad,
                                 .inplace = 1u << X };

/* dx = dy * f'(x) */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY), *x = nn_in(n, X1);
    NN_WANT(n, nn_view_same_shape(dy, x) && dy->dtype == x->dtype, "dy is %s, x is %s",
            nn_view_text(dy).s, nn_view_text(x).s);
    out[0] = nn_like(x);
    return NN_OK;
}

const nn_op nn_op_activation_bwd = { .name = "activation_bwd",
                                     .params_bytes = sizeof(nn_activation_params),
                                     .infer = infer_bwd,
                                     .inplace = 1u << DY | 1u << X1 };
