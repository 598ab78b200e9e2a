/* linear. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_linear[] = { {} };
extern "C" const nn_kernel nn_cuda_linear_bwd_w[] = { {} };
extern "C" const nn_kernel nn_cuda_linear_bwd_x[] = { {} };
