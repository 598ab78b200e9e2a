/* focal. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_focal[] = { {} };
extern "C" const nn_kernel nn_cuda_focal_bwd[] = { {} };
