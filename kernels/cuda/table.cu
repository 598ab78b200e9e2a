/* The cuda backend's table. */
#include "kernels/cuda/cuda.cuh"

extern "C" const nn_kernel *const nn_cuda_table[NN_OP_COUNT] = {
#define NN_OP(ID, name) nn_cuda_##name,
#include "kernels/ops.def"
#undef NN_OP
};
