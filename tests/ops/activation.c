/* activation: every kind over sizes around the vector widths and a wide range, and in place. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    float reach = (float)c->a[3];
    if (!c->a[4])
        return nn_activation(c->g, op_in_range(c, -reach, reach, 2, &c->a[1]), (nn_act)c->a[0]);
    /* no gradient reads the operand: it is overwritten */
    nn_tensor *x = nn_scale(c->g, op_fixed(c, -reach, reach, 2, &c->a[1]), 2, 0.5);
    return nn_activation(c->g, x, (nn_act)c->a[0]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { NN_ACT_RELU, 7, 33, 3 },        { NN_ACT_SILU, 7, 33, 9 },     { NN_ACT_SILU, 1, 1, 1 },
    { NN_ACT_GELU, 3, 129, 6 },       { NN_ACT_GELU, 2, 31, 1 },     { NN_ACT_GELU_TANH, 7, 33, 6 },
    { NN_ACT_QUICK_GELU, 5, 127, 6 }, { NN_ACT_SIGMOID, 7, 33, 20 }, { NN_ACT_TANH, 7, 33, 4 },
    { NN_ACT_TANH, 7, 33, 1 },        { NN_ACT_EXP, 7, 33, 5 },      { NN_ACT_ABS, 3, 17, 1 },
    { NN_ACT_SQUARE, 7, 33, 3 },      { NN_ACT_SILU, 4, 65, 3, 1 },  { NN_ACT_ABS, 4, 65, 3, 1 },
};

const op_test nn_test_activation = { .build = build, OP_ROWS(rows) };
const op_test nn_test_activation_bwd = { .covered_by = "activation" };
