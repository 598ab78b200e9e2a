/* Rows of strided views: a row is what lies along the last dimension. */
#ifndef KERNELS_CPU_ROWS_H
#define KERNELS_CPU_ROWS_H

#include "kernels/kernel.h"

/* Offset in elements of element number `at`, in row-major order, of the first `rank` dims. */
static inline int64_t nn_row_offset(const nn_view *v, int rank, int64_t at)
{
    int64_t offset = 0;
    for (int d = rank - 1; d >= 0; d--) {
        offset += at % v->dim[d] * v->stride[d];
        at /= v->dim[d];
    }
    return offset;
}

/* f32 whose last dimension is packed; the others may have any stride. */
static inline bool nn_rows_f32(const nn_view *v)
{
    return v->dtype == NN_F32 && v->rank >= 1 && nn_view_packed_from(v, v->rank - 1);
}

static inline bool nn_packed_f32(const nn_view *v)
{
    return v->dtype == NN_F32 && nn_view_contiguous(v);
}

#endif
