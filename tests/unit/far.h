/* A device whose memory the host cannot touch, as that of a graphics card: its addresses lie where
 * no process has memory, so that whoever follows one dies on the spot. Its kernels are ref's and
 * see the addresses moved back. It records kernels with their calls as they were, and allows
 * nothing else meanwhile. */
#ifndef TESTS_UNIT_FAR_H
#define TESTS_UNIT_FAR_H

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/params.h"
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

typedef nn_status far_kernel(const nn_call *near);

typedef struct far_recording {
    int64_t n, capacity;
    struct {
        far_kernel *kernel;
        nn_call call;
    } * items;
} far_recording;

/* What the device does and has done. */
static struct {
    far_recording *recording; /* NULL: it does what it is told at once */
    int64_t n_runs;           /* kernels that were run one by one */
    int64_t n_recordings, n_launches, n_alive;
    int64_t most_read, most_written; /* bytes of one copy to and from the host */
    bool cannot_record;              /* the end of a recording is an error */
} far_state;

static inline nn_status far_execute(far_kernel *kernel, const nn_call *c)
{
    nn_call near = *c;
    for (int i = 0; i < c->n_in; i++) near.in[i].data = far_back(c->in[i].data);
    for (int i = 0; i < c->n_out; i++) near.out[i].data = far_back(c->out[i].data);
    near.workspace = far_back(c->workspace);
    near.packed = far_back(c->packed);
    if (c->run_seed) near.seed = nn_mix(*(uint64_t *)far_back(c->run_seed), c->stream_id);
    return kernel(&near);
}

static inline nn_status far_run(far_kernel *kernel, const nn_call *c)
{
    far_recording *r = far_state.recording;
    if (!r) {
        far_state.n_runs++;
        return far_execute(kernel, c);
    }
    OK(nn_grow(&r->items, &r->capacity, r->n, sizeof(*r->items)));
    r->items[r->n].kernel = kernel;
    r->items[r->n++].call = *c;
    return NN_OK;
}

/* A kernel does not know its op: one function for each. */
#define NN_OP(ID, name)                                                                            \
    static inline nn_status far_##name(const nn_call *c)                                           \
    {                                                                                              \
        return far_run(nn_ref_table[NN_OP_##ID]->run, c);                                          \
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
    assert_null(far_state.recording);
    return far_out(nn_alloc_aligned(bytes));
}

static inline void far_free(nn_device *d, void *block)
{
    (void)d;
    assert_null(far_state.recording);
    nn_free(far_back(block));
}

static inline nn_status far_write(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    assert_null(far_state.recording);
    far_state.most_written = nn_max(far_state.most_written, bytes);
    memcpy(far_back(dst), src, (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_read(nn_device *d, void *dst, const void *src, int64_t bytes)
{
    (void)d;
    assert_null(far_state.recording);
    far_state.most_read = nn_max(far_state.most_read, bytes);
    memcpy(dst, far_back(src), (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_zero(nn_device *d, void *dst, int64_t bytes)
{
    (void)d;
    assert_null(far_state.recording);
    memset(far_back(dst), 0, (size_t)bytes);
    return NN_OK;
}

static inline nn_status far_sync(nn_device *d)
{
    (void)d;
    assert_null(far_state.recording);
    return NN_OK;
}

static inline nn_status far_begin_capture(nn_device *d)
{
    (void)d;
    assert_null(far_state.recording);
    far_state.recording = nn_alloc(1, sizeof(*far_state.recording));
    assert_non_null(far_state.recording);
    far_state.n_recordings++;
    far_state.n_alive++;
    return NN_OK;
}

static inline void far_free_capture(nn_device *d, void *recording)
{
    (void)d;
    far_state.n_alive--;
    nn_free(((far_recording *)recording)->items);
    nn_free(recording);
}

static inline nn_status far_end_capture(nn_device *d, void **recording)
{
    assert_non_null(far_state.recording);
    *recording = far_state.recording;
    far_state.recording = NULL;
    if (!far_state.cannot_record) return NN_OK;
    far_free_capture(d, *recording);
    *recording = NULL;
    return nn_fail(NN_DEVICE, "far: cannot record");
}

static inline nn_status far_launch_capture(nn_device *d, void *recording)
{
    const far_recording *r = recording;
    (void)d;
    assert_null(far_state.recording);
    far_state.n_launches++;
    for (int64_t i = 0; i < r->n; i++) NN_TRY(far_execute(r->items[i].kernel, &r->items[i].call));
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
                                  .sync = far_sync,
                                  .begin_capture = far_begin_capture,
                                  .end_capture = far_end_capture,
                                  .launch_capture = far_launch_capture,
                                  .free_capture = far_free_capture };
    nn_device *d = nn_alloc(1, sizeof(*d));
    assert_non_null(d);
    backend.kernels = far_table();
    d->backend = &backend;
    d->arithmetic = NN_F32;
    OK(nn_pool_create(1, &d->pool));
    return d;
}

/* That device, or ref to compare with. */
static inline nn_device *open_one(bool far, nn_dtype dtype)
{
    nn_device *d = far ? far_open() : open_device("ref", 1);
    OK(nn_device_compute(d, dtype));
    return d;
}

static inline uint64_t hash_of(const nn_params *p)
{
    uint64_t hash;
    OK(nn_params_hash(p, &hash));
    return hash;
}

#endif
