/* embedding_f32_rows: one copy per id; threads share the ids.
 * embedding_bwd_f32_columns: threads share the columns of the table, and each adds up the rows of
 * dy in the order of the ids. So repeated ids need no locks, and the result does not depend on the
 * number of threads. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

static int64_t id_at(const nn_view *ids, int64_t i)
{
    return ((const int32_t *)ids->data)[nn_row_offset(ids, ids->rank, i)];
}

static nn_status check_ids(const nn_view *ids, int64_t rows)
{
    int64_t n = nn_view_elems(ids);
    for (int64_t i = 0; i < n; i++)
        if (id_at(ids, i) < 0 || id_at(ids, i) >= rows)
            return nn_fail(NN_ARGUMENT, "id %lld lies outside the table of %lld rows",
                           (long long)id_at(ids, i), (long long)rows);
    return NN_OK;
}

static void copy_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_view *table = &c->in[1];
    const float *from = table->data;
    float *to = c->out[0].data;
    int64_t width = table->dim[1];
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        memcpy(to + i * width, from + id_at(&c->in[0], i) * table->stride[0],
               (size_t)width * sizeof(*to));
}

static nn_status run(const nn_call *c)
{
    NN_TRY(check_ids(&c->in[0], c->in[1].dim[0]));
    nn_pool_for(c->pool, nn_view_elems(&c->in[0]), 16, copy_rows, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts(const nn_call *c)
{
    return nn_rows_f32(&c->in[1]);
}

static void add_columns(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_view *dy = &c->in[0], *ids = &c->in[1];
    int64_t n = nn_view_elems(ids), rows = c->out[0].dim[0], width = c->out[0].dim[1];
    float *table = c->out[0].data;
    (void)thread;
    for (int64_t r = 0; r < rows; r++)
        memset(table + r * width + begin, 0, (size_t)(end - begin) * sizeof(*table));
    for (int64_t i = 0; i < n; i++) {
        const float *from = (const float *)dy->data + nn_row_offset(dy, dy->rank - 1, i);
        float *to = table + id_at(ids, i) * width;
        for (int64_t k = begin; k < end; k++) to[k] += from[k];
    }
}

static nn_status run_bwd(const nn_call *c)
{
    NN_TRY(check_ids(&c->in[1], c->out[0].dim[0]));
    nn_pool_for(c->pool, c->out[0].dim[1], 16, add_columns, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    return nn_rows_f32(&c->in[0]);
}

const nn_kernel NN_CPU_NAME(embedding)[] = {
    { .name = "embedding_f32_rows", .accepts = accepts, .run = run }, { 0 }
};
const nn_kernel NN_CPU_NAME(embedding_bwd)[] = {
    { .name = "embedding_bwd_f32_columns", .accepts = accepts_bwd, .run = run_bwd }, { 0 }
};
