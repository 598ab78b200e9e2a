/* The executor: run the steps of a plan in order, and move data in and out. */
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/plan_internal.h"

/* Outputs of a hostile plan start as NaN between guard bands, so that an element left out or one
 * too many shows. Parts of a whole have each other beside them. */
static bool is_guarded(const nn_plan *plan, const nn_step *s, int i)
{
    const nn_tensor *t = s->node->out[i];
    return nn_is_planned(t) && !(s->inplace && i == 0) && !plan->places[t->id].whole;
}

static int64_t guarded_bytes(const nn_step *s, int i)
{
    return (nn_view_bytes(&s->call.out[i]) + 63) / 64 * 64 + 2 * NN_GUARD_BYTES;
}

static nn_status poison_block(nn_plan *plan, char *block, int64_t bytes, int64_t piece)
{
    const nn_backend *b = plan->device->backend;
    for (int64_t at = 0; at < bytes && b->computes; at += piece)
        NN_TRY(b->write(plan->device, block + at, plan->poison, nn_min(piece, bytes - at)));
    return NN_OK;
}

/* What lies around inputs and in a workspace is NaN as well. */
nn_status nn_plan_make_poison(nn_plan *plan)
{
    int64_t most = 1 << 16;
    for (int64_t k = 0; k < plan->n_steps; k++)
        for (int i = 0; i < plan->steps[k].call.n_out; i++)
            most = nn_max(most, guarded_bytes(&plan->steps[k], i));
    plan->poison = nn_alloc(most, 1);
    NN_NEED(plan->poison);
    memset(plan->poison, 0xff, (size_t)most);
    NN_TRY(poison_block(plan, plan->activations, plan->stats.activation_bytes, most));
    return poison_block(plan, plan->workspace, plan->stats.workspace_bytes, most);
}

static nn_status poison_outputs(nn_plan *plan, nn_step *s)
{
    for (int i = 0; i < s->call.n_out; i++) {
        if (!is_guarded(plan, s, i)) continue;
        char *start = (char *)s->call.out[i].data - NN_GUARD_BYTES;
        NN_TRY(
            plan->device->backend->write(plan->device, start, plan->poison, guarded_bytes(s, i)));
    }
    return NN_OK;
}

static nn_status check_guards(nn_plan *plan, const nn_step *s)
{
    char found[2 * NN_GUARD_BYTES];
    const nn_backend *b = plan->device->backend;
    for (int i = 0; i < s->call.n_out; i++) {
        if (!is_guarded(plan, s, i)) continue;
        const char *start = s->call.out[i].data;
        NN_TRY(b->read(plan->device, found, start - NN_GUARD_BYTES, NN_GUARD_BYTES));
        NN_TRY(b->read(plan->device, found + NN_GUARD_BYTES, start + nn_view_bytes(&s->call.out[i]),
                       NN_GUARD_BYTES));
        if (memcmp(found, plan->poison, sizeof(found)) != 0)
            return nn_fail(NN_DEVICE, "%s: %s: kernel %s wrote outside of output %d",
                           s->node->scope, nn_op_name(s->node->op), s->kernel->name, i);
    }
    return NN_OK;
}

uint64_t nn_step_version(const nn_step *s)
{
    uint64_t version = 0;
    for (int i = 0; i < s->node->n_in; i++) {
        const nn_tensor *t = s->node->in[i];
        if (t && t->root->store) version += t->root->store->version + 1;
    }
    return version;
}

static nn_status run_step(nn_plan *plan, nn_step *s, uint64_t seed)
{
    bool hostile = plan->options.hostile && plan->device->backend->computes;
    s->call.seed = nn_mix(seed, s->node->stream);
    NN_TRY(nn_step_pack(plan, s));
    if (hostile) NN_TRY(poison_outputs(plan, s));
    if (plan->options.profile) NN_TRY(nn_device_mark(plan->device, 0));
    nn_status status = s->kernel->run(&s->call);
    if (status != NN_OK)
        return nn_fail_prefix(status, "%s: %s: ", s->node->scope, nn_op_name(s->node->op));
    nn_step_give_back(s);
    if (plan->options.profile) {
        NN_TRY(nn_device_mark(plan->device, 1));
        NN_TRY(nn_device_elapsed(plan->device, &s->seconds));
    }
    return hostile ? check_guards(plan, s) : NN_OK;
}

nn_status nn_plan_run_direct(nn_plan *plan, uint64_t seed, int64_t first, int64_t last)
{
    bool packed = false;
    for (int64_t i = first; i < last; i++) {
        nn_step *s = &plan->steps[i];
        NN_TRY(run_step(plan, s, seed));
        packed |= s->call.repack && s->packed_version != 0;
    }
    if (packed) nn_plan_give_back(plan);
    return NN_OK;
}

nn_status nn_plan_enqueue(nn_plan *plan, uint64_t seed, int64_t first, int64_t last)
{
    const nn_backend *b = plan->device->backend;
    for (int64_t i = 0; i < plan->n_stores; i++) NN_TRY(nn_params_refresh(plan->stores[i]));
    if (plan->run_seed) NN_TRY(b->write(plan->device, plan->run_seed, &seed, sizeof(seed)));
    return plan->captures ? nn_plan_run_captured(plan, seed, first, last)
                          : nn_plan_run_direct(plan, seed, first, last);
}

nn_status nn_plan_run(nn_plan *plan, uint64_t seed)
{
    NN_TRY(nn_plan_enqueue(plan, seed, 0, plan->n_steps));
    return plan->device->backend->sync(plan->device);
}

nn_status nn_plan_write(nn_plan *plan, nn_tensor *t, const void *src)
{
    NN_ASSERT(nn_view_contiguous(&t->view));
    void *dst = nn_plan_address(plan, t);
    NN_ASSERT(dst || !plan->device->backend->computes);
    return plan->device->backend->write(plan->device, dst, src, nn_view_bytes(&t->view));
}

static void gather(const nn_view *v, int d, const char *from, char **to)
{
    int64_t size = nn_dtype_bytes(v->dtype);
    if (d == v->rank || d == NN_MAX_RANK) {
        memcpy(*to, from, (size_t)size);
        *to += size;
        return;
    }
    for (int64_t i = 0; i < v->dim[d]; i++) gather(v, d + 1, from + i * v->stride[d] * size, to);
}

/* All that lies between the first and the last element of a view comes over at once. */
static nn_status read_strided(nn_device *d, const nn_view *v, const void *src, char *dst)
{
    int64_t span = 1;
    for (int i = 0; i < v->rank; i++) span += (v->dim[i] - 1) * v->stride[i];
    if (!nn_view_elems(v)) return NN_OK;
    char *host = nn_alloc(span, (size_t)nn_dtype_bytes(v->dtype));
    NN_NEED(host);
    nn_status status = d->backend->read(d, host, src, span * nn_dtype_bytes(v->dtype));
    if (status == NN_OK) gather(v, 0, host, &dst);
    nn_free(host);
    return status;
}

nn_status nn_plan_read(nn_plan *plan, const nn_tensor *t, void *dst)
{
    void *src = nn_plan_address(plan, t);
    NN_ASSERT(src || !plan->device->backend->computes);
    if (!plan->device->backend->computes || nn_view_contiguous(&t->view))
        return plan->device->backend->read(plan->device, dst, src, nn_view_bytes(&t->view));
    return read_strided(plan->device, &t->view, src, dst);
}
