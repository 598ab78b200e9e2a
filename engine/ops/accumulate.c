/* sum += x, in the memory of sum: gradients of several micro-batches. */
#include "engine/nn.h"

enum { SUM, X };

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *sum = nn_in(n, SUM), *x = nn_in(n, X);
    NN_WANT(n, nn_view_same_shape(sum, x), "sum is %s, x is %s: the shapes differ",
            nn_view_text(sum).s, nn_view_text(x).s);
    out[0] = nn_view_make(NN_F32, 0, NULL); /* nothing to read: the result is in sum */
    return NN_OK;
}

const nn_op nn_op_accumulate = { .name = "accumulate", .infer = infer, .mutates = true };
