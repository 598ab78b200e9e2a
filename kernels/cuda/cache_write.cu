/* cache_write. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel nn_cuda_cache_write[] = { {} };
