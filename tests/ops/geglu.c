/* geglu: widths around the vector sizes, and gates far out. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    float reach = (float)c->a[2];
    return nn_geglu(c->g, op_in_range(c, -reach, reach, 3, (int64_t[]){ 2, c->a[0], 2 * c->a[1] }));
}

static const int64_t rows[][OP_MAX_ARGS] = { { 1, 1, 1 },  { 3, 7, 2 },   { 2, 16, 4 },
                                             { 5, 33, 8 }, { 2, 129, 3 }, { 3, 160, 3 } };

const op_test nn_test_geglu = { .build = build, OP_ROWS(rows) };
const op_test nn_test_geglu_bwd = { .covered_by = "geglu" };
