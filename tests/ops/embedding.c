/* embedding: few rows so that ids repeat, many so that most are never used, one row. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int64_t batch = c->a[0], length = c->a[1], rows = c->a[2], width = c->a[3];
    nn_tensor *ids = op_ids(c, 0, rows, 2, (int64_t[]){ batch, length + c->a[4] });
    if (c->a[4]) ids = nn_slice(c->g, ids, 1, c->a[4], length + c->a[4]);
    return nn_embedding(c->g, ids, op_in(c, 2, (int64_t[]){ rows, width }));
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 1, 1, 1, 0 },    { 2, 7, 3, 33, 0 },   { 3, 31, 129, 64, 1 },
    { 1, 65, 2, 127, 0 }, { 2, 293, 3, 64, 0 },
};

const op_test nn_test_embedding = { .build = build, OP_ROWS(rows) };
const op_test nn_test_embedding_bwd = { .covered_by = "embedding" };
