/* linear on the cpu: see onednn/. */
#include "kernels/cpu/cpu.h"

const nn_kernel NN_CPU_NAME(linear)[] = { { 0 } };
const nn_kernel NN_CPU_NAME(linear_bwd_x)[] = { { 0 } };
const nn_kernel NN_CPU_NAME(linear_bwd_w)[] = { { 0 } };
