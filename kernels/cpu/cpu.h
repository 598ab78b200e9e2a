/* The cpu backend: every file in this folder is compiled once per instruction set, and NN_CPU(name)
 * gives the symbols of one compilation their own names. nn_cpu_level picks the table that the
 * processor can run. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/kernel.h"
#include "kernels/params.h"

#define NN_CPU_PASTE_(isa, name) nn_cpu_##isa##_##name
#define NN_CPU_PASTE(isa, name)  NN_CPU_PASTE_(isa, name)
#ifdef NN_ISA
#define NN_CPU_NAME(name) NN_CPU_PASTE(NN_ISA, name)
#endif

extern const nn_kernel *const nn_cpu_avx512_table[NN_OP_COUNT];
extern const nn_kernel *const nn_cpu_avx2_table[NN_OP_COUNT];
extern const nn_kernel *const nn_cpu_portable_table[NN_OP_COUNT];

/* 0 = avx512, 1 = avx2, 2 = portable. The environment variable NN_CPU_ISA (avx512 | avx2 |
 * portable) lowers it. */
int nn_cpu_level(void);

#endif
