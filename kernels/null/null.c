/* Accepts every call, holds no memory, executes nothing. */
#include "kernels/null/null.h"

static nn_status run(const nn_call *c)
{
    (void)c;
    return NN_OK;
}

static const nn_kernel counted[] = { { .name = "null", .run = run }, { 0 } };

static const nn_kernel *const table[NN_OP_COUNT] = {
#define NN_OP(ID, name) counted,
#include "kernels/ops.def"
#undef NN_OP
};

void *nn_null_alloc(nn_device *d, int64_t bytes)
{
    /* An address that is never touched: offsets from it are still right, which is what a plan is
     * checked by. */
    (void)d, (void)bytes;
    return (void *)(uintptr_t)4096;
}

void nn_null_free(nn_device *d, void *block)
{
    (void)d, (void)block;
}

nn_status nn_null_copy(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d, (void)dst, (void)src, (void)bytes;
    return NN_OK;
}

nn_status nn_null_zero(nn_device *d, void *dst, int64_t bytes)
{
    (void)d, (void)dst, (void)bytes;
    return NN_OK;
}

nn_status nn_null_sync(nn_device *d)
{
    (void)d;
    return NN_OK;
}

const nn_backend nn_null_backend = {
    .name = "null", .kernels = table, .stores_bf16 = true, NN_NULL_MEMORY
};
