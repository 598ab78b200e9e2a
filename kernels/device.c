/* The backends of this build, and the choice of a kernel. */
#include "kernels/backend.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/str.h"
#include "kernels/ref/ref.h"
#ifdef NN_CPU
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn/onednn.h"
#endif
#ifdef NN_CUDA
#include "kernels/cuda/cuda.h"
#endif
#include "kernels/null/null.h"
#include "kernels/params.h"

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

static const nn_backend ref_backend = {
    .name = "ref", .kernels = nn_ref_table, .stores_bf16 = true, HOST_MEMORY
};

#ifdef NN_CPU
#define CPU_BACKEND(table)                                                                         \
    {                                                                                              \
        .name = "cpu", .kernels = (table), .rounds_bf16 = nn_dnnl_has_bf16, .open = nn_dnnl_open,  \
        .close = nn_dnnl_close, HOST_MEMORY                                                        \
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
    if (!strcmp(name, "null:cuda")) d->backend = &nn_cuda_absent_backend;
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
    d->arithmetic = NN_F32;
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

typedef struct absent_device {
    nn_device device; /* first, so that closing it frees both */
    nn_backend backend;
} absent_device;

/* Pool and stream are the other device's. */
static void leave(nn_device *d)
{
    d->pool = NULL;
    d->stream = NULL;
}

nn_status nn_device_open_absent(const nn_device *like, nn_device **out)
{
    static const nn_backend none = { NN_NULL_MEMORY, .close = leave };
    absent_device *a = nn_alloc(1, sizeof(*a));
    NN_NEED(a);
    a->device = *like;
    a->device.backend = &a->backend;
    a->backend = none;
    a->backend.name = like->backend->name;
    a->backend.kernels = like->backend->kernels;
    a->backend.host_memory = like->backend->host_memory;
    a->backend.stores_bf16 = like->backend->stores_bf16;
    a->backend.rounds_bf16 = like->backend->rounds_bf16;
    *out = &a->device;
    return NN_OK;
}

int64_t nn_device_free_bytes(const nn_device *d)
{
    if (d->backend->free_bytes) return d->backend->free_bytes(d);
    return d->backend->host_memory ? nn_clock_available_bytes() : 0;
}

nn_status nn_device_compute(nn_device *d, nn_dtype dtype)
{
    const nn_backend *b = d->backend;
    bool bf16 = b->stores_bf16 || (b->rounds_bf16 && b->rounds_bf16());
    if (dtype != NN_F32 && !(dtype == NN_BF16 && bf16))
        return nn_fail(NN_UNSUPPORTED,
                       "device %s cannot compute in %s on this processor; compute in f32", b->name,
                       nn_dtype_name(dtype));
    d->arithmetic = dtype;
    return NN_OK;
}

nn_dtype nn_device_storage(const nn_device *d)
{
    return d->backend->stores_bf16 && d->arithmetic == NN_BF16 ? NN_BF16 : NN_F32;
}

nn_status nn_device_mark(nn_device *d, int which)
{
    if (d->backend->mark) return d->backend->mark(d, which);
    nn_status status = d->backend->sync(d);
    d->marks[which] = nn_clock_seconds();
    return status;
}

nn_status nn_device_elapsed(nn_device *d, double *seconds)
{
    if (d->backend->elapsed) return d->backend->elapsed(d, seconds);
    *seconds = d->marks[1] - d->marks[0];
    return NN_OK;
}

/* "conv2d_cudnn" ends in "cudnn" */
static bool ends_in(const char *kernel, const char *ending)
{
    const char *last = strrchr(kernel, '_');
    return ending && last && !strcmp(last + 1, ending);
}

/* "conv2d_bwd_x" belongs to "conv2d" */
static bool belongs_to(const char *name, const char *op)
{
    size_t n = strlen(op);
    return nn_starts_with(name, op) && (!name[n] || name[n] == '_');
}

static nn_status no_such_kernel(const nn_device *d, const char *op, const char *ending)
{
    nn_text names = { 0 };
    nn_status status = NN_OK;
    for (int i = 0; i < NN_OP_COUNT; i++)
        for (const nn_kernel *k = d->backend->kernels[i]; k && k->name && status == NN_OK; k++)
            if (!strcmp(nn_op_name((nn_op_id)i), op))
                status = nn_text_add(&names, "%s%s", names.text ? ", " : "", k->name);
    if (status == NN_OK)
        status = nn_fail(NN_NOT_FOUND,
                         "device %s has no kernel %s_%s; it has %s (those of cuDNN: in builds with "
                         "CUDA=1 CUDNN=1)",
                         d->backend->name, op, ending, names.text ? names.text : "none");
    nn_text_free(&names);
    return status;
}

nn_status nn_device_prefer(nn_device *d, const char *op, const char *ending)
{
    bool found = false;
    for (int i = 0; i < NN_OP_COUNT; i++) {
        if (!belongs_to(nn_op_name((nn_op_id)i), op)) continue;
        d->preferred[i] = ending;
        for (const nn_kernel *k = d->backend->kernels[i]; k && k->name; k++)
            found = found || ends_in(k->name, ending);
    }
    return found ? NN_OK : no_such_kernel(d, op, ending);
}

static const nn_kernel *choose(const nn_backend *b, nn_op_id op, const nn_call *c,
                               const char *preferred, int *skip)
{
    for (int turn = preferred ? 0 : 1; turn < 2; turn++)
        for (const nn_kernel *k = b->kernels[op]; k && k->name; k++)
            if (ends_in(k->name, preferred) == (turn == 0) && (!k->accepts || k->accepts(c)) &&
                (*skip)-- == 0)
                return k;
    return NULL;
}

const nn_kernel *nn_device_kernel(const nn_device *d, nn_op_id op, const nn_call *c, int skip)
{
    const nn_kernel *k = choose(d->backend, op, c, d->preferred[op], &skip);
    return k || !d->fallback ? k : choose(d->fallback, op, c, NULL, &skip);
}

nn_status nn_device_convert(nn_device *d, int64_t n, nn_dtype from, const void *src, nn_dtype to,
                            void *dst)
{
    const nn_copy_params params = { to };
    nn_call c = { .n_in = 1, .n_out = 1, .params = &params, .pool = d->pool, .stream = d->stream };
    if (!n) return NN_OK;
    c.in[0] = nn_view_make(from, 1, &n);
    c.out[0] = nn_view_make(to, 1, &n);
    const nn_kernel *k = nn_device_kernel(d, NN_OP_COPY, &c, 0);
    if (!k)
        return nn_fail(NN_UNSUPPORTED, "device %s does not make %s of %s", d->backend->name,
                       nn_dtype_name(to), nn_dtype_name(from));
    NN_ASSERT(!k->workspace && !k->prepare); /* nothing to arrange in a packed copy */
    c.in[0].data = (void *)(uintptr_t)src;
    c.out[0].data = dst;
    return k->run(&c);
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
