/* Which weights of frozen stores every run reads, and which only their packing does. */
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
