/* Values between the host and the device: drawn, written, read, rounded, hashed. */
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "engine/base/rng.h"
#include "engine/params.h"

enum { CHUNK = 1 << 18 }; /* elements on their way at a time */

/* of: the seed. */
static nn_status draw(const void *of, const nn_param *param, nn_pool *pool, float *out)
{
    (void)pool;
    uint64_t seed = *(const uint64_t *)of;
    int64_t n = nn_view_elems(&param->view);
    nn_rng rng = nn_rng_make(seed, param->name, 0);
    for (int64_t i = 0; i < n; i++) {
        switch (param->init.kind) {
        case NN_INIT_ZEROS:
            out[i] = 0;
            break;
        case NN_INIT_ONES:
            out[i] = 1;
            break;
        case NN_INIT_NORMAL:
            out[i] = param->init.scale * nn_rng_normal(&rng);
            break;
        case NN_INIT_UNIFORM:
            out[i] = param->init.scale * (2.0f * nn_rng_uniform(&rng) - 1.0f);
            break;
        }
    }
    return NN_OK;
}

static nn_status bind_draws(nn_params *p, uint64_t seed)
{
    uint64_t *of = nn_arena_alloc(&p->arena, 1, sizeof(*of));
    NN_NEED(of);
    *of = seed;
    for (int64_t i = 0; i < p->n; i++) NN_TRY(nn_params_bind(p, p->items[i], draw, of, NULL));
    return NN_OK;
}

nn_status nn_params_init(nn_params *p, uint64_t seed)
{
    NN_ASSERT(p->dtype == NN_F32);
    if (p->frozen) return bind_draws(p, seed);
    int64_t most = 0;
    for (int64_t i = 0; i < p->n; i++) most = nn_max(most, nn_view_elems(&p->items[i]->view));
    float *host = nn_alloc(most, sizeof(*host));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < p->n && status == NN_OK; i++) {
        status = draw(&seed, p->items[i], NULL, host);
        if (status == NN_OK) status = nn_params_write(p, p->items[i], host);
    }
    nn_free(host);
    return status;
}

/* n elements of src, f32, to where only bf16 is kept. */
static nn_status write_rounded(nn_params *p, uint16_t *to, int64_t n, const float *src)
{
    uint16_t *host = nn_alloc(nn_min(n, CHUNK), sizeof(*host));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i += CHUNK) {
        int64_t part = nn_min(n - i, CHUNK);
        for (int64_t k = 0; k < part; k++) host[k] = nn_f32_to_bf16(src[i + k]);
        status = p->device->backend->write(p->device, to + i, host, part * (int64_t)sizeof(*host));
    }
    nn_free(host);
    return status;
}

nn_status nn_params_write_part(nn_params *p, nn_param *param, int64_t first, int64_t n,
                               const void *src)
{
    int64_t size = nn_dtype_bytes(param->view.dtype);
    NN_ASSERT(p->sealed);
    if (p->frozen)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: belongs to a frozen store, whose values stay as their file has them",
                       param->name);
    nn_params_touch(p);
    if (param->view.dtype == NN_BF16)
        return write_rounded(p, (uint16_t *)param->half + first, n, src);
    return p->device->backend->write(p->device, (char *)param->view.data + first * size, src,
                                     n * size);
}

nn_status nn_params_write(nn_params *p, nn_param *param, const void *src)
{
    return nn_params_write_part(p, param, 0, nn_view_elems(&param->view), src);
}

nn_status nn_params_read_part(const nn_params *p, const nn_param *param, int64_t first, int64_t n,
                              void *dst)
{
    int64_t size = nn_dtype_bytes(param->view.dtype);
    NN_TRY(nn_params_need(p, p->items[param->index]));
    const char *src = (const char *)param->view.data + first * size;
    float *wide = dst;
    if (param->view.dtype != NN_BF16)
        return p->device->backend->read(p->device, dst, src, n * size);
    uint16_t *narrow = (uint16_t *)dst + n; /* the upper half: widened from below, never overrun */
    NN_TRY(p->device->backend->read(p->device, narrow, src, n * size));
    for (int64_t i = 0; i < n; i++) {
        float value = nn_bf16_to_f32(narrow[i]);
        memcpy(&wide[i], &value, sizeof(value));
    }
    return NN_OK;
}

nn_status nn_params_read(const nn_params *p, const nn_param *param, void *dst)
{
    return nn_params_read_part(p, param, 0, nn_view_elems(&param->view), dst);
}

nn_status nn_params_read_gradient(const nn_params *p, const nn_param *param, void *dst)
{
    NN_ASSERT(p->grads);
    const char *src = (const char *)p->grads + param->offset * nn_dtype_bytes(p->dtype);
    return p->device->backend->read(p->device, dst, src, nn_view_bytes(&param->view));
}

nn_status nn_params_refresh(nn_params *p)
{
    if (!p->stale || !p->half || !p->values) return NN_OK;
    NN_TRY(nn_device_convert(p->device, p->n_elems, NN_F32, p->values, NN_BF16, p->half));
    p->stale = false;
    return NN_OK;
}

nn_status nn_params_hash(const nn_params *p, uint64_t *hash)
{
    uint64_t h = 0;
    float *host = nn_alloc(CHUNK, sizeof(double));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < p->n && status == NN_OK; i++) {
        const nn_param *param = p->items[i];
        int64_t n = nn_view_elems(&param->view);
        h = nn_hash(h, param->name, (int64_t)strlen(param->name));
        h = nn_hash(h, param->view.dim, param->view.rank * (int64_t)sizeof(int64_t));
        for (int64_t at = 0; at < n && status == NN_OK; at += CHUNK) {
            int64_t part = nn_min(n - at, CHUNK);
            status = nn_params_read_part(p, param, at, part, host);
            if (status == NN_OK) h = nn_hash(h, host, part * nn_dtype_bytes(p->dtype));
        }
    }
    nn_free(host);
    *hash = h;
    return status;
}
