/* Runs that are recorded once and repeated: a step of training is some thousand kernels, and to
 * start them one by one can take longer than they do.
 *
 * What a recording holds must not change from run to run: addresses are the plan's, shapes the
 * graph's; the seed is read from device memory; and as long as packed weights are fresh no kernel
 * packs them. */
#include "engine/base/log.h"
#include "engine/plan_internal.h"

static bool is_random(const nn_plan *plan)
{
    for (int64_t i = 0; i < plan->n_steps; i++)
        if (nn_op_of(plan->steps[i].node->op)->random) return true;
    return false;
}

nn_status nn_plan_capture_reserve(nn_plan *plan)
{
    const nn_plan_options *o = &plan->options;
    const nn_backend *b = plan->device->backend;
    plan->captures = b->begin_capture && !o->direct && !o->profile && !o->hostile;
    if (!plan->captures || !is_random(plan)) return NN_OK;
    NN_NEED(plan->run_seed = b->alloc(plan->device, sizeof(*plan->run_seed)));
    return NN_OK;
}

void nn_plan_capture_free(nn_plan *plan)
{
    const nn_backend *b = plan->device->backend;
    if (plan->recording) b->free_capture(plan->device, plan->recording);
    if (plan->run_seed) b->free(plan->device, plan->run_seed);
}

/* Whether a step must pack weights that it will not pack again: not what a recording repeats.
 * Weights that no store owns are packed in every run. */
static bool must_pack(const nn_plan *plan)
{
    for (int64_t i = 0; i < plan->n_steps; i++) {
        const nn_step *s = &plan->steps[i];
        if (!s->call.packed_bytes) continue;
        uint64_t version = nn_step_version(s);
        if (version && version != s->packed_version) return true;
    }
    return false;
}

static void give_up(nn_plan *plan)
{
    nn_log(NN_LOG_WARN, "a plan's kernels cannot be recorded and are run one by one: %s",
           nn_error_message());
    plan->captures = false;
}

static void record(nn_plan *plan, uint64_t seed)
{
    const nn_backend *b = plan->device->backend;
    void *made = NULL;
    if (b->begin_capture(plan->device) != NN_OK) {
        give_up(plan);
        return;
    }
    if (nn_plan_run_direct(plan, seed, 0, plan->n_steps) != NN_OK) give_up(plan);
    if (b->end_capture(plan->device, &made) != NN_OK && plan->captures) give_up(plan);
    if (plan->captures)
        plan->recording = made;
    else if (made)
        b->free_capture(plan->device, made);
}

nn_status nn_plan_run_captured(nn_plan *plan, uint64_t seed)
{
    bool direct = !plan->warm || must_pack(plan);
    if (!direct && !plan->recording) record(plan, seed);
    if (!direct && plan->recording)
        return plan->device->backend->launch_capture(plan->device, plan->recording);
    NN_TRY(nn_plan_run_direct(plan, seed, 0, plan->n_steps));
    plan->warm = true;
    return NN_OK;
}
