/* Values that need not be kept: where they come from, and when they are in memory. */
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/params.h"

nn_status nn_params_hold(nn_params *p, void *it, void (*close)(void *it))
{
    nn_params_held *h = nn_arena_alloc(&p->arena, 1, sizeof(*h));
    if (!h) {
        close(it);
        return NN_MEMORY;
    }
    *h = (nn_params_held){ p->held, it, close };
    p->held = h;
    return NN_OK;
}

/* The parameters that make up one: those of a joined one, else itself. */
static nn_param *begin_of(const nn_params *p, nn_param *param)
{
    nn_param *first = p->items[param->index];
    return first->joined == param ? first : param;
}

static nn_param *next_of(const nn_param *param, nn_param *part)
{
    return part == param ? NULL : part->next;
}

#define EACH_PART(part, p, param)                                                                  \
    for (nn_param *part = begin_of((p), (param)); part; part = next_of((param), part))

nn_status nn_params_bind(nn_params *p, nn_param *param, nn_params_fetch *fetch, const void *of,
                         const float *mapped)
{
    bool together = param->inner || param->joined;
    NN_ASSERT(p->frozen && p->sealed);
    nn_params_touch(p);
    param->fetch = fetch;
    param->of = of;
    if (param->view.rank < 2) return fetch(of, param, NULL, param->view.data);
    param->mapped = mapped && !together;
    param->absent = !param->mapped;
    if (together) return NN_OK;
    param->view.data = (void *)(uintptr_t)mapped;
    if (mapped) return NN_OK;
    const int64_t bytes = nn_view_bytes(&param->view);
    if (!param->own) param->own = p->device->backend->alloc(p->device, nn_max(bytes, 1));
    NN_NEED(param->own);
    param->view.data = param->own;
    return NN_OK;
}

bool nn_params_is_bound(const nn_params *p, const nn_param *param)
{
    return p->items[param->index]->fetch != NULL;
}

bool nn_params_keep(nn_params *p, nn_param *param)
{
    bool fresh = false;
    EACH_PART(part, p, param)
    {
        fresh |= !part->kept;
        part->kept = true;
    }
    return fresh;
}

nn_status nn_params_need(const nn_params *p, nn_param *param)
{
    if (!p->frozen) return NN_OK;
    if (!nn_params_is_bound(p, param))
        return nn_fail(NN_ARGUMENT, "%s: is read before the store was loaded or initialised",
                       param->name);
    EACH_PART(part, p, param)
    {
        if (!part->absent) continue;
        NN_TRY(part->fetch(part->of, part, p->device->pool, part->view.data));
        part->absent = false;
    }
    return NN_OK;
}

/* A joined one goes as one: pages that two parts share go as well. */
static void give_back(const nn_params *p, nn_param *param)
{
    const int64_t bytes = nn_view_bytes(&param->view);
    if (!nn_params_is_bound(p, param) || param->view.rank < 2 || !bytes) return;
    if (param->mapped) {
        nn_map_give_back(param->view.data, bytes);
        return;
    }
    nn_give_back(param->view.data, bytes);
    EACH_PART(part, p, param) part->absent = true;
}

void nn_params_give_back(nn_params *p, nn_param *param)
{
    bool kept = false;
    if (!p->frozen) return;
    EACH_PART(part, p, param) kept |= part->kept;
    if (!kept) give_back(p, param);
}

void nn_params_give_back_all(nn_params *p)
{
    for (int64_t i = 0; i < p->n && p->frozen; i++) {
        nn_param *param = p->items[i];
        param->kept = false;
        if (!param->inner) give_back(p, param->joined ? param->joined : param);
    }
}
