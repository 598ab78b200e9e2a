/* The cpu backend's table for one instruction set. */
#include "kernels/cpu/cpu.h"

#define NN_OP(ID, name) extern const nn_kernel NN_CPU_NAME(name)[];
#include "kernels/ops.def"
#undef NN_OP

const nn_kernel *const NN_CPU_NAME(table)[NN_OP_COUNT] = {
#define NN_OP(ID, name) NN_CPU_NAME(name),
#include "kernels/ops.def"
#undef NN_OP
};
