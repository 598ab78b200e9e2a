/* split: the parts are views; their order is turned round so that each is read. A slice stands
 * beside them. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int64_t n = c->a[0], m = c->a[1], k = c->a[2];
    nn_tensor *x = op_in(c, 2, (int64_t[]){ n, k * m }), *parts[NN_MAX_OUT],
              *turned[NN_MAX_OUT + 1];
    nn_split(c->g, x, (int)k, parts);
    for (int i = 0; i < k; i++) turned[i] = parts[k - 1 - i];
    turned[k] = nn_slice(c->g, x, 1, 1, m * k);
    return nn_concat(c->g, (int)k + 1, turned, 1);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 2, 5, 3 }, { 7, 16, 2 }, { 1, 4, 1 } };

const op_test nn_test_split = { .build = build, OP_ROWS(rows) };
