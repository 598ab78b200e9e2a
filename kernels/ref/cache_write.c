/* Oracle of cache_write: in[0][:, at + t] = in[1][:, t]. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_view *cache = &c->in[0], *rows = &c->in[1];
    int64_t at = (int64_t)nn_ref_get(&c->in[2], 0);
    if (at < 0 || at + rows->dim[1] > cache->dim[1])
        return nn_fail(NN_ARGUMENT, "rows %lld to %lld do not fit into a cache of %lld",
                       (long long)at, (long long)(at + rows->dim[1]), (long long)cache->dim[1]);
    NN_REF_EACH(i, rows)
    nn_ref_put(cache, nn_ref_offset(cache, &i) + at * cache->stride[1],
               nn_ref_get(rows, nn_ref_offset(rows, &i)));
    return NN_OK;
}

const nn_kernel nn_ref_cache_write[] = { { .name = "cache_write_any", .run = run }, { 0 } };
