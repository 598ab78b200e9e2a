/* cache_write: one memcpy per run of packed elements. */
#include <string.h>

#include "kernels/cpu/cpu.h"

static bool accepts(const nn_call *c)
{
    return c->in[0].dtype == c->in[1].dtype && nn_view_contiguous(&c->in[0]) &&
           nn_view_packed_from(&c->in[1], 2);
}

static nn_status run(const nn_call *c)
{
    const nn_view *cache = &c->in[0], *rows = &c->in[1];
    int64_t at = *(const int32_t *)c->in[2].data, size = nn_dtype_bytes(rows->dtype), row = size;
    if (at < 0 || at + rows->dim[1] > cache->dim[1])
        return nn_fail(NN_ARGUMENT, "rows %lld to %lld do not fit into a cache of %lld",
                       (long long)at, (long long)(at + rows->dim[1]), (long long)cache->dim[1]);
    for (int d = 2; d < rows->rank; d++) row *= rows->dim[d];
    for (int64_t i = 0; i < rows->dim[0]; i++)
        for (int64_t t = 0; t < rows->dim[1]; t++)
            memcpy((char *)cache->data + (i * cache->dim[1] + at + t) * row,
                   (const char *)rows->data + (i * rows->stride[0] + t * rows->stride[1]) * size,
                   (size_t)row);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(cache_write)[] = {
    { .name = "cache_write_rows", .accepts = accepts, .run = run }, { 0 }
};
