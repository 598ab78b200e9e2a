/* cuDNN, a second opinion on kernels of our own: in builds with CUDNN=1 its kernels stand behind
 * ours in the lists, where only nn_device_prefer reaches them. Without a GPU they take nothing. A
 * call counts as one launch, whatever the library makes of it. */
#ifndef KERNELS_CUDA_CUDNN_CUDNN_CUH
#define KERNELS_CUDA_CUDNN_CUDNN_CUH

#include <cudnn.h>

#include "kernels/cuda/cuda.cuh"

/* NN_OK, or NN_DEVICE naming what was tried and what cuDNN says. */
nn_status nn_cudnn_status(cudnnStatus_t status, const char *what) NN_CHECKED;
#define NN_CUDNN_TRY(call) NN_TRY(nn_cudnn_status((call), #call))

/* The handle, on the device's stream; opened at first use. */
nn_status nn_cudnn(nn_cuda *g, cudnnHandle_t *dnn) NN_CHECKED;

static inline cudnnDataType_t nn_cudnn_type(const nn_view *v)
{
    return v->dtype == NN_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

#endif
