/* Views as rows of packed elements. */
#ifndef KERNELS_CUDA_ROWS_CUH
#define KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/map.cuh"

struct nn_rows {
    int64_t rows, width;
    int64_t pitch; /* elements from row to row */
};

/* False where rows are not packed or not evenly spaced. */
static inline bool nn_rows_of(const nn_view *v, nn_rows *r)
{
    if (v->rank < 1 || !nn_view_packed_from(v, v->rank - 1)) return false;
    nn_view leading = *v;
    leading.dim[v->rank - 1] = 1;
    const nn_view *const views[1] = { &leading };
    const nn_steps<1> steps = nn_steps_of(&leading, views);
    *r = { steps.n, nn_last(v, 0), steps.rank ? steps.stride[0][0] : nn_last(v, 0) };
    return steps.rank <= 1;
}

/* ... and every row is made of whole pieces of 16 bytes. */
static inline bool nn_rows_wide(const nn_view *v, nn_rows *r)
{
    const int64_t wide = 16 / nn_dtype_bytes(v->dtype);
    return nn_is_float(v) && nn_rows_of(v, r) && nn_aligned16(v) && r->width % wide == 0 &&
           r->pitch % wide == 0;
}

#endif
