// The descriptors of cuBLASLt and what a product is made of.
#ifndef CUSIM_CUBLASLT_H
#define CUSIM_CUBLASLT_H

#include <cublasLt.h>

struct cublasLtContext {
    int unused;
};

struct cublasLtMatmulDescOpaque {
    int32_t compute = CUBLAS_COMPUTE_32F, scale = CUDA_R_32F;
    int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
    int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr;
    int64_t bias_stride = 0;
    int32_t bias_type = -1; // that of D
};

struct cublasLtMatrixLayoutOpaque {
    uint32_t type = CUDA_R_32F;
    int32_t order = CUBLASLT_ORDER_COL;
    uint64_t rows = 0, cols = 0;
    int64_t ld = 0;
    int32_t batches = 1;
    int64_t batch_stride = 0;
};

struct cublasLtMatmulPreferenceOpaque {
    uint32_t search = 0, reductions = ~0u;
    uint64_t workspace = 0;
    uint32_t alignment[4] = { 256, 256, 256, 256 }; // of A, B, C, D
};

namespace cusim
{

struct matrix {
    cublasLtMatrixLayoutOpaque layout;
    void *data;
};

struct product {
    cublasLtMatmulDescOpaque desc;
    matrix a, b, c, d;
    float alpha, beta;
};

inline size_t element_bytes(uint32_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

// gemm.cc: executes a product that has been checked.
void product_run(const product &p);

} // namespace cusim

#endif
