/* norm: less than a vector, one chunk, several. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    return NN_NODE(c->g, NORM, NULL, op_exact(c, -1, 1, 1, c->a));
}

static const int64_t rows[][OP_MAX_ARGS] = { { 1 }, { 33 }, { 4096 }, { 12289 } };

const op_test nn_test_norm = { .build = build, OP_ROWS(rows), .no_grad = true };
