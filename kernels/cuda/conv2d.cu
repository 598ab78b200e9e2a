/* conv2d. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_conv2d[] = { {} };
extern "C" const nn_kernel nn_cuda_conv2d_bwd_w[] = { {} };
extern "C" const nn_kernel nn_cuda_conv2d_bwd_x[] = { {} };
