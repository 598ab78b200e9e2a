/* conv2d: kernels 1, 3, 4, 8 and 16 wide, strides 1, 2, 3, 4 and 16, padding on both sides, on one,
 * and none, channels around the library's blocks, every set of optional operands; results beyond
 * one block of a GPU, and sums so deep that it cuts them, unevenly. Rows of options above 8 let the
 * result take over the storage of the residual. */
#include "tests/ops/op_test.h"

enum { N, H, WIDTH, I, O, K, STRIDE, BEFORE, AFTER, OPTIONS };
enum { BIAS = 1, SHIFT = 2, RESIDUAL = 4, TAKEN = 8 }; /* TAKEN: the result may replace it */

static nn_tensor *build(op_case *c)
{
    const int64_t *a = c->a;
    int64_t pad = a[BEFORE] + a[AFTER] - a[K];
    int64_t height = (a[H] + pad) / a[STRIDE] + 1, width = (a[WIDTH] + pad) / a[STRIDE] + 1;
    nn_conv conv = { .stride = (int)a[STRIDE],
                     .top = (int)a[BEFORE],
                     .left = (int)a[BEFORE],
                     .bottom = (int)a[AFTER],
                     .right = (int)a[AFTER] };
    nn_tensor *x = op_in(c, 4, (int64_t[]){ a[N], a[H], a[WIDTH], a[I] });
    nn_tensor *w = op_in(c, 4, (int64_t[]){ a[O], a[I], a[K], a[K] });
    nn_tensor *b = a[OPTIONS] & BIAS ? op_vector(c, -1, 1, a[O]) : NULL;
    nn_tensor *shift = a[OPTIONS] & SHIFT ? op_in(c, 2, (int64_t[]){ a[N], a[O] }) : NULL;
    nn_tensor *residual =
        a[OPTIONS] & RESIDUAL ? op_in(c, 4, (int64_t[]){ a[N], height, width, a[O] }) : NULL;
    if (a[OPTIONS] & TAKEN) residual = nn_scale(c->g, residual, 2, 1);
    return nn_conv2d(c->g, x, w, b, shift, residual, conv);
}

static const int64_t rows[][OP_MAX_ARGS] = {
    { 1, 7, 9, 3, 4, 3, 1, 1, 1, 0 },     { 2, 7, 9, 4, 16, 3, 1, 1, 1, 1 },
    { 3, 3, 2, 16, 17, 3, 1, 1, 1, 2 },   { 2, 4, 5, 17, 16, 3, 1, 1, 1, 3 },
    { 1, 3, 3, 33, 32, 3, 1, 1, 1, 4 },   { 1, 7, 9, 1, 3, 3, 1, 1, 1, 5 },
    { 2, 7, 9, 4, 4, 3, 1, 1, 1, 6 },     { 2, 3, 3, 32, 16, 3, 1, 1, 1, 7 },
    { 2, 7, 9, 3, 16, 3, 2, 1, 1, 1 },    { 2, 8, 6, 4, 17, 3, 2, 0, 1, 7 },
    { 1, 7, 9, 16, 4, 3, 1, 0, 0, 1 },    { 3, 3, 5, 17, 33, 1, 1, 0, 0, 1 },
    { 2, 3, 5, 32, 32, 1, 1, 0, 0, 7 },   { 1, 5, 7, 4, 1, 1, 1, 0, 0, 0 },
    { 2, 7, 9, 3, 4, 1, 2, 0, 0, 1 },     { 1, 9, 7, 3, 4, 4, 2, 1, 1, 1 },
    { 2, 8, 12, 3, 17, 4, 4, 0, 0, 1 },   { 1, 16, 16, 3, 5, 8, 8, 0, 0, 1 },
    { 1, 32, 16, 3, 4, 16, 16, 0, 0, 1 }, { 2, 3, 5, 16, 16, 3, 1, 1, 1, 12 },
    { 2, 4, 5, 4, 17, 3, 1, 1, 1, 15 },   { 1, 4, 5, 32, 32, 3, 1, 1, 1, 15 },
    { 1, 12, 11, 8, 72, 1, 1, 0, 0, 7 },  { 1, 2, 2, 264, 20, 3, 1, 1, 1, 7 },
    { 1, 8, 11, 4, 5, 4, 3, 2, 1, 1 },    { 1, 9, 8, 8, 3, 3, 2, 1, 1, 1 },
    { 1, 61, 33, 3, 4, 1, 1, 0, 0, 1 },   { 2, 13, 9, 32, 80, 3, 1, 1, 1, 15 },
    { 1, 18, 15, 80, 48, 3, 1, 0, 2, 7 }, { 3, 7, 9, 48, 32, 3, 1, 2, 0, 3 },
};

const op_test nn_test_conv2d = { .build = build, OP_ROWS(rows), .bf16 = true };
const op_test nn_test_conv2d_bwd_x = { .covered_by = "conv2d" };
const op_test nn_test_conv2d_bwd_w = { .covered_by = "conv2d" };
