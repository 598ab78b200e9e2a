/* adamw: what it leaves in its operands, with and without clipping, moving average and bf16 copy.
 * Rows: elements, clipping in tenths, moving average, bf16 copy. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    nn_adamw_params p = { 0.9, 0.999, 1e-8, 0.01, 0.1 * (double)c->a[1] };
    nn_tensor *values = op_exact(c, -1, 1, 1, c->a), *grads = op_exact(c, -1, 1, 1, c->a);
    nn_tensor *m = op_exact(c, -1, 1, 1, c->a), *v = op_exact(c, 0.1f, 1, 1, c->a);
    nn_tensor *hyper = op_exact(c, 0.1f, 0.5f, 1, (int64_t[]){ NN_HYPER_COUNT });
    nn_tensor *norm = op_exact(c, 1, 4, 1, (int64_t[]){ 1 });
    nn_tensor *ema = c->a[2] ? op_exact(c, -1, 1, 1, c->a) : NULL;
    nn_tensor *half = c->a[3] ? nn_fill(c->g, NN_BF16, 1, c->a, 0) : NULL;
    nn_tensor *taken = NN_NODE(c->g, ADAMW, &p, values, grads, m, v, hyper, norm, ema, half);
    nn_tensor *parts[7] = { taken, values, grads, m, v };
    int n = 5;
    if (ema) parts[n++] = ema;
    if (half) parts[n++] = nn_cast(c->g, half, values->view.dtype);
    return nn_concat(c->g, n, parts, 0);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 0, 0, 0 }, { 33, 10, 1, 0 }, { 4099, 10, 1, 0 }, { 67, 10, 0, 1 }, { 129, 0, 1, 1 },
};

const op_test nn_test_adamw = { .build = build, OP_ROWS(rows), .no_grad = true };
