/* view: reshape, permute and broadcast, with their gradients. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, c->a);
    int64_t n = c->a[0], m = c->a[1], k = c->a[2];
    switch (c->a[3]) {
    case 0:
        return nn_reshape(c->g, x, 2, (int64_t[]){ n, m * k });
    case 1:
        return nn_permute(c->g, x, (int[]){ 1, 2, 0 });
    case 2:
        return nn_reshape(c->g, nn_permute(c->g, x, (int[]){ 0, 2, 1 }), 2,
                          (int64_t[]){ n * k, -1 });
    default:
        return nn_broadcast(c->g, x, 4, (int64_t[]){ 3, n, m, k });
    }
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 5, 0 }, { 2, 3, 5, 1 }, { 2, 3, 5, 2 }, { 2, 3, 5, 3 }
};

const op_test nn_test_view = { .build = build, OP_ROWS(rows) };
