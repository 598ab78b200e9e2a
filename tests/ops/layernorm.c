/* layernorm: widths around the vector sizes, more rows than chunks, and mean >> deviation, where
 * gamma gets no gradient: it would feel that the saved mean is rounded to f32. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int64_t n = c->a[1];
    nn_tensor *x = op_in_range(c, (float)c->a[2], (float)c->a[3], 3, (int64_t[]){ 2, c->a[0], n });
    nn_tensor *gamma = c->a[2] < 100 ? op_vector(c, 0.5f, 1.5f, n) : op_exact(c, 0.5f, 1.5f, 1, &n);
    return nn_layernorm(c->g, x, gamma, op_vector(c, -1, 1, n), 1e-5);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 3, -1, 1 },   { 3, 7, -1, 1 },   { 7, 31, -2, 2 },     { 2, 96, -1, 1 },
    { 33, 33, -1, 1 }, { 5, 129, 0, 50 }, { 3, 320, 100, 101 }, { 2, 65, 100, 101 },
    { 2, 512, -1, 1 }, { 9, 640, -1, 1 }, { 19, 1280, -2, 2 },  { 1, 1288, -1, 1 },
};

const op_test nn_test_layernorm = { .build = build, OP_ROWS(rows) };
const op_test nn_test_layernorm_bwd = { .covered_by = "layernorm" };
