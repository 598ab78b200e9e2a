/* copy: packs a permuted view. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *x = op_in(c, 3, c->a);
    return nn_contiguous(c->g, nn_permute(c->g, x, (int[]){ 2, 0, 1 }));
}

static const int64_t rows[][OP_MAX_ARGS] = { { 2, 3, 5 }, { 4, 33, 7 }, { 1, 31, 65 } };

const op_test nn_test_copy = { .build = build, OP_ROWS(rows) };
