/* The parameter store. */
#include "engine/params.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

nn_status nn_params_create(nn_params **out)
{
    nn_params *p = nn_alloc(1, sizeof(*p));
    NN_NEED(p);
    p->dtype = NN_F32;
    p->version = 1;
    *out = p;
    return NN_OK;
}

void nn_params_destroy(nn_params *p)
{
    if (!p) return;
    if (p->values) p->device->backend->free(p->device, p->values);
    if (p->grads) p->device->backend->free(p->device, p->grads);
    nn_free(p->items);
    nn_free(p->table);
    nn_arena_free(&p->arena);
    nn_free(p);
}

/* Slot of a name: its own, or the free one where it would go. */
static int64_t slot_of(const nn_params *p, const char *name)
{
    uint64_t h = nn_hash_text(name);
    for (int64_t i = (int64_t)(h % (uint64_t)p->table_size);; i = (i + 1) % p->table_size) {
        int64_t at = p->table[i];
        if (!at || !strcmp(p->items[at - 1]->name, name)) return i;
    }
}

nn_param *nn_params_find(const nn_params *p, const char *name)
{
    if (!p->table_size) return NULL;
    int64_t at = p->table[slot_of(p, name)];
    return at ? p->items[at - 1] : NULL;
}

static nn_status rehash(nn_params *p)
{
    if (2 * (p->n + 1) <= p->table_size) return NN_OK;
    int64_t size = p->table_size ? 2 * p->table_size : 64;
    int64_t *table = nn_alloc(size, sizeof(*table));
    NN_NEED(table);
    nn_free(p->table);
    p->table = table;
    p->table_size = size;
    for (int64_t i = 0; i < p->n; i++) table[slot_of(p, p->items[i]->name)] = i + 1;
    return NN_OK;
}

static nn_status add(nn_params *p, const char *name, nn_init init, const nn_view *want,
                     nn_param **out)
{
    NN_TRY(nn_grow(&p->items, &p->capacity, p->n, sizeof(*p->items)));
    NN_TRY(rehash(p));
    nn_param *param = nn_arena_alloc(&p->arena, 1, sizeof(*param));
    NN_NEED(param);
    param->name = nn_arena_strdup(&p->arena, name);
    NN_NEED(param->name);
    param->view = *want;
    param->init = init;
    param->offset = p->n_elems;
    param->index = p->n;
    p->n_elems += (nn_view_elems(want) + 15) / 16 * 16;
    p->items[p->n++] = param;
    p->table[slot_of(p, name)] = p->n;
    *out = param;
    return NN_OK;
}

nn_status nn_params_declare(nn_params *p, const char *name, nn_init init, int rank,
                            const int64_t *dim, nn_param **out)
{
    nn_view want = nn_view_make(p->dtype, rank, dim);
    nn_param *param = nn_params_find(p, name);
    if (!param) {
        if (p->sealed)
            return nn_fail(NN_NOT_FOUND, "%s: not among the %lld parameters of this model", name,
                           (long long)p->n);
        return add(p, name, init, &want, out);
    }
    if (!nn_view_same_shape(&param->view, &want))
        return nn_fail(NN_SHAPE, "%s: is %s, %s is expected", name, nn_view_text(&param->view).s,
                       nn_view_text(&want).s);
    *out = param;
    return NN_OK;
}

nn_status nn_params_alloc(nn_params *p, nn_device *device, bool with_grads)
{
    int64_t size = nn_dtype_bytes(p->dtype);
    NN_ASSERT(!p->sealed);
    p->device = device;
    p->values = device->backend->alloc(device, p->n_elems * size);
    NN_NEED(p->values);
    if (with_grads) {
        p->grads = device->backend->alloc(device, p->n_elems * size);
        NN_NEED(p->grads);
    }
    for (int64_t i = 0; i < p->n; i++)
        p->items[i]->view.data = (char *)p->values + p->items[i]->offset * size;
    p->sealed = true;
    return NN_OK;
}

nn_status nn_params_borrow(nn_params *p, nn_device *device)
{
    NN_ASSERT(!p->sealed);
    p->device = device;
    p->sealed = true;
    return NN_OK;
}

void nn_params_bind(nn_params *p, nn_param *param, void *data)
{
    NN_ASSERT(p->sealed && !p->values);
    param->view.data = data;
    nn_params_touch(p);
}

static void draw(const nn_param *param, uint64_t seed, float *out)
{
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
}

nn_status nn_params_init(nn_params *p, uint64_t seed)
{
    NN_ASSERT(p->dtype == NN_F32);
    int64_t most = 0;
    for (int64_t i = 0; i < p->n; i++) most = nn_max(most, nn_view_elems(&p->items[i]->view));
    float *host = nn_alloc(most, sizeof(*host));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < p->n && status == NN_OK; i++) {
        draw(p->items[i], seed, host);
        status = nn_params_write(p, p->items[i], host);
    }
    nn_free(host);
    return status;
}

nn_status nn_params_write(nn_params *p, nn_param *param, const void *src)
{
    NN_ASSERT(p->values);
    nn_params_touch(p);
    return p->device->backend->write(p->device, param->view.data, src, nn_view_bytes(&param->view));
}

nn_status nn_params_read(const nn_params *p, const nn_param *param, void *dst)
{
    return p->device->backend->read(p->device, dst, param->view.data, nn_view_bytes(&param->view));
}

void nn_params_touch(nn_params *p)
{
    p->version++;
}

int64_t nn_params_count(const nn_params *p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) n += nn_view_elems(&p->items[i]->view);
    return n;
}

uint64_t nn_params_hash(const nn_params *p)
{
    uint64_t h = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const nn_param *param = p->items[i];
        h = nn_hash(h, param->name, (int64_t)strlen(param->name));
        h = nn_hash(h, param->view.dim, param->view.rank * (int64_t)sizeof(int64_t));
        if (p->device->backend->host_memory)
            h = nn_hash(h, param->view.data, nn_view_bytes(&param->view));
    }
    return h;
}
