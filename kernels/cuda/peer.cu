/* One GPU among several. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/cuda/peer.h"
}

nn_status nn_cuda_choose(int ordinal)
{
    int n = 0;
    NN_CUDA_TRY(cudaGetDeviceCount(&n));
    if (ordinal < 0 || ordinal >= n)
        return nn_fail(NN_DEVICE,
                       "cuda: GPU %d is wanted and this host shows %d; start as many ranks per host "
                       "as it has GPUs",
                       ordinal, n);
    return nn_cuda_status(cudaSetDevice(ordinal), "cudaSetDevice");
}

void *nn_cuda_stream(const nn_device *d)
{
    return static_cast<nn_cuda *>(d->stream)->stream;
}
