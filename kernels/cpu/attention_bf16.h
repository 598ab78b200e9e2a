/* attention_bf16_flash: attention of operands rounded to bf16, for processors that multiply those.
 * Where NN_CPU_BF16 is undefined, there is none: see attention_bf16.c. */
#ifndef KERNELS_CPU_ATTENTION_BF16_H
#define KERNELS_CPU_ATTENTION_BF16_H

#include "kernels/cpu/cpu.h"

#ifdef __AVX512F__
#define NN_CPU_BF16
#endif

bool NN_CPU_NAME(attention_bf16_accepts)(const nn_call *c);
size_t NN_CPU_NAME(attention_bf16_workspace)(const nn_call *c);
nn_status NN_CPU_NAME(attention_bf16_run)(const nn_call *c);

#endif
