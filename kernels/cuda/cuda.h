/* The cuda backend, seen from C: a table of kernels and the memory of one GPU. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const nn_backend nn_cuda_backend;

/* "null:cuda": plans with the kernels of cuda for an H100 that is not there. Nothing is executed,
 * but running a plan counts what would be started. */
extern const nn_backend nn_cuda_absent_backend;
extern const nn_kernel *const nn_cuda_table[NN_OP_COUNT];

#ifdef __cplusplus
}
#endif

#endif
