/* A constant. */
#include <string.h>

#include "engine/nn.h"

nn_tensor *nn_fill(nn_graph *g, nn_dtype dtype, int rank, const int64_t *dim, double value)
{
    nn_fill_params p = { .value = value, .dtype = dtype, .rank = rank };
    memcpy(p.dim, dim, (size_t)rank * sizeof(*dim));
    return nn_node_add(g, NN_OP_FILL, &p, 0, NULL);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_fill_params *p = n->params;
    out[0] = nn_view_make(p->dtype, p->rank, p->dim);
    return NN_OK;
}

const nn_op nn_op_fill = { .name = "fill", .params_bytes = sizeof(nn_fill_params), .infer = infer };
