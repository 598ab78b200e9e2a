/* attention_f32_decode, the kernel for few queries: see attention_decode.c. */
#ifndef KERNELS_CPU_ATTENTION_DECODE_H
#define KERNELS_CPU_ATTENTION_DECODE_H

#include "kernels/cpu/cpu.h"

bool NN_CPU_NAME(attention_decode_accepts)(const nn_call *c);
size_t NN_CPU_NAME(attention_decode_workspace)(const nn_call *c);
nn_status NN_CPU_NAME(attention_decode_run)(const nn_call *c);

#endif
