/* adamw: what it leaves in its operands, with and without clipping and moving average. Rows:
 * elements, clipping in tenths, moving average. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_adamw_params p = { 0.9, 0.999, 1e-8, 0.01, 0.1 * (double)c->a[1] };
    nn_tensor *values = op_fixed(c, -1, 1, 1, c->a), *grads = op_fixed(c, -1, 1, 1, c->a);
    nn_tensor *m = op_fixed(c, -1, 1, 1, c->a), *v = op_fixed(c, 0.1f, 1, 1, c->a);
    nn_tensor *hyper = op_fixed(c, 0.1f, 0.5f, 1, (int64_t[]){ NN_HYPER_COUNT });
    nn_tensor *norm = op_fixed(c, 1, 4, 1, (int64_t[]){ 1 });
    nn_tensor *ema = c->a[2] ? op_fixed(c, -1, 1, 1, c->a) : NULL;
    nn_tensor *taken = NN_NODE(c->g, ADAMW, &p, values, grads, m, v, hyper, norm, ema);
    nn_tensor *parts[] = { taken, values, grads, m, v, ema };
    return nn_concat(c->g, c->a[2] ? 6 : 5, parts, 0);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 1, 0, 0 }, { 33, 10, 1 }, { 4099, 10, 1 } };

const op_test nn_test_adamw = { .build = build, OP_ROWS(rows), .no_grad = true };
