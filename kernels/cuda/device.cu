/* Memory, copies and errors of one GPU. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "engine/base/alloc.h"
#include "kernels/null/null.h"
}

/* What to do without a GPU: builds without `cpu` have `ref` alone. */
#ifdef NN_CPU
#define ADVICE "use --device cpu"
#else
#define ADVICE "use --device ref"
#endif

enum { LEAST_CAPABILITY = 80, NO_BYTES = 256 /* what an empty allocation takes */ };

nn_status nn_cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return NN_OK;
    return nn_fail(error == cudaErrorMemoryAllocation ? NN_MEMORY : NN_DEVICE, "cuda: %s: %s (%s)",
                   what, cudaGetErrorString(error), cudaGetErrorName(error));
}

nn_status nn_cublas_status(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return NN_OK;
    return nn_fail(NN_DEVICE, "cuda: %s: cuBLAS status %d", what, (int)status);
}

nn_status nn_cuda_blas(nn_cuda *g, cublasLtHandle_t *blas)
{
    if (!g->blas) NN_TRY(nn_cublas_status(cublasLtCreate(&g->blas), "cublasLtCreate"));
    *blas = g->blas;
    return NN_OK;
}

static nn_cuda *gpu(const nn_device *d)
{
    return static_cast<nn_cuda *>(d->stream);
}

static nn_status find_gpu(void)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && n == 0))
        return nn_fail(NN_DEVICE, "cuda: this machine shows no NVIDIA GPU; " ADVICE);
    if (error != cudaSuccess)
        return nn_fail(NN_DEVICE, "cuda: no driver that can run this build (%s); " ADVICE,
                       cudaGetErrorString(error));
    return NN_OK;
}

static nn_status describe(nn_cuda *g)
{
    int device = 0, major = 0, minor = 0;
    NN_CUDA_TRY(cudaGetDevice(&device));
    NN_CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    NN_CUDA_TRY(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    NN_CUDA_TRY(cudaDeviceGetAttribute(&g->n_processors, cudaDevAttrMultiProcessorCount, device));
    NN_CUDA_TRY(
        cudaDeviceGetAttribute(&g->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    g->capability = 10 * major + minor;
    if (g->capability < LEAST_CAPABILITY)
        return nn_fail(NN_UNSUPPORTED,
                       "cuda: this GPU has compute capability %d.%d, 8.0 is the "
                       "least; " ADVICE,
                       major, minor);
    return NN_OK;
}

static nn_status open(nn_device *d)
{
    NN_TRY(find_gpu());
    nn_cuda *g = static_cast<nn_cuda *>(nn_alloc(1, sizeof(*g)));
    NN_NEED(g);
    d->stream = g;
    NN_TRY(describe(g));
    NN_CUDA_TRY(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking));
    const size_t arrivals = NN_CUDA_ARRIVALS * sizeof(*g->arrivals);
    NN_CUDA_TRY(cudaMalloc(reinterpret_cast<void **>(&g->arrivals), arrivals));
    NN_CUDA_TRY(cudaMemsetAsync(g->arrivals, 0, arrivals, g->stream));
    NN_CUDA_TRY(cudaMalloc(reinterpret_cast<void **>(&g->fault), sizeof(*g->fault)));
    return nn_cuda_status(cudaMemsetAsync(g->fault, 0, sizeof(*g->fault), g->stream),
                          "clearing the fault");
}

static void close(nn_device *d)
{
    nn_cuda *g = gpu(d);
    if (!g) return;
    if (g->blas) cublasLtDestroy(g->blas);
#ifdef NN_CUDNN
    nn_cudnn_close(g);
#endif
    for (int i = 0; i < 2; i++)
        if (g->marks[i]) cudaEventDestroy(g->marks[i]);
    nn_cuda_stages_free(g);
    if (g->fault) cudaFree(g->fault);
    if (g->arrivals) cudaFree(g->arrivals);
    if (g->stream) cudaStreamDestroy(g->stream);
    nn_free(g);
    d->stream = NULL;
}

static nn_status allocate(nn_device *d, int64_t bytes, void **block)
{
    NN_CUDA_TRY(cudaMalloc(block, (size_t)nn_max(bytes, NO_BYTES)));
    NN_CUDA_TRY(cudaMemsetAsync(*block, 0, (size_t)nn_max(bytes, NO_BYTES), gpu(d)->stream));
    return nn_cuda_status(cudaStreamSynchronize(gpu(d)->stream), "clearing new memory");
}

static void *alloc(nn_device *d, int64_t bytes)
{
    void *block = NULL;
    if (allocate(d, bytes, &block) == NN_OK) return block;
    if (block) cudaFree(block);
    return NULL;
}

static void release(nn_device *d, void *block)
{
    (void)d;
    cudaFree(block);
}

static nn_status write(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    return nn_cuda_send(gpu(d), dst, src, bytes);
}

static nn_status read(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    return nn_cuda_fetch(gpu(d), dst, src, bytes);
}

static nn_status zero(nn_device *d, void *dst, int64_t bytes)
{
    return nn_cuda_status(cudaMemsetAsync(dst, 0, (size_t)bytes, gpu(d)->stream), "zero");
}

static int64_t free_bytes(const nn_device *d)
{
    size_t available = 0, all = 0;
    (void)d;
    return cudaMemGetInfo(&available, &all) == cudaSuccess ? (int64_t)available : 0;
}

static int64_t launches(const nn_device *d)
{
    return gpu(d)->n_launches;
}

/* Other threads of the program may call the runtime meanwhile. */
static nn_status begin_capture(nn_device *d)
{
    return nn_cuda_status(cudaStreamBeginCapture(gpu(d)->stream, cudaStreamCaptureModeThreadLocal),
                          "cudaStreamBeginCapture");
}

static nn_status end_capture(nn_device *d, void **recording)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    *recording = NULL;
    NN_CUDA_TRY(cudaStreamEndCapture(gpu(d)->stream, &graph));
    const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    NN_TRY(nn_cuda_status(error, "cudaGraphInstantiate"));
    *recording = executable;
    return NN_OK;
}

static nn_status launch_capture(nn_device *d, void *recording)
{
    return nn_cuda_status(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), gpu(d)->stream),
                          "cudaGraphLaunch");
}

