/* cache_write: rows at several places of the cache. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *cache = op_fixed(c, -1, 1, 4, (int64_t[]){ c->a[0], c->a[1], c->a[2], c->a[3] });
    nn_tensor *rows = op_fixed(c, -1, 1, 4, (int64_t[]){ c->a[0], c->a[4], c->a[2], c->a[3] });
    nn_tensor *at = op_ids(c, c->a[5], c->a[5] + 1, 1, (int64_t[]){ 1 });
    return nn_scale(c->g, nn_cache_write(c->g, cache, rows, at), 1, 0);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 2, 5, 3, 7, 1, 4 },
                                             { 1, 33, 2, 16, 3, 0 },
                                             { 3, 4, 1, 1, 4, 0 } };

const op_test nn_test_cache_write = { .build = build, OP_ROWS(rows), .no_grad = true };
