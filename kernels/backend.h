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
    bool stores_bf16; /* its kernels take bf16 in memory, mixed with f32 as graphs in bf16 do */
    bool (*rounds_bf16)(void); /* optional: whether products of f32 can be computed in bf16 here */
    nn_status (*open)(nn_device *d); /* optional */
    void (*close)(nn_device *d);     /* optional */
    void *(*alloc)(nn_device *d,
                   int64_t bytes); /* zeroed, 64-byte aligned; NULL with the error recorded */
    void (*free)(nn_device *d, void *block);
    nn_status (*write)(nn_device *d, void *dst, const void *src,
                       int64_t bytes);                                          /* host to device */
    nn_status (*read)(nn_device *d, void *dst, const void *src, int64_t bytes); /* device to host */
    nn_status (*zero)(nn_device *d, void *dst, int64_t bytes);
    nn_status (*sync)(nn_device *d);           /* wait for all work; reports what failed in it */
    int64_t (*launches)(const nn_device *d);   /* optional: kernels started so far; those of a
                                                  recording count once, when it is made */
    int64_t (*free_bytes)(const nn_device *d); /* optional: see nn_device_free_bytes */
    /* Optional, see nn_device_mark and nn_device_elapsed. */
    nn_status (*mark)(nn_device *d, int which);
    nn_status (*elapsed)(nn_device *d, double *seconds);
    /* Optional, all or none. Kernels that are run between begin and end are recorded, not executed;
     * each launch enqueues all of them with the arguments that they had. Meanwhile no other
     * function of the table may be called. */
    nn_status (*begin_capture)(nn_device *d);
    nn_status (*end_capture)(nn_device *d, void **recording); /* NULL after an error */
    nn_status (*launch_capture)(nn_device *d, void *recording);
    void (*free_capture)(nn_device *d, void *recording);
} nn_backend;

struct nn_device {
    const nn_backend *backend;
    const nn_backend *fallback; /* asked when no kernel of the backend accepts; NULL = none */
    nn_pool *pool;
    void *stream;
    bool deterministic;  /* plans made from here on: as nn_call.deterministic */
    nn_dtype arithmetic; /* of products: NN_F32, or NN_BF16 */
    double marks[2];     /* host's clock at each mark, where the backend has no own */
    const char *preferred[NN_OP_COUNT]; /* see nn_device_prefer; NULL = as the lists are ordered */
};

/* name: "cpu", "ref", "null", or "cuda" and "null:cuda" (kernels/cuda/cuda.h) where built.
 * n_threads <= 0: all processors. Owner: the caller. Errors: NN_NOT_FOUND names the backends of
 * this build. */
nn_status nn_device_open(const char *name, int n_threads, nn_device **out) NN_CHECKED;
void nn_device_close(nn_device *d);

/* A device that plans as `like` does, with its kernels and settings, and has no memory: nothing
 * that is planned on it may run. `like` must outlive it. Owner: nn_device_close. */
nn_status nn_device_open_absent(const nn_device *like, nn_device **out) NN_CHECKED;

/* Bytes of its memory that can be had now: of a GPU's, or what the system can give without
 * swapping. 0 = unknown. */
int64_t nn_device_free_bytes(const nn_device *d);

/* Networks compute in `dtype` from here on: NN_F32 (how a device opens) or NN_BF16. To be chosen
 * before parameters are allocated. Errors: NN_UNSUPPORTED where the backend or the processor
 * cannot. */
nn_status nn_device_compute(nn_device *d, nn_dtype dtype) NN_CHECKED;

/* What graphs and weights are to be made of on this device: NN_BF16 where it computes in bf16 and
 * its backend stores that, else NN_F32. A backend that only rounds keeps f32 in memory. */
nn_dtype nn_device_storage(const nn_device *d);

/* Convert n packed elements on the device, of any two float types; the same type is a copy.
 * Enqueued. */
nn_status nn_device_convert(nn_device *d, int64_t n, nn_dtype from, const void *src, nn_dtype to,
                            void *dst) NN_CHECKED;

/* Stop-watch on the device's own clock. mark: note, behind all work enqueued so far, when it is
 * done; which is 0 (begin) or 1 (end). elapsed: wait for both marks; the time between them. Without
 * a clock of its own a device is waited for, and the host's clock is taken. */
nn_status nn_device_mark(nn_device *d, int which) NN_CHECKED;
nn_status nn_device_elapsed(nn_device *d, double *seconds) NN_CHECKED;

/* Plans that are made from here on ask the kernels of `op` and of its gradients (op_...) whose
 * names end in `_ending` before the others: "conv2d", "cudnn". A second opinion, and a way to
 * compare; what they decline goes to the others. ending: kept by the device, not copied. Errors:
 * NN_NOT_FOUND where the backend has no such kernel. */
nn_status nn_device_prefer(nn_device *d, const char *op, const char *ending) NN_CHECKED;

/* First kernel of the op that accepts the call on this device, preferred ones before the others,
 * NULL if none does. skip > 0: leave out that many accepting kernels (tests run every one of them).
 */
const nn_kernel *nn_device_kernel(const nn_device *d, nn_op_id op, const nn_call *c, int skip);

const char *nn_op_name(nn_op_id op);

#endif
