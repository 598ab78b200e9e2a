/* A backend is a table of kernels and a way to hold memory; a device is a backend in use. */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "kernels/kernel.h"

typedef struct nn_device nn_device;

typedef struct nn_backend {
    const char *name;
    const nn_kernel *const *kernels; /* [NN_OP_COUNT], lists ending in {0}; a NULL list is empty */
    bool host_memory;                /* the host may touch the device's pointers */
    bool computes;                   /* false: plans are made and counted, nothing is executed */
    nn_status (*open)(nn_device *d); /* optional */
    void (*close)(nn_device *d);     /* optional */
    void *(*alloc)(nn_device *d,
                   int64_t bytes); /* zeroed, 64-byte aligned; NULL with the error recorded */
    void (*free)(nn_device *d, void *block);
    nn_status (*write)(nn_device *d, void *dst, const void *src,
                       int64_t bytes);                                          /* host to device */
    nn_status (*read)(nn_device *d, void *dst, const void *src, int64_t bytes); /* device to host */
    nn_status (*zero)(nn_device *d, void *dst, int64_t bytes);
    nn_status (*sync)(nn_device *d); /* wait for all work; reports what failed in it */
} nn_backend;

struct nn_device {
    const nn_backend *backend;
    const nn_backend *fallback; /* asked when no kernel of the backend accepts; NULL = none */
    nn_pool *pool;
    void *stream;
};

/* name: "cpu", "ref", "null" (or "cuda" where built). n_threads <= 0: all processors. Owner: the
 * caller. Errors: NN_NOT_FOUND names the backends of this build. */
nn_status nn_device_open(const char *name, int n_threads, nn_device **out) NN_CHECKED;
void nn_device_close(nn_device *d);

/* First kernel of the op that accepts the call on this device, NULL if none does. skip > 0: leave
 * out that many accepting kernels (tests run every one of them). */
const nn_kernel *nn_device_kernel(const nn_device *d, nn_op_id op, const nn_call *c, int skip);

const char *nn_op_name(nn_op_id op);

#endif
