/* softmax_xent: widths around the vector, with ignored labels, with smoothing, none that counts,
 * and as the loss of a shifted sequence (slices of both operands). Rows: batch, length, V, percent
 * of smoothing, lowest label, shifted. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int64_t batch = c->a[0], length = c->a[1], width = c->a[2], shift = c->a[5];
    int64_t highest = c->a[4] < -1 ? 0 : width;
    nn_tensor *x = op_in_range(c, -6, 6, 3, (int64_t[]){ batch, length + shift, width });
    nn_tensor *labels = op_ids(c, c->a[4], highest, 2, (int64_t[]){ batch, length + shift });
    if (shift) {
        x = nn_slice(c->g, x, 1, 0, length);
        labels = nn_slice(c->g, labels, 1, 1, length + 1);
    }
    return nn_softmax_xent(c->g, x, labels, 0.01 * (double)c->a[3]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1, 0, 0, 0 },    { 2, 3, 7, 0, 0, 0 },     { 2, 5, 33, 10, -1, 0 },
    { 1, 4, 129, 0, -1, 1 }, { 3, 2, 1021, 10, 0, 1 }, { 2, 3, 17, 10, -5, 0 },
};

const op_test nn_test_softmax_xent = { .build = build, OP_ROWS(rows) };
const op_test nn_test_softmax_xent_bwd = { .covered_by = "softmax_xent" };
