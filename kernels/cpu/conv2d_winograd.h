/* conv2d of 3 x 3 weights, and its gradient dx, by Winograd's algorithm: see conv2d_winograd.c. */
#ifndef KERNELS_CPU_CONV2D_WINOGRAD_H
#define KERNELS_CPU_CONV2D_WINOGRAD_H

#include "kernels/cpu/cpu.h"

/* Frozen plans keep the weights in f32; those that compute in bf16 keep them rounded to that. */
bool NN_CPU_NAME(conv2d_winograd_accepts)(const nn_call *c);
bool NN_CPU_NAME(conv2d_winograd_bf16_accepts)(const nn_call *c);
nn_status NN_CPU_NAME(conv2d_winograd_prepare)(nn_call *c);
size_t NN_CPU_NAME(conv2d_winograd_workspace)(const nn_call *c);
nn_status NN_CPU_NAME(conv2d_winograd_pack)(const nn_call *c);
nn_status NN_CPU_NAME(conv2d_winograd_run)(const nn_call *c);

bool NN_CPU_NAME(conv2d_bwd_x_winograd_accepts)(const nn_call *c);
size_t NN_CPU_NAME(conv2d_bwd_x_winograd_workspace)(const nn_call *c);
nn_status NN_CPU_NAME(conv2d_bwd_x_winograd_run)(const nn_call *c);

#endif
