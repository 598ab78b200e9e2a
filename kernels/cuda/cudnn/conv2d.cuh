/* The rows of cuDNN in conv2d's lists. */
#ifndef KERNELS_CUDA_CUDNN_CONV2D_CUH
#define KERNELS_CUDA_CUDNN_CONV2D_CUH

#include "kernels/cuda/conv2d.cuh"

typedef enum conv2d_kind { CONV2D_FORWARD, CONV2D_BWD_X, CONV2D_BWD_W } conv2d_kind;

template <conv2d_kind KIND> bool conv2d_cudnn_accepts(const nn_call *c);
template <conv2d_kind KIND> nn_status conv2d_cudnn_prepare(nn_call *c);
template <conv2d_kind KIND> nn_status conv2d_cudnn_run(const nn_call *c);
void conv2d_cudnn_release(nn_call *c);

#define CONV2D_CUDNN(op, KIND)                                                                     \
    {                                                                                              \
        .name = op "_cudnn", .accepts = conv2d_cudnn_accepts<KIND>, .run = conv2d_cudnn_run<KIND>, \
        .prepare = conv2d_cudnn_prepare<KIND>, .release = conv2d_cudnn_release                     \
    }

#endif
