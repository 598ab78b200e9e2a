/* Rows written into a cache that outlives the run; the result is the cache, so that its readers
 * come after. */
#include "engine/nn.h"

enum { CACHE, ROWS, AT };

nn_tensor *nn_cache_write(nn_graph *g, nn_tensor *cache, nn_tensor *rows, nn_tensor *at)
{
    return NN_NODE(g, CACHE_WRITE, NULL, cache, rows, at);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *cache = nn_in(n, CACHE), *rows = nn_in(n, ROWS), *at = nn_in(n, AT);
    bool fits = cache->dtype == rows->dtype && cache->rank == rows->rank && rows->rank >= 2 &&
                rows->dim[1] <= cache->dim[1];
    for (int i = 0; fits && i < rows->rank; i++) fits = i == 1 || rows->dim[i] == cache->dim[i];
    NN_WANT(n, fits, "cache is %s, rows are %s", nn_view_text(cache).s, nn_view_text(rows).s);
    NN_WANT(n, at->dtype == NN_I32 && nn_view_elems(at) == 1, "at is %s, one i32 is expected",
            nn_view_text(at).s);
    out[0] = *cache;
    return NN_OK;
}

const nn_op nn_op_cache_write = {
    .name = "cache_write", .infer = infer, .mutates = true, .aliases = true
};
