/* groupnorm: groups of one channel and of many, several chunks of rows, both activations, and mean
 * >> deviation, where gamma gets no gradient: it would feel that the saved mean is rounded to f32.
 * A row: samples, height, width, channels, groups, silu, range. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int64_t n = c->a[3];
    nn_tensor *x = op_in_range(c, (float)c->a[6], (float)c->a[7], 4, c->a);
    nn_tensor *gamma = c->a[6] < 100 ? op_vector(c, 0.5f, 1.5f, n) : op_exact(c, 0.5f, 1.5f, 1, &n);
    return nn_groupnorm(c->g, x, gamma, op_vector(c, -1, 1, n), (int)c->a[4], 1e-5, c->a[5]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1, 8, 2, 0, -1, 1 },     { 2, 3, 5, 6, 3, 1, -1, 1 },
    { 1, 2, 2, 33, 33, 0, -1, 1 },   { 2, 3, 3, 64, 32, 1, -2, 2 },
    { 1, 5, 7, 31, 1, 0, -1, 1 },    { 3, 3, 11, 34, 17, 1, 0, 10 },
    { 1, 17, 33, 6, 2, 1, -1, 1 },   { 2, 9, 15, 8, 4, 0, -1, 1 },
    { 1, 3, 1, 120, 2, 1, -1, 1 },   { 1, 13, 11, 16, 2, 0, 100, 101 },
    { 2, 7, 9, 12, 3, 1, 100, 101 }, { 2, 21, 13, 40, 4, 1, 0, 2 },
    { 1, 1, 2, 1056, 33, 1, 0, 2 },  { 2, 17, 19, 16, 8, 0, 100, 101 },
};

const op_test nn_test_groupnorm = { .build = build, OP_ROWS(rows) };
const op_test nn_test_groupnorm_bwd = { .covered_by = "groupnorm" };
