/* Put tensors behind each other along one axis; and the split that undoes it. */
#include "engine/nn.h"

nn_tensor *nn_concat(nn_graph *g, int n, nn_tensor *const parts[], int axis)
{
    nn_concat_params p = { .axis = axis };
    if (n == 1) return parts[0];
    if (p.axis < 0 && parts[0]->kind != NN_POISON) p.axis += parts[0]->view.rank;
    return nn_node_add(g, NN_OP_CONCAT, &p, n, parts);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_concat_params *p = n->params;
    nn_view y = *nn_in(n, 0);
    NN_WANT(n, p->axis >= 0 && p->axis < y.rank, "axis %d of %s", p->axis, nn_view_text(&y).s);
    for (int i = 1; i < n->n_in; i++) {
        nn_view part = *nn_in(n, i);
        y.dim[p->axis] += part.dim[p->axis];
        part.dim[p->axis] = y.dim[p->axis];
        NN_WANT(n, part.dtype == y.dtype && nn_view_same_shape(&part, &y),
                "part 0 is %s, part %d is %s", nn_view_text(nn_in(n, 0)).s, i,
                nn_view_text(nn_in(n, i)).s);
    }
    out[0] = nn_view_make(y.dtype, y.rank, y.dim);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_concat_params *p = n->params;
    int64_t at = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t size = nn_in(n, i)->dim[p->axis];
        if (nn_wants_grad(n, i)) dx[i] = nn_slice(g, dy[0], p->axis, at, at + size);
        at += size;
    }
    return NN_OK;
}

const nn_op nn_op_concat = {
    .name = "concat", .params_bytes = sizeof(nn_concat_params), .infer = infer, .grad = grad
};
