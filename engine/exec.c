/* The executor: run the steps of a plan in order, and move data in and out. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/plan_internal.h"

/* Outputs start as NaN between guard bands, so that an element left out or one too many shows. */
static void poison_outputs(nn_step *s)
{
    for (int i = 0; i < s->node->n_out; i++) {
        const nn_tensor *t = s->node->out[i];
        if (t->root != t || t->bound || (s->inplace && i == 0)) continue;
        char *start = s->call.out[i].data;
        memset(start - NN_GUARD_BYTES, 0xff,
               (size_t)((nn_view_bytes(&t->view) + 63) / 64 * 64 + 2 * NN_GUARD_BYTES));
    }
}

static nn_status check_guards(const nn_step *s)
{
    for (int i = 0; i < s->node->n_out; i++) {
        const nn_tensor *t = s->node->out[i];
        if (t->root != t || t->bound || (s->inplace && i == 0)) continue;
        const unsigned char *start = s->call.out[i].data;
        const unsigned char *end = start + nn_view_bytes(&t->view);
        for (int k = 1; k <= NN_GUARD_BYTES; k++)
            if (start[-k] != 0xff || end[k - 1] != 0xff)
                return nn_fail(NN_DEVICE, "%s: %s: kernel %s wrote outside of output %d",
                               s->node->scope, nn_op_name(s->node->op), s->kernel->name, i);
    }
    return NN_OK;
}

/* Packed weights are stale when a store says that its values changed; weights that no store owns
 * may change with every run. */
static void check_packed(nn_step *s)
{
    uint64_t version = 0;
    for (int i = 0; i < s->node->n_in; i++) {
        const nn_tensor *t = s->node->in[i];
        if (t && t->root->store) version += t->root->store->version + 1;
    }
    s->call.repack = !version || version != s->packed_version;
    s->packed_version = version;
}

static nn_status run_step(nn_plan *plan, nn_step *s, uint64_t seed)
{
    bool hostile = plan->options.hostile && plan->device->backend->host_memory;
    s->call.seed = nn_mix(seed, s->node->stream);
    if (s->call.packed_bytes) check_packed(s);
    if (hostile) poison_outputs(s);
    double start = plan->options.profile ? nn_clock_seconds() : 0;
    nn_status status = s->kernel->run(&s->call);
    if (status != NN_OK)
        return nn_fail_prefix(status, "%s: %s: ", s->node->scope, nn_op_name(s->node->op));
    if (plan->options.profile) {
        NN_TRY(plan->device->backend->sync(plan->device));
        s->seconds = nn_clock_seconds() - start;
    }
    return hostile ? check_guards(s) : NN_OK;
}

nn_status nn_plan_run(nn_plan *plan, uint64_t seed)
{
    for (int64_t i = 0; i < plan->n_steps; i++) NN_TRY(run_step(plan, &plan->steps[i], seed));
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

nn_status nn_plan_read(nn_plan *plan, const nn_tensor *t, void *dst)
{
    void *src = nn_plan_address(plan, t);
    NN_ASSERT(src || !plan->device->backend->computes);
    if (nn_view_contiguous(&t->view))
        return plan->device->backend->read(plan->device, dst, src, nn_view_bytes(&t->view));
    NN_ASSERT(plan->device->backend->host_memory);
    char *to = dst;
    gather(&t->view, 0, src, &to);
    return NN_OK;
}

void *nn_plan_data(nn_plan *plan, const nn_tensor *t)
{
    return plan->device->backend->host_memory ? nn_plan_address(plan, t) : NULL;
}
