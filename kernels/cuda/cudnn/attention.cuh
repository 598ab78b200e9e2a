/* The row of cuDNN in attention's list. */
#ifndef KERNELS_CUDA_CUDNN_ATTENTION_CUH
#define KERNELS_CUDA_CUDNN_ATTENTION_CUH

#include "kernels/cuda/attention.cuh"

bool attention_cudnn_accepts(const nn_call *c);
nn_status attention_cudnn_prepare(nn_call *c);
nn_status attention_cudnn_run(const nn_call *c);
void attention_cudnn_release(nn_call *c);

#define ATTENTION_CUDNN                                                                            \
    {                                                                                              \
        .name = "attention_cudnn", .accepts = attention_cudnn_accepts, .run = attention_cudnn_run, \
        .prepare = attention_cudnn_prepare, .release = attention_cudnn_release                     \
    }

#endif
