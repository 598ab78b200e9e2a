/* add: equal shapes, broadcast on either side, a scalar; in place over either operand, which a
 * constant factor makes and nothing else reads. A row: x, rank of y, y, operand to overwrite. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, (int64_t[]){ c->a[0], c->a[1], c->a[2] });
    nn_tensor *y = op_in(c, (int)c->a[3], &c->a[4]);
    if (c->a[7] == 1) x = nn_scale(c->g, x, 2, 0.5);
    if (c->a[7] == 2) y = nn_scale(c->g, y, 2, 0.5);
    return nn_add(c->g, x, y);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 5, 3, 2, 3, 5 },       { 1, 7, 33, 1, 33 },          { 3, 1, 31, 3, 1, 4, 31 },
    { 2, 5, 7, 3, 2, 1, 7 },       { 2, 5, 7, 3, 2, 5, 1 },      { 1, 1, 1, 1, 1 },
    { 3, 17, 129, 3, 3, 17, 129 }, { 2, 3, 65, 3, 2, 3, 65, 1 }, { 2, 3, 65, 3, 2, 3, 65, 2 },
    { 2, 7, 33, 1, 33, 0, 0, 1 },  { 1, 1, 33, 3, 2, 7, 33, 2 }, { 1, 6, 4, 2, 6, 1 },
    { 5, 3, 16, 2, 1, 16 },
};

const op_test nn_test_add = { .build = build, OP_ROWS(rows) };
