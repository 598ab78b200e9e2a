/* The oracle: scalar kernels for any dtype and stride, in double. Never optimised.
 *
 * A tensor is walked by rows: a row is the run along the last dimension. Accessors convert from and
 * to any dtype. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/kernel.h"
#include "kernels/params.h"

extern const nn_kernel *const nn_ref_table[NN_OP_COUNT];

/* Element at an offset counted in elements from the start of the view's data. */
double nn_ref_get(const nn_view *v, int64_t offset);
void nn_ref_put(const nn_view *v, int64_t offset, double value);

/* A position in the index space of a shape; counts like an odometer, last index fastest. */
typedef struct nn_ref_index {
    int rank;
    int64_t dim[NN_MAX_RANK], at[NN_MAX_RANK];
    bool more;
} nn_ref_index;

nn_ref_index nn_ref_begin(const nn_view *shape, int rank); /* over the first `rank` dims of shape */
void nn_ref_next(nn_ref_index *i);

/* Offset of an index in a view; the index may have fewer dims than the view (the rest is 0). A view
 * with fewer dims than the index is aligned at the end, and its dims of size 1 are broadcast. */
int64_t nn_ref_offset(const nn_view *v, const nn_ref_index *i);

#define NN_REF_EACH(i, shape)                                                                      \
    for (nn_ref_index i = nn_ref_begin((shape), (shape)->rank); i.more; nn_ref_next(&i))

#endif
