/* A device whose memory the host cannot touch, as that of a graphics card: its addresses lie where
 * no process has memory, so that whoever follows one dies on the spot. Its kernels are ref's and
 * see the addresses moved back. */
#ifndef TESTS_UNIT_FAR_H
#define TESTS_UNIT_FAR_H

#include <string.h>

#include "engine/base/alloc.h"
#include "kernels/ref/ref.h"
#include "tests/unit/engine_check.h"

/* No address of x86-64 or AArch64 has these bits. */
#define FAR_AWAY ((uintptr_t)0x5a << 56)

static inline void *far_out(void *near)
{
    return near ? (void *)((uintptr_t)near + FAR_AWAY) : NULL;
}

static inline void *far_back(const void *far)
{
    if (!far) return NULL;
    assert_true((uintptr_t)far >= FAR_AWAY); /* memory of the host given to the device */
    return (void *)((uintptr_t)far - FAR_AWAY);
}

static inline nn_status far_run(nn_op_id op, const nn_call *c)
{
    nn_call near = *c;
    for (int i = 0; i < c->n_in; i++) near.in[i].data = far_back(c->in[i].data);
    for (int i = 0; i < c->n_out; i++) near.out[i].data = far_back(c->out[i].data);
    near.workspace = far_back(c->workspace);
    return nn_ref_table[op]->run(&near);
}

/* A kernel does not know its op: one function for each. */
#define NN_OP(ID, name)                                                                            \
    static inline nn_status far_##name(const nn_call *c)                                           \
    {                                                                                              \
        return far_run(NN_OP_##ID, c);                                                             \
    }
#include "kernels/ops.def"
#undef NN_OP

static inline const nn_kernel *const *far_table(void)
{
    static nn_status (*const run[NN_OP_COUNT])(const nn_call *) = {
#define NN_OP(ID, name) far_##name,
#include "kernels/ops.def"
#undef NN_OP
    };
    static nn_kernel kernels[NN_OP_COUNT][2];
    static const nn_kernel *table[NN_OP_COUNT];
    for (int i = 0; i < NN_OP_COUNT; i++) {
        kernels[i][0] = nn_ref_table[i][0];
        if (kernels[i][0].run) kernels[i][0].run = run[i];
        table[i] = kernels[i];
    }
    return table;
}

static inline void *far_alloc(nn_device *d, int64_t bytes)
{
    (void)d;
    return far_out(nn_alloc_aligned(bytes));
}

static inline void far_free(nn_device *d, void *block)
{
    (void)d;
    nn_free(far_back(block));
}

static inline nn_status far_write(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    memcpy(far_back(dst), src, (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_read(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    memcpy(dst, far_back(src), (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_zero(nn_device *d, void *dst, int64_t bytes)
{
    (void)d;
    memset(far_back(dst), 0, (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_sync(nn_device *d)
{
    (void)d;
    return NN_OK;
}

static inline nn_device *far_open(void)
{
    static nn_backend backend = { .name = "far",
                                  .computes = true,
                                  .stores_bf16 = true,
                                  .alloc = far_alloc,
                                  .free = far_free,
                                  .write = far_write,
                                  .read = far_read,
                                  .zero = far_zero,
                                  .sync = far_sync };
    nn_device *d = nn_alloc(1, sizeof(*d));
    assert_non_null(d);
    backend.kernels = far_table();
    d->backend = &backend;
    d->arithmetic = NN_F32;
    OK(nn_pool_create(1, &d->pool));
    return d;
}

#endif
