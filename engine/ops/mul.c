/* y = a * b with broadcasting, aligned at the last dimension. */
#include "engine/nn.h"
#include "engine/ops/broadcast.h"

enum { A, B };

nn_tensor *nn_mul(nn_graph *g, nn_tensor *a, nn_tensor *b)
{
    nn_promote(g, &a, &b);
    return NN_NODE(g, MUL, NULL, a, b);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    return nn_broadcast_shape(n, nn_in(n, A), nn_in(n, B), &out[0]);
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    for (int i = A; i <= B; i++)
        if (nn_wants_grad(n, i))
            dx[i] = nn_sum_like(g, nn_mul(g, dy[0], n->in[i == A ? B : A]), nn_in(n, i));
    return NN_OK;
}

const nn_op nn_op_mul = {
    .name = "mul", .infer = infer, .grad = grad, .inplace = 1u << A | 1u << B
};
