/* attention. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_attention[] = { {} };
extern "C" const nn_kernel nn_cuda_attention_bwd[] = { {} };
