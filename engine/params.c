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
    void *const blocks[] = { p->values, p->grads, p->half, p->vectors };
    for (int i = 0; i < NN_COUNT(blocks); i++)
        if (blocks[i]) p->device->backend->free(p->device, blocks[i]);
    for (int64_t i = 0; i < p->n; i++)
        if (p->items[i]->own) p->device->backend->free(p->device, p->items[i]->own);
    for (const nn_params_held *h = p->held; h; h = h->next) h->close(h->it);
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

/* Elements that it and what is joined to it take in the flat buffers. */
static int64_t padded(const nn_param *param)
{
    int64_t n = 0;
    for (; param; param = param->next) n += nn_view_elems(&param->view);
    return (n + 15) / 16 * 16;
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
    p->n_elems += padded(param);
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

static bool same_parts(const nn_param *first, int n, nn_param *const parts[])
{
    for (int i = 0; i < n; i++, first = first->next)
        if (first != parts[i]) return false;
    return first == NULL;
}

static bool may_follow(const nn_param *first, const nn_param *part)
{
    nn_view like = part->view;
    like.dim[0] = first->view.dim[0];
    return part != first && !part->inner && !part->next && !part->joined && like.rank >= 1 &&
           nn_view_same_shape(&like, &first->view);
}

nn_status nn_params_join(nn_params *p, int n, nn_param *const parts[], nn_param **out)
{
    nn_param *first = parts[0];
    *out = first->joined;
    if (*out && same_parts(first, n, parts)) return NN_OK;
    bool fit = !*out && !first->inner;
    for (int i = 1; i < n; i++) fit = fit && may_follow(first, parts[i]);
    if (!fit)
        return nn_fail(NN_SHAPE,
                       "%s and %d others: they do not fit together, or are joined otherwise",
                       first->name, n - 1);
    if (p->sealed)
        return nn_fail(NN_ARGUMENT, "%s and %d others: they are wanted as one and lie apart",
                       first->name, n - 1);
    nn_param *joined = nn_arena_alloc(&p->arena, 1, sizeof(*joined));
    NN_NEED(joined);
    *joined = *first;
    joined->name = nn_arena_format(&p->arena, "%s + %d", first->name, n - 1);
    NN_NEED(joined->name);
    for (int i = 1; i < n; i++) {
        joined->view.dim[0] += parts[i]->view.dim[0];
        parts[i - 1]->next = parts[i];
        parts[i]->inner = true;
    }
    *out = first->joined = joined;
    return NN_OK;
}

/* Offsets: in order, joined ones behind the first of them. */
static void lay_out(nn_params *p)
{
    p->n_elems = 0;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t at = p->n_elems;
        if (p->items[i]->inner) continue;
        for (nn_param *part = p->items[i]; part; part = part->next) {
            part->offset = at;
            at += nn_view_elems(&part->view);
        }
        if (p->items[i]->joined) p->items[i]->joined->offset = p->items[i]->offset;
        p->n_elems += padded(p->items[i]);
    }
}

/* For a parameter and what it is the first of. */
#define EACH_OF(one, param)                                                                        \
    for (nn_param *one = (param); one; one = one == (param) ? (param)->joined : NULL)

static nn_status reserve(nn_params *p, int64_t elems, int64_t size, void *out)
{
    void *block = p->device->backend->alloc(p->device, nn_max(elems, 1) * size);
    NN_NEED(block);
    memcpy(out, &block, sizeof(block));
    return NN_OK;
}

/* The flat buffer of all values in the store's dtype. */
static nn_status reserve_values(nn_params *p)
{
    int64_t size = nn_dtype_bytes(p->dtype);
    NN_TRY(reserve(p, p->n_elems, size, &p->values));
    for (int64_t i = 0; i < p->n; i++)
        EACH_OF(one, p->items[i]) one->view.data = (char *)p->values + one->offset * size;
    return NN_OK;
}

static nn_status reserve_half(nn_params *p)
{
    NN_TRY(reserve(p, p->n_elems, sizeof(*p->half), &p->half));
    for (int64_t i = 0; i < p->n; i++) EACH_OF(one, p->items[i]) one->half = p->half + one->offset;
    return NN_OK;
}

static void place(nn_param *first, float *at)
{
    if (first->joined) first->joined->view.data = at;
    for (nn_param *part = first; part; part = part->next) {
        part->view.data = at;
        at += nn_view_elems(&part->view);
    }
}

static nn_status reserve_vectors(nn_params *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->items[i]->view.rank < 2 && !p->items[i]->inner)
            p->n_vector_elems += padded(p->items[i]);
    NN_TRY(reserve(p, p->n_vector_elems, sizeof(*p->vectors), &p->vectors));
    float *next = p->vectors;
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i]->view.rank >= 2 || p->items[i]->inner) continue;
        place(p->items[i], next);
        next += padded(p->items[i]);
    }
    return NN_OK;
}

/* Matrices and kernels as bf16, vectors as f32. */
static nn_status reserve_halves_only(nn_params *p)
{
    NN_TRY(reserve_half(p));
    for (int64_t i = 0; i < p->n; i++) {
        if (p->items[i]->view.rank < 2) continue;
        EACH_OF(one, p->items[i])
        {
            one->view.dtype = NN_BF16;
            one->view.data = one->half;
        }
    }
    return reserve_vectors(p);
}

/* Vectors, and what lies together. The rest comes from its source, or lies there. */
static nn_status reserve_frozen(nn_params *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        nn_param *first = p->items[i];
        if (first->view.rank < 2 || !first->joined) continue;
        NN_TRY(reserve(p, padded(first), sizeof(float), &first->own));
        place(first, first->own);
    }
    return reserve_vectors(p);
}

nn_status nn_params_alloc(nn_params *p, nn_device *device, bool with_grads)
{
    bool half = p->dtype == NN_F32 && nn_device_storage(device) == NN_BF16;
    NN_ASSERT(!p->sealed);
    p->device = device;
    lay_out(p);
    bool full = with_grads || p->exact;
    p->frozen &= p->dtype == NN_F32 && !half && !full && device->backend->host_memory &&
                 device->backend->computes;
    if (p->frozen)
        NN_TRY(reserve_frozen(p));
    else if (half && !full)
        NN_TRY(reserve_halves_only(p));
    else
        NN_TRY(reserve_values(p));
    if (half && with_grads) NN_TRY(reserve_half(p));
    p->trained = with_grads;
    p->sealed = true;
    return NN_OK;
}

nn_status nn_params_keep_grads(nn_params *p)
{
    NN_ASSERT(p->trained);
    return p->grads ? NN_OK : reserve(p, p->n_elems, nn_dtype_bytes(p->dtype), &p->grads);
}

nn_status nn_params_lower(nn_params *p)
{
    NN_ASSERT(p->dtype == NN_F32);
    if (!p->sealed || p->half) return NN_OK;
    p->stale = true;
    return reserve_half(p);
}

void nn_params_touch(nn_params *p)
{
    p->version++;
    p->stale = true;
}

int64_t nn_params_count(const nn_params *p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) n += nn_view_elems(&p->items[i]->view);
    return n;
}
