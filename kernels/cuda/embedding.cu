/* embedding. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_embedding[] = { {} };
extern "C" const nn_kernel nn_cuda_embedding_bwd[] = { {} };
