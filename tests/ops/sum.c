/* sum: over leading, trailing, middle and all dims. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, c->a);
    return nn_sum(c->g, x, 3, &c->a[3]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 5, 1, 1, 1 },     { 4, 7, 33, 1, 1, 33 },     { 4, 7, 33, 4, 1, 33 },
    { 4, 7, 33, 4, 7, 1 },    { 600, 3, 5, 1, 1, 5 },     { 2, 700, 40, 2, 1, 40 },
    { 1, 1, 2000, 1, 1, 1 },  { 3, 2, 1100, 1, 2, 1100 }, { 2, 300, 230, 1, 1, 1 },
    { 3, 65, 17, 1, 65, 17 }, { 3, 65, 17, 3, 1, 1 },     { 1, 1, 1, 1, 1, 1 },
    { 2, 3, 5, 2, 3, 5 },
};

const op_test nn_test_sum = { .build = build, OP_ROWS(rows) };
