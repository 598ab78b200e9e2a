/* scale: factor and offset over sizes around the vector width. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 2, c->a);
    if (c->a[4]) x = nn_scale(c->g, x, -1, 0.25); /* in place: nothing else reads it */
    return nn_scale(c->g, x, 0.1 * (double)c->a[2], 0.5 * (double)c->a[3]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 3, 1 }, { 7, 31, -20, 0 }, { 3, 129, 10, -3 }, { 2, 16, 0, 4 }, { 3, 65, 7, 2, 1 }
};

const op_test nn_test_scale = { .build = build, OP_ROWS(rows) };
