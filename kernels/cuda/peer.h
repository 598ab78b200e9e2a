/* What a communicator between GPUs needs to know of one. */
#ifndef KERNELS_CUDA_PEER_H
#define KERNELS_CUDA_PEER_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cuda devices that this thread opens from here on are on GPU number `ordinal` of this host.
 * Errors: NN_DEVICE names how many there are. */
nn_status nn_cuda_choose(int ordinal) NN_CHECKED;

/* The cudaStream_t that the device's work is enqueued on. */
void *nn_cuda_stream(const nn_device *d);

#ifdef __cplusplus
}
#endif

#endif
