/* concat: two and three parts along each axis. */
#include "tests/ops/op_test.h"

static nn_tensor *build(op_case *c)
{
    int axis = (int)c->a[3], n = (int)c->a[4];
    nn_tensor *parts[3];
    for (int i = 0; i < n; i++) {
        int64_t dim[] = { c->a[0], c->a[1], c->a[2] };
        dim[axis < 0 ? axis + 3 : axis] += i;
        parts[i] = op_in(c, 3, dim);
    }
    return nn_concat(c->g, n, parts, axis);
}

static const int64_t rows[][OP_MAX_ARGS] = { { 2, 3, 5, 0, 2 },
                                             { 2, 3, 5, 1, 3 },
                                             { 2, 3, 31, 2, 2 },
                                             { 4, 9, 64, -1, 3 },
                                             { 2, 5, 32, 1, 2 } };

const op_test nn_test_concat = { .build = build, OP_ROWS(rows) };
