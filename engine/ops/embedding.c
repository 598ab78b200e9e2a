/* Rows of a table by number. Source: torch.nn.functional.embedding. */
#include <string.h>

#include "engine/nn.h"

enum { IDS, TABLE }; /* of embedding */
enum { DY, IDS1 };   /* of embedding_bwd */

nn_tensor *nn_embedding(nn_graph *g, nn_tensor *ids, nn_tensor *table)
{
    return NN_NODE(g, EMBEDDING, NULL, ids, nn_lower(g, table));
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *ids = nn_in(n, IDS), *table = nn_in(n, TABLE);
    NN_WANT(n, ids->dtype == NN_I32 && ids->rank < NN_MAX_RANK,
            "ids are %s, i32 of at most %d dimensions are expected", nn_view_text(ids).s,
            NN_MAX_RANK - 1);
    NN_WANT(n, table->rank == 2, "the table is %s, [V, C] is expected", nn_view_text(table).s);
    int64_t dim[NN_MAX_RANK];
    memcpy(dim, ids->dim, sizeof(dim));
    dim[ids->rank] = table->dim[1];
    out[0] = nn_view_make(table->dtype, ids->rank + 1, dim);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    nn_embedding_bwd_params p = { .rows = nn_in(n, TABLE)->dim[0] };
    dx[TABLE] = NN_NODE(g, EMBEDDING_BWD, &p, dy[0], n->in[IDS]);
    return NN_OK;
}

/* Of the table only the rows that are asked for are read. */
static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)flops;
    *bytes = (double)nn_view_bytes(nn_in(n, IDS)) + 2 * (double)nn_view_bytes(&n->out[0]->view);
}

const nn_op nn_op_embedding = { .name = "embedding", .infer = infer, .grad = grad, .cost = cost };

/* dtable[v] = sum of dy over the places where ids is v, in the type of statistics */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_embedding_bwd_params *p = n->params;
    const nn_view *dy = nn_in(n, DY), *ids = nn_in(n, IDS1);
    NN_WANT(n, dy->rank == ids->rank + 1, "dy is %s, ids are %s", nn_view_text(dy).s,
            nn_view_text(ids).s);
    out[0] = nn_view_make(nn_stat_dtype(dy), 2, (int64_t[]){ p->rows, nn_last(dy, 0) });
    return NN_OK;
}

const nn_op nn_op_embedding_bwd = { .name = "embedding_bwd",
                                    .params_bytes = sizeof(nn_embedding_bwd_params),
                                    .infer = infer_bwd };
