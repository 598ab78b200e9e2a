/* geglu. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_geglu[] = { {} };
extern "C" const nn_kernel nn_cuda_geglu_bwd[] = { {} };
