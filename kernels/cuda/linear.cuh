/* linear as a product of matrices c [m, n] = a [m, k] b [k, n], whose rows may lie anywhere. */
#ifndef KERNELS_CUDA_LINEAR_CUH
#define KERNELS_CUDA_LINEAR_CUH

#include "kernels/cuda/map.cuh"

/* The products of the three ops, by operands of the call. */
typedef enum linear_kind {
    LINEAR_FORWARD, /* y [M, O] = x [M, I] w^T */
    LINEAR_BWD_X,   /* dx [M, I] = dy [M, O] w */
    LINEAR_BWD_W    /* dw [O, I] = dy^T x, over the M rows */
} linear_kind;

/* A view as a matrix: all dims but the last are rows. */
typedef struct linear_matrix {
    int64_t rows, columns, stride;
    bool even; /* rows lie one stride apart, packed inside */
} linear_matrix;

static inline linear_matrix linear_matrix_of(const nn_view *v)
{
    linear_matrix m = { .rows = 1, .columns = nn_last(v, 0), .stride = nn_last(v, 0) };
    int64_t step = m.columns;
    m.even = nn_view_packed_from(v, v->rank - 1);
    for (int d = v->rank - 2; d >= 0; d--) {
        if (v->dim[d] == 1) continue;
        if (m.rows == 1) m.stride = step = v->stride[d];
        m.even = m.even && v->stride[d] == step;
        step *= v->dim[d];
        m.rows *= v->dim[d];
    }
    m.even = m.even && m.stride >= m.columns;
    return m;
}

enum { LINEAR_B = 2, LINEAR_RESIDUAL }; /* optional operands of linear */

/* One of them, NULL where it is absent or the op is a gradient. */
template <linear_kind KIND> static inline const nn_view *linear_added(const nn_call *c, int operand)
{
    return KIND == LINEAR_FORWARD && nn_present(&c->in[operand]) ? &c->in[operand] : NULL;
}

/* db [O] f32 = sum of dy [M, O] over the rows, in a fixed order. Workspace: linear_bias_bytes. */
size_t linear_bias_bytes(const nn_view *dy);
nn_status linear_bias_run(const nn_call *c, const nn_view *dy, float *db,
                          float *partial) NN_CHECKED;

/* Products by cuBLASLt (linear_blas.cu). */
template <linear_kind KIND> bool linear_blas_accepts(const nn_call *c);
template <linear_kind KIND> nn_status linear_blas_prepare(nn_call *c);
template <linear_kind KIND> double linear_blas_extra(const nn_call *c);
template <linear_kind KIND> nn_status linear_blas_run(const nn_call *c);
void linear_blas_release(nn_call *c);

/* Products by the kernels of conv2d (linear_gemm.cu). */
template <linear_kind KIND> bool linear_gemm_accepts(const nn_call *c);
template <linear_kind KIND> nn_status linear_gemm_prepare(nn_call *c);
template <linear_kind KIND> nn_status linear_gemm_run(const nn_call *c);

#endif
