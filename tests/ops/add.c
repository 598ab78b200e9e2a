/* add: equal shapes, broadcast on either side, a scalar. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, (int64_t[]){ c->a[0], c->a[1], c->a[2] });
    nn_tensor *y = op_in(c, (int)c->a[3], &c->a[4]);
    return nn_add(c->g, x, y);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 5, 3, 2, 3, 5 },       { 1, 7, 33, 1, 33 },     { 3, 1, 31, 3, 1, 4, 31 },
    { 2, 5, 7, 3, 2, 1, 7 },       { 2, 5, 7, 3, 2, 5, 1 }, { 1, 1, 1, 1, 1 },
    { 3, 17, 129, 3, 3, 17, 129 },
};

const op_test nn_test_add = { .build = build, OP_ROWS(rows) };
