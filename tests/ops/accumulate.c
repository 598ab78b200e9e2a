/* accumulate: what it leaves in its first operand, which keeps its type where the second is bf16;
 * less than a vector, vectors with a rest, more than one block. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_tensor *sum = op_exact(c, -1, 1, 2, c->a);
    nn_tensor *x = c->a[2] ? op_exact(c, -1, 1, 2, c->a) : op_fixed(c, -1, 1, 2, c->a);
    NN_NODE(c->g, ACCUMULATE, NULL, sum, x);
    return nn_scale(c->g, sum, 1, 0);
}

/* rows, columns, whether both have one type */
static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1 }, { 3, 11, 0 }, { 7, 9, 1 }, { 5, 205, 0 }, { 1, 2051, 1 },
};

const op_test nn_test_accumulate = { .build = build, OP_ROWS(rows), .no_grad = true };
