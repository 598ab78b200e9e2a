/* fill: a constant of any shape. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    return nn_fill(c->g, c->dtype, 2, c->a, 0.25 * (double)c->a[2]);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 1, 1, 3 }, { 7, 33, -5 } };

const op_test nn_test_fill = { .build = build, OP_ROWS(rows), .no_grad = true };
