/* y = a + b with broadcasting, aligned at the last dimension. */
#include "engine/nn.h"
#include "engine/ops/broadcast.h"

enum { A, B };

nn_tensor *nn_add(nn_graph *g, nn_tensor *a, nn_tensor *b)
{
    nn_promote(g, &a, &b);
    return NN_NODE(g, ADD, NULL, a, b);
}

nn_tensor *nn_sub(nn_graph *g, nn_tensor *a, nn_tensor *b)
{
    return nn_add(g, a, nn_scale(g, b, -1, 0));
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    return nn_broadcast_shape(n, nn_in(n, A), nn_in(n, B), &out[0]);
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    for (int i = A; i <= B; i++)
        if (nn_wants_grad(n, i)) dx[i] = nn_sum_like(g, dy[0], nn_in(n, i));
    return NN_OK;
}

const nn_op nn_op_add = {
    .name = "add", .infer = infer, .grad = grad, .inplace = 1u << A | 1u << B
};
