/* focal: gamma 0 (plain binary cross-entropy), 1.5 and 2, soft targets. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in_range(c, -5, 5, 2, c->a), *y = op_exact(c, 0, 1, 2, c->a);
    return nn_focal(c->g, x, y, 0.1 * (double)c->a[2]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 20 }, { 3, 7, 0 }, { 2, 33, 15 }, { 17, 129, 20 }
};

const op_test nn_test_focal = { .build = build, OP_ROWS(rows) };
const op_test nn_test_focal_bwd = { .covered_by = "focal" };
