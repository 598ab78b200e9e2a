/* copy: packs permuted views, with whole tiles and parts of them, and converts through bf16. A row:
 * dims, order, whether through bf16. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int order[4];
    for (int i = 0; i < 4; i++) order[i] = (int)c->a[4 + i];
    nn_tensor *x = nn_permute(c->g, op_in(c, 4, c->a), order);
    if (!c->a[8]) return nn_contiguous(c->g, x);
    nn_tensor *exact = nn_cast(c->g, nn_fill(c->g, c->dtype, 1, (int64_t[]){ 33 }, 0.375), NN_BF16);
    return nn_add(c->g, nn_contiguous(c->g, x), nn_cast(c->g, exact, c->dtype));
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 2, 3, 5, 0, 3, 1, 2 },   { 1, 4, 33, 7, 0, 3, 1, 2 },    { 2, 5, 7, 40, 0, 3, 1, 2 },
    { 1, 1, 31, 65, 0, 1, 3, 2 }, { 2, 3, 5, 16, 0, 2, 1, 3 },    { 3, 2, 17, 34, 3, 2, 1, 0 },
    { 2, 16, 3, 32, 0, 2, 3, 1 }, { 1, 1, 7, 33, 0, 1, 2, 3, 1 },
};

const op_test nn_test_copy = { .build = build, OP_ROWS(rows) };
