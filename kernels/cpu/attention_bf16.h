/* attention_bf16_flash: attention of operands rounded to bf16, where NN_CPU_BF16 is defined: see
 * attention_bf16.c. */
#ifndef KERNELS_CPU_ATTENTION_BF16_H
#define KERNELS_CPU_ATTENTION_BF16_H

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu.h"

bool NN_CPU_NAME(attention_bf16_accepts)(const nn_call *c);
size_t NN_CPU_NAME(attention_bf16_workspace)(const nn_call *c);
nn_status NN_CPU_NAME(attention_bf16_run)(const nn_call *c);

#endif
