/* linear of few rows, as when text is generated token by token: see linear_few.c. */
#ifndef KERNELS_CPU_LINEAR_FEW_H
#define KERNELS_CPU_LINEAR_FEW_H

#include "kernels/cpu/cpu.h"

bool NN_CPU_NAME(linear_few_accepts)(const nn_call *c);
nn_status NN_CPU_NAME(linear_few_run)(const nn_call *c);

/* Of operands rounded to bf16, in frozen plans, which keep the weights so; where NN_CPU_BF16 is
 * defined. */
bool NN_CPU_NAME(linear_few_bf16_accepts)(const nn_call *c);
nn_status NN_CPU_NAME(linear_few_bf16_prepare)(nn_call *c);
nn_status NN_CPU_NAME(linear_few_bf16_pack)(const nn_call *c);
nn_status NN_CPU_NAME(linear_few_bf16_run)(const nn_call *c);

#endif
