/* mse: with and without a weight per sample, one sample, more than one chunk per sample. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, c->a), *y = op_exact(c, -1, 1, 3, c->a);
    return nn_mse(c->g, x, y, c->a[3] ? op_exact(c, 0, 2, 1, c->a) : NULL);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1, 0 }, { 3, 7, 33, 1 }, { 2, 31, 17, 0 }, { 2, 127, 129, 1 }
};

const op_test nn_test_mse = { .build = build, OP_ROWS(rows) };
const op_test nn_test_mse_bwd = { .covered_by = "mse" };
