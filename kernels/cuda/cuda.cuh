/* What every .cu file of this folder includes: the contract of kernels, the device that runs them,
 * and the headers of the dialect.
 *
 * The dialect: C++20 with templates on dtype, tile sizes and element functions, constexpr, and
 * designated initialisers; nothing else of C++. Kernels are launched by NN_LAUNCH (launch.cuh)
 * alone, load and store through vec.cuh, reduce through reduce.cuh, and leave PTX to mma.cuh. The
 * same lines are compiled by nvcc for a GPU and by a C++ compiler for the simulator of tests/cusim
 * (NN_CUSIM). */
#ifndef KERNELS_CUDA_CUDA_CUH
#define KERNELS_CUDA_CUDA_CUH

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "kernels/cuda/cuda.h"
#include "kernels/params.h"
}

typedef __nv_bfloat16 bf16;

/* Errors that only the running kernel can see: the first one is kept and reported by sync. */
typedef enum nn_cuda_fault_kind {
    NN_CUDA_FAULT_NONE,
    NN_CUDA_FAULT_EMBEDDING_ID, /* value: the id */
    NN_CUDA_FAULT_CACHE_ROW,    /* value: the row */
    NN_CUDA_FAULT_LABEL         /* value: the label */
} nn_cuda_fault_kind;

typedef struct nn_cuda_fault {
    int kind;
    int value;
} nn_cuda_fault;

/* One of the two pinned buffers that what the host writes and reads passes through. */
typedef struct nn_cuda_stage {
    char *host;       /* NULL = not yet reserved */
    cudaEvent_t done; /* behind the copies that still use it */
    int64_t used;     /* bytes that copies to the device have taken */
} nn_cuda_stage;

/* Counters on the device for blocks that wait for each other's results: the last one to arrive
 * works on. 0 between launches: the last one sees to it. */
enum { NN_CUDA_ARRIVALS = 1 << 14 };

/* One GPU in use. nn_call.stream points to it. */
typedef struct nn_cuda {
    cudaStream_t stream;
    cublasLtHandle_t blas; /* opened by nn_cuda_blas */
    nn_cuda_fault *fault;  /* on the device */
    unsigned *arrivals;    /* NN_CUDA_ARRIVALS of them */
    cudaEvent_t marks[2];  /* of nn_device_mark; made at first use */
    nn_cuda_stage stages[2];
    int stage;        /* the one that is being filled */
    int n_processors; /* streaming multiprocessors */
    int shared_bytes; /* that a block may have */
    int capability;   /* 80, 90, ... */
    bool absent;      /* there is no GPU: nothing is started, only counted */
    int64_t n_launches;
    struct cudnnContext *dnn; /* opened by nn_cudnn, in builds with CUDNN=1 */
} nn_cuda;

static inline nn_cuda *nn_cuda_of(const nn_call *c)
{
    return static_cast<nn_cuda *>(c->stream);
}

/* NN_OK, or NN_DEVICE naming what was tried and what the runtime says. */
nn_status nn_cuda_status(cudaError_t error, const char *what) NN_CHECKED;
nn_status nn_cublas_status(cublasStatus_t status, const char *what) NN_CHECKED;
#define NN_CUDA_TRY(call) NN_TRY(nn_cuda_status((call), #call))

/* Counts what is about to be started on the call's stream; false where nothing may be. */
static inline bool nn_cuda_may_start(const nn_call *c)
{
    nn_cuda *g = nn_cuda_of(c);
    g->n_launches++;
    return !g->absent;
}

/* staging.cu. send: enqueue a copy to the device; src may change at once. fetch: copy to the host,
 * behind all work enqueued so far, and wait. */
nn_status nn_cuda_send(nn_cuda *g, void *dst, const void *src, int64_t bytes) NN_CHECKED;
nn_status nn_cuda_fetch(nn_cuda *g, void *dst, const void *src, int64_t bytes) NN_CHECKED;
void nn_cuda_stages_free(nn_cuda *g);

/* The handle of cuBLAS, opened at first use: it takes long, and not every run wants it. */
nn_status nn_cuda_blas(nn_cuda *g, cublasLtHandle_t *blas) NN_CHECKED;

#ifdef NN_CUDNN
void nn_cudnn_close(nn_cuda *g); /* cudnn/handle.cu */
#endif

/* First words of a kernel list's row: a list is
 *     extern "C" const nn_kernel nn_cuda_<op>[] = { { .name = ..., ... }, {} };
 * The declarations below make the names those of the table. */
extern "C" {
#define NN_OP(ID, name) extern const nn_kernel nn_cuda_##name[];
#include "kernels/ops.def"
#undef NN_OP
}

/* -- conditions that `accepts` is made of ----------------------------------------------------- */

static inline bool nn_aligned16(const nn_view *v)
{
    return reinterpret_cast<uintptr_t>(v->data) % 16 == 0;
}

/* f32 or bf16 */
static inline bool nn_is_float(const nn_view *v)
{
    return v->dtype == NN_F32 || v->dtype == NN_BF16;
}

/* The type of an operand as a template argument: NN_DISPATCH(dtype, T, return run_as<T>(c)). */
#define NN_DISPATCH(dtype_, T, ...)                                                                \
    do {                                                                                           \
        if ((dtype_) == NN_BF16) {                                                                 \
            typedef bf16 T;                                                                        \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            typedef float T;                                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

static inline int64_t nn_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#endif
