/* Broadcasting rules shared by the binary ops. */
#include "engine/ops/broadcast.h"

#include "engine/nn.h"

nn_status nn_broadcast_shape(const nn_node *n, const nn_view *a, const nn_view *b, nn_view *out)
{
    int64_t dim[NN_MAX_RANK];
    int rank = a->rank > b->rank ? a->rank : b->rank;
    NN_WANT(n, a->dtype == b->dtype, "a is %s, b is %s: the types differ", nn_view_text(a).s,
            nn_view_text(b).s);
    for (int i = 0; i < rank; i++) {
        int64_t da = i < a->rank ? nn_last(a, i) : 1, db = i < b->rank ? nn_last(b, i) : 1;
        NN_WANT(n, da == db || da == 1 || db == 1,
                "a is %s, b is %s: %lld does not broadcast with %lld", nn_view_text(a).s,
                nn_view_text(b).s, (long long)da, (long long)db);
        dim[rank - 1 - i] = da == 1 ? db : da;
    }
    *out = nn_view_make(a->dtype, rank, dim);
    return NN_OK;
}

void nn_promote(nn_graph *g, nn_tensor **a, nn_tensor **b)
{
    if ((*a)->view.dtype == NN_F32) *b = nn_precise(g, *b);
    if ((*b)->view.dtype == NN_F32) *a = nn_precise(g, *a);
}

nn_tensor *nn_sum_like(nn_graph *g, nn_tensor *dy, const nn_view *operand)
{
    if (nn_view_same_shape(&dy->view, operand)) return dy;
    int64_t dim[NN_MAX_RANK];
    int rank = dy->view.rank, missing = rank - operand->rank;
    for (int i = 0; i < rank; i++) dim[i] = i < missing ? 1 : operand->dim[i - missing];
    nn_tensor *sum = nn_sum(g, dy, rank, dim);
    return missing ? nn_reshape(g, sum, operand->rank, operand->dim) : sum;
}
