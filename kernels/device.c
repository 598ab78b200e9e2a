/* The backends of this build, and the choice of a kernel. */
#include "kernels/backend.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "kernels/ref/ref.h"
#ifdef NN_CPU
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn/onednn.h"
#endif
#ifdef NN_CUDA
#include "kernels/cuda/cuda.h"
#endif
#include "kernels/null/null.h"

static void *host_alloc(nn_device *d, int64_t bytes)
{
    (void)d;
    return nn_alloc_aligned(bytes);
}

static void host_free(nn_device *d, void *block)
{
    (void)d;
    nn_free(block);
}

static nn_status host_copy(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    memcpy(dst, src, (size_t)bytes);
    return NN_OK;
}

static nn_status host_zero(nn_device *d, void *dst, int64_t bytes)
{
    (void)d;
    memset(dst, 0, (size_t)bytes);
    return NN_OK;
}

static nn_status host_sync(nn_device *d)
{
    (void)d;
    return NN_OK;
}

#define HOST_MEMORY                                                                                \
    .host_memory = true, .computes = true, .alloc = host_alloc, .free = host_free,                 \
    .write = host_copy, .read = host_copy, .zero = host_zero, .sync = host_sync

static const nn_backend ref_backend = { .name = "ref", .kernels = nn_ref_table, HOST_MEMORY };

#ifdef NN_CPU
#define CPU_BACKEND(table)                                                                         \
    {                                                                                              \
        .name = "cpu", .kernels = (table), .open = nn_dnnl_open, .close = nn_dnnl_close,           \
        HOST_MEMORY                                                                                \
    }
#endif

#ifdef NN_CPU
#define BUILT_CPU "cpu, "
#else
#define BUILT_CPU ""
#endif
#ifdef NN_CUDA
#define BUILT "cuda, " BUILT_CPU
#else
#define BUILT BUILT_CPU
#endif

static nn_status open_backend(nn_device *d, const char *name)
{
#ifdef NN_CPU
    static const nn_backend cpu_backends[] = {
        CPU_BACKEND(nn_cpu_avx512_table),
        CPU_BACKEND(nn_cpu_avx2_table),
        CPU_BACKEND(nn_cpu_portable_table),
    };
    if (!strcmp(name, "cpu")) {
        d->backend = &cpu_backends[nn_cpu_level()];
        d->fallback = &ref_backend;
    }
#endif
#ifdef NN_CUDA
    if (!strcmp(name, "cuda")) d->backend = &nn_cuda_backend;
#endif
    if (!strcmp(name, "ref")) d->backend = &ref_backend;
    if (!strcmp(name, "null")) d->backend = &nn_null_backend;
    if (!d->backend)
        return nn_fail(NN_NOT_FOUND,
                       "device '%s' is not in this build; it has " BUILT "ref and null", name);
    return d->backend->open ? d->backend->open(d) : NN_OK;
}

nn_status nn_device_open(const char *name, int n_threads, nn_device **out)
{
    nn_device *d = nn_alloc(1, sizeof(*d));
    NN_NEED(d);
    nn_status status = open_backend(d, name);
    if (status == NN_OK && d->backend->computes) status = nn_pool_create(n_threads, &d->pool);
    if (status != NN_OK) {
        nn_device_close(d);
        return status;
    }
    *out = d;
    return NN_OK;
}

void nn_device_close(nn_device *d)
{
    if (!d) return;
    if (d->backend && d->backend->close) d->backend->close(d);
    nn_pool_destroy(d->pool);
    nn_free(d);
}

static const nn_kernel *choose(const nn_backend *b, nn_op_id op, const nn_call *c, int *skip)
{
    for (const nn_kernel *k = b->kernels[op]; k && k->name; k++)
        if ((!k->accepts || k->accepts(c)) && (*skip)-- == 0) return k;
    return NULL;
}

const nn_kernel *nn_device_kernel(const nn_device *d, nn_op_id op, const nn_call *c, int skip)
{
    const nn_kernel *k = choose(d->backend, op, c, &skip);
    return k || !d->fallback ? k : choose(d->fallback, op, c, &skip);
}

const char *nn_op_name(nn_op_id op)
{
    static const char *const name[] = {
#define NN_OP(ID, op_name) #op_name,
#include "kernels/ops.def"
#undef NN_OP
    };
    return name[op];
}
