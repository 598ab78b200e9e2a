/* linear: tile edges in all three sizes, every set of optional operands; rows of whole pieces of 16
 * bytes, of 8, 4 and 2 in bf16; results of several blocks of a GPU. TAKEN lets the result take over
 * the storage of the residual. */
#include "tests/ops/op_test.h"

enum { BIAS = 1, RESIDUAL = 2, TAKEN = 4 };

static nn_tensor *build(op_case *c)
{
    int64_t rows = c->a[0], in = c->a[1], out = c->a[2];
    nn_tensor *x = op_in(c, 3, (int64_t[]){ 2, rows, in });
    nn_tensor *w = op_in(c, 2, (int64_t[]){ out, in });
    nn_tensor *b = c->a[3] & BIAS ? op_vector(c, -1, 1, out) : NULL;
    nn_tensor *residual = c->a[3] & RESIDUAL ? op_in(c, 3, (int64_t[]){ 2, rows, out }) : NULL;
    if (c->a[3] & TAKEN) residual = nn_scale(c->g, residual, 2, 1);
    return nn_linear(c->g, x, w, b, residual);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1, 1 },    { 7, 31, 33, 0 },  { 3, 64, 16, 1 },   { 33, 17, 65, 1 }, { 16, 127, 1, 1 },
    { 65, 40, 72, 1 }, { 9, 36, 20, 0 },  { 70, 70, 130, 1 }, { 1, 1, 1, 3 },    { 7, 31, 33, 2 },
    { 3, 64, 16, 7 },  { 33, 17, 65, 6 }, { 65, 40, 72, 3 },  { 9, 36, 20, 7 },  { 1, 129, 7, 1 },
    { 4, 95, 10, 3 },  { 2, 33, 66, 6 },  { 5, 64, 4, 7 },
};

const op_test nn_test_linear = { .build = build, OP_ROWS(rows), .bf16 = true };
const op_test nn_test_linear_bwd_x = { .covered_by = "linear" };
const op_test nn_test_linear_bwd_w = { .covered_by = "linear" };