static void free_capture(nn_device *d, void *recording)
{
    (void)d;
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording));
}

static nn_status report(const nn_cuda_fault *f)
{
    switch (f->kind) {
    case NN_CUDA_FAULT_EMBEDDING_ID:
        return nn_fail(NN_ARGUMENT, "embedding: id %d is outside the table", f->value);
    case NN_CUDA_FAULT_CACHE_ROW:
        return nn_fail(NN_ARGUMENT, "cache_write: rows at %d do not fit into the cache", f->value);
    case NN_CUDA_FAULT_LABEL:
        return nn_fail(NN_ARGUMENT, "softmax_xent: there is no logit for label %d", f->value);
    default:
        return nn_fail(NN_DEVICE, "cuda: unknown fault %d (value %d)", f->kind, f->value);
    }
}

static nn_status sync(nn_device *d)
{
    nn_cuda *g = gpu(d);
    nn_cuda_fault f;
    NN_TRY(nn_cuda_fetch(g, &f, g->fault, sizeof(f)));
    if (f.kind == NN_CUDA_FAULT_NONE) return NN_OK;
    NN_TRY(zero(d, g->fault, sizeof(f)));
    return report(&f);
}

static nn_status mark(nn_device *d, int which)
{
    nn_cuda *g = gpu(d);
    if (!g->marks[which]) NN_CUDA_TRY(cudaEventCreate(&g->marks[which]));
    return nn_cuda_status(cudaEventRecord(g->marks[which], g->stream), "cudaEventRecord");
}

static nn_status elapsed(nn_device *d, double *seconds)
{
    float ms = 0;
    NN_TRY(sync(d));
    NN_CUDA_TRY(cudaEventElapsedTime(&ms, gpu(d)->marks[0], gpu(d)->marks[1]));
    *seconds = 1e-3 * (double)ms;
    return NN_OK;
}

extern "C" const nn_backend nn_cuda_backend = { .name = "cuda",
                                                .kernels = nn_cuda_table,
                                                .host_memory = false,
                                                .computes = true,
                                                .stores_bf16 = true,
                                                .open = open,
                                                .close = close,
                                                .alloc = alloc,
                                                .free = release,
                                                .write = write,
                                                .read = read,
                                                .zero = zero,
                                                .sync = sync,
                                                .launches = launches,
                                                .free_bytes = free_bytes,
                                                .mark = mark,
                                                .elapsed = elapsed,
                                                .begin_capture = begin_capture,
                                                .end_capture = end_capture,
                                                .launch_capture = launch_capture,
                                                .free_capture = free_capture };

/* -- a GPU that is not there: what kernels are chosen by is that of an H100 ---------------------
 */

static nn_status open_absent(nn_device *d)
{
    nn_cuda *g = static_cast<nn_cuda *>(nn_alloc(1, sizeof(*g)));
    NN_NEED(g);
    g->absent = true;
    g->n_processors = 132;
    g->shared_bytes = 227 * 1024;
    g->capability = 90;
    d->stream = g;
    return NN_OK;
}

extern "C" const nn_backend nn_cuda_absent_backend = { .name = "null:cuda",
                                                       .kernels = nn_cuda_table,
                                                       .host_memory = false,
                                                       .computes = false,
                                                       .stores_bf16 = true,
                                                       .open = open_absent,
                                                       .close = close,
                                                       NN_NULL_MEMORY,
                                                       .launches = launches };
