/* timestep: f32 against f64. At t = 1000 an angle in f32 is off by up to 1e-4. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    return nn_timestep(c->g, op_exact(c, 0, 1000, 1, c->a), c->a[1]);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 1, 2 }, { 3, 320 }, { 7, 34 } };

const op_test nn_test_timestep = {
    .build = build, OP_ROWS(rows), .tolerance = 2e-4, .no_grad = true
};
