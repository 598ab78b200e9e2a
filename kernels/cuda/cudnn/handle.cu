/* The handle of cuDNN. */
#include "kernels/cuda/cudnn/cudnn.cuh"

nn_status nn_cudnn_status(cudnnStatus_t status, const char *what)
{
    if (status == CUDNN_STATUS_SUCCESS) return NN_OK;
    return nn_fail(NN_DEVICE, "cuda: %s: %s", what, cudnnGetErrorString(status));
}

nn_status nn_cudnn(nn_cuda *g, cudnnHandle_t *dnn)
{
    if (!g->dnn) {
        NN_CUDNN_TRY(cudnnCreate(&g->dnn));
        NN_CUDNN_TRY(cudnnSetStream(g->dnn, g->stream));
    }
    *dnn = g->dnn;
    return NN_OK;
}

void nn_cudnn_close(nn_cuda *g)
{
    if (g->dnn) cudnnDestroy(g->dnn);
    g->dnn = NULL;
}
