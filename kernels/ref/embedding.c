/* Oracle of embedding: copies rows; its gradient adds them up in the order of the ids. */
#include "kernels/ref/ref.h"

/* The id at i, checked against the table. */
static nn_status id_at(const nn_view *ids, const nn_ref_index *i, int64_t rows, int64_t *id)
{
    *id = (int64_t)nn_ref_get(ids, nn_ref_offset(ids, i));
    if (*id >= 0 && *id < rows) return NN_OK;
    return nn_fail(NN_ARGUMENT, "id %lld lies outside the table of %lld rows", (long long)*id,
                   (long long)rows);
}

static nn_status run(const nn_call *c)
{
    const nn_view *ids = &c->in[0], *table = &c->in[1], *y = &c->out[0];
    NN_REF_EACH(i, ids)
    {
        int64_t id;
        NN_TRY(id_at(ids, &i, table->dim[0], &id));
        for (int64_t k = 0; k < table->dim[1]; k++)
            nn_ref_put(y, nn_ref_offset(y, &i) + k * y->stride[y->rank - 1],
                       nn_ref_get(table, id * table->stride[0] + k * table->stride[1]));
    }
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *ids = &c->in[1], *dtable = &c->out[0];
    NN_REF_EACH(i, dtable) nn_ref_put(dtable, nn_ref_offset(dtable, &i), 0);
    NN_REF_EACH(i, ids)
    {
        int64_t id;
        NN_TRY(id_at(ids, &i, dtable->dim[0], &id));
        for (int64_t k = 0; k < dtable->dim[1]; k++) {
            int64_t at = id * dtable->stride[0] + k * dtable->stride[1];
            int64_t from = nn_ref_offset(dy, &i) + k * dy->stride[dy->rank - 1];
            nn_ref_put(dtable, at, nn_ref_get(dtable, at) + nn_ref_get(dy, from));
        }
    }
    return NN_OK;
}

const nn_kernel nn_ref_embedding[] = { { .name = "embedding_any", .run = run }, { 0 } };
const nn_kernel nn_ref_embedding_bwd[] = { { .name = "embedding_bwd_any", .run = run_bwd }, { 0 } };
