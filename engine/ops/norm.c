/* Square root of the sum of squares of all elements: the global norm of a gradient. */
#include "engine/nn.h"

static nn_status infer(const nn_node *n, nn_view out[])
{
    out[0] = nn_view_make(nn_stat_dtype(nn_in(n, 0)), 1, (int64_t[]){ 1 });
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 2.0 * (double)nn_view_elems(nn_in(n, 0));
}

const nn_op nn_op_norm = { .name = "norm", .infer = infer, .cost = cost };
