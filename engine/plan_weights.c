/* Which weights of frozen stores every run reads, and which only their packing does; packing. */
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/plan_internal.h"

/* Marks what the step reads in every run; *packs: bytes that it reads only to pack them. */
static nn_status sort_inputs(nn_plan *plan, const nn_step *s, int64_t *packs)
{
    *packs = 0;
    for (int i = 0; i < s->node->n_in; i++) {
        const nn_tensor *t = s->node->in[i] ? s->node->in[i]->root : NULL;
        if (!t || !t->param || !t->store->frozen) continue;
        if (!nn_params_is_bound(t->store, t->param))
            return nn_fail(NN_ARGUMENT, "%s: the plan reads a frozen store that was not loaded yet",
                           t->param->name);
        const int64_t bytes = t->view.rank < 2 ? 0 : nn_view_bytes(&t->view);
        if (s->call.packed_in >> i & 1)
            *packs += bytes;
        else if (nn_params_keep(t->store, t->param))
            plan->stats.weight_bytes += bytes;
    }
    return NN_OK;
}

/* While a step packs there are its weights and what has been packed so far, not all of it. */
nn_status nn_plan_sort_weights(nn_plan *plan)
{
    int64_t most = plan->stats.packed_bytes, packs;
    for (int64_t i = 0; i < plan->n_steps; i++) {
        const nn_step *s = &plan->steps[i];
        NN_TRY(sort_inputs(plan, s, &packs));
        most = nn_max(most, s->packed_offset + (int64_t)s->call.packed_bytes + packs);
    }
    plan->stats.weight_bytes += most - plan->stats.packed_bytes;
    return NN_OK;
}

/* -- packing -- */

/* Packed weights are stale when a store says that its values changed. */
static void check_packed(nn_step *s)
{
    uint64_t version = nn_step_version(s);
    s->call.repack = !version || version != s->packed_version;
    s->packed_version = version;
}

static nn_status need_weights(const nn_step *s)
{
    for (int i = 0; i < s->node->n_in; i++) {
        const nn_tensor *t = s->node->in[i] ? s->node->in[i]->root : NULL;
        bool read = s->call.repack || !(s->call.packed_in >> i & 1);
        if (t && t->store && t->param && read) NN_TRY(nn_params_need(t->store, t->param));
    }
    return NN_OK;
}

void nn_step_give_back(const nn_step *s)
{
    for (int i = 0; i < s->node->n_in && s->call.repack; i++) {
        const nn_tensor *t = s->node->in[i] ? s->node->in[i]->root : NULL;
        if (t && t->store && t->param && s->call.packed_in >> i & 1)
            nn_params_give_back(t->store, t->param);
    }
}

static bool on_host(const nn_plan *plan)
{
    return plan->device->backend->host_memory && plan->device->backend->computes;
}

void nn_plan_give_back(nn_plan *plan)
{
    const int64_t idle = plan->stats.workspace_bytes - plan->run_workspace;
    if (idle && on_host(plan)) nn_give_back(plan->workspace + plan->run_workspace, idle);
}

/* A block that is taken from the system by all threads. */
static void take_part(void *block, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    nn_take((char *)block + begin, end - begin);
}

static void map_part(void *block, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    nn_map_take((const char *)block + begin, end - begin);
}

/* Memory that packing reads and writes first comes in large pieces. */
static void take_memory(const nn_plan *plan, const nn_step *s)
{
    enum { GRAIN = 1 << 16 };
    nn_pool *pool = plan->device->pool;
    for (int i = 0; i < s->node->n_in; i++) {
        const nn_tensor *t = s->node->in[i] ? s->node->in[i]->root : NULL;
        if (t && t->param && t->param->mapped && s->call.packed_in >> i & 1)
            nn_pool_for(pool, nn_view_bytes(&t->param->view), GRAIN, map_part, t->param->view.data);
    }
    nn_pool_for(pool, (int64_t)s->call.packed_bytes, GRAIN, take_part, s->call.packed);
}

nn_status nn_step_pack(nn_plan *plan, nn_step *s)
{
    const bool first = !s->packed_version;
    if (s->call.packed_bytes) check_packed(s);
    NN_TRY(need_weights(s));
    if (!s->call.repack || !s->kernel->pack) return NN_OK;
    if (first && on_host(plan)) take_memory(plan, s);
    nn_status status = s->kernel->pack(&s->call);
    if (status == NN_OK) return NN_OK;
    return nn_fail_prefix(status, "%s: %s: ", s->node->scope, nn_op_name(s->node->op));
}

nn_status nn_plan_pack(nn_plan *plan)
{
    bool packed = false;
    for (int64_t i = 0; i < plan->n_stores; i++) NN_TRY(nn_params_refresh(plan->stores[i]));
    for (int64_t i = 0; i < plan->n_steps; i++) {
        nn_step *s = &plan->steps[i];
        if (!s->call.packed_bytes || !s->kernel->pack || !nn_step_version(s)) continue;
        NN_TRY(nn_step_pack(plan, s));
        nn_step_give_back(s);
        packed |= s->call.repack;
    }
    if (packed) nn_plan_give_back(plan);
    return NN_OK;
}
