/* The backend that plans and counts but computes nothing: the plan of a full-size network takes
 * milliseconds. */
#ifndef KERNELS_NULL_NULL_H
#define KERNELS_NULL_NULL_H

#include "kernels/backend.h"

extern const nn_backend nn_null_backend;

/* Memory that is not there, for every backend that only plans: addresses that nobody may follow,
 * aligned as real ones, and copies that copy nothing. */
void *nn_null_alloc(nn_device *d, int64_t bytes);
void nn_null_free(nn_device *d, void *block);
nn_status nn_null_copy(nn_device *d, void *dst, const void *src, int64_t bytes);
nn_status nn_null_zero(nn_device *d, void *dst, int64_t bytes);
nn_status nn_null_sync(nn_device *d);

#define NN_NULL_MEMORY                                                                             \
    .alloc = nn_null_alloc, .free = nn_null_free, .write = nn_null_copy, .read = nn_null_copy,     \
    .zero = nn_null_zero, .sync = nn_null_sync

#endif
