#include "kernels/cpu/cpu.h"

const nn_kernel NN_CPU_NAME(attention)[] = { { 0 } };
const nn_kernel NN_CPU_NAME(attention_bwd)[] = { { 0 } };
