/* dropout: the same elements fall on every backend, forward and backward. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 2, c->a);
    return nn_dropout(c->g, x, 0.01 * (double)c->a[2]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 50 }, { 7, 33, 10 }, { 31, 129, 50 }, { 2, 64, 90 }
};

const op_test nn_test_dropout = { .build = build, OP_ROWS(rows) };
