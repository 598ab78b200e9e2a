/* upsample: doubling, odd factors, one place, shrinking. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    const int64_t *a = c->a;
    return nn_upsample(c->g, op_in(c, 4, a), a[4], a[5]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 4, 5, 6, 8 },   { 1, 7, 9, 33, 14, 18 }, { 3, 1, 1, 7, 1, 1 },    { 1, 3, 5, 4, 7, 11 },
    { 2, 1, 2, 17, 5, 31 }, { 1, 9, 7, 3, 4, 5 },    { 2, 5, 6, 64, 10, 12 },
};

const op_test nn_test_upsample = { .build = build, OP_ROWS(rows) };
const op_test nn_test_upsample_bwd = { .covered_by = "upsample" };
