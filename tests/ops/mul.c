/* mul: equal shapes, broadcast on either side, a scalar; in place over either operand, which a
 * constant factor makes and nothing else reads. A row: x, rank of y, y, operand to overwrite. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    const int64_t *dim[] = { c->a, &c->a[4] };
    const int rank[] = { 3, (int)c->a[3] }, over = (int)c->a[7];
    nn_tensor *operand[2];
    for (int i = 0; i < 2; i++) {
        /* a gradient of the other would read the operand that is to be overwritten */
        bool fixed = over && i != over - 1;
        operand[i] = fixed ? op_fixed(c, -1, 1, rank[i], dim[i]) : op_in(c, rank[i], dim[i]);
        if (i == over - 1) operand[i] = nn_scale(c->g, operand[i], 2, 0.5);
    }
    return nn_mul(c->g, operand[0], operand[1]);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 2, 3, 5, 3, 2, 3, 5 },       { 1, 7, 33, 1, 33 },          { 3, 1, 31, 3, 1, 4, 31 },
    { 2, 5, 7, 3, 2, 1, 7 },       { 2, 5, 7, 3, 2, 5, 1 },      { 1, 1, 1, 1, 1 },
    { 3, 17, 129, 3, 3, 17, 129 }, { 2, 3, 65, 3, 2, 3, 65, 1 }, { 2, 3, 65, 3, 2, 3, 65, 2 },
    { 2, 7, 33, 1, 33, 0, 0, 1 },  { 1, 1, 33, 3, 2, 7, 33, 2 }, { 1, 6, 4, 2, 6, 1 },
    { 5, 3, 16, 2, 1, 16 },
};

const op_test nn_test_mul = { .build = build, OP_ROWS(rows) };
