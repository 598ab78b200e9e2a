/* Runs that are recorded once and repeated: a step of training is some thousand kernels, and to
 * start them one by one can take longer than they do.
 *
 * What a recording holds must not change from run to run: addresses are the plan's, shapes the
 * graph's; the seed is read from device memory; and as long as packed weights are fresh no kernel
 * packs them. */
#include "engine/base/alloc.h"
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
    NN_TRY(nn_plan_cut(plan, 0, NULL));
    plan->captures = b->begin_capture && !o->direct && !o->profile && !o->hostile;
    if (!plan->captures || !is_random(plan)) return NN_OK;
    NN_NEED(plan->run_seed = b->alloc(plan->device, sizeof(*plan->run_seed)));
    return NN_OK;
}

static void free_parts(nn_plan *plan)
{
    for (int64_t i = 0; i < plan->n_parts; i++)
        if (plan->parts[i].recording)
            plan->device->backend->free_capture(plan->device, plan->parts[i].recording);
    nn_free(plan->parts);
    plan->parts = NULL;
    plan->n_parts = 0;
}

void nn_plan_capture_free(nn_plan *plan)
{
    free_parts(plan);
    if (plan->run_seed) plan->device->backend->free(plan->device, plan->run_seed);
}

nn_status nn_plan_cut(nn_plan *plan, int64_t n, const int64_t at[])
{
    nn_part *parts = nn_alloc(n + 1, sizeof(*parts));
    NN_NEED(parts);
    free_parts(plan);
    for (int64_t i = 0; i <= n; i++) {
        parts[i].first = i ? at[i - 1] : 0;
        parts[i].last = i < n ? at[i] : plan->n_steps;
        NN_ASSERT(!n || parts[i].first < parts[i].last);
    }
    plan->parts = parts;
    plan->n_parts = n + 1;
    return NN_OK;
}

/* Whether a step must pack weights that it will not pack again: not what a recording repeats.
 * Weights that no store owns are packed in every run. */
static bool must_pack(const nn_plan *plan, const nn_part *part)
{
    for (int64_t i = part->first; i < part->last; i++) {
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

static void record(nn_plan *plan, nn_part *part, uint64_t seed)
{
    const nn_backend *b = plan->device->backend;
    void *made = NULL;
    if (b->begin_capture(plan->device) != NN_OK) {
        give_up(plan);
        return;
    }
    if (nn_plan_run_direct(plan, seed, part->first, part->last) != NN_OK) give_up(plan);
    if (b->end_capture(plan->device, &made) != NN_OK && plan->captures) give_up(plan);
    if (plan->captures)
        part->recording = made;
    else if (made)
        b->free_capture(plan->device, made);
}

static nn_status run_part(nn_plan *plan, nn_part *part, uint64_t seed)
{
    bool direct = !plan->captures || !part->warm || must_pack(plan, part);
    if (!direct && !part->recording) record(plan, part, seed);
    if (!direct && part->recording)
        return plan->device->backend->launch_capture(plan->device, part->recording);
    NN_TRY(nn_plan_run_direct(plan, seed, part->first, part->last));
    part->warm = true;
    return NN_OK;
}

/* The part that begins there; NULL: none, or it goes on behind `last`. */
static nn_part *part_at(const nn_plan *plan, int64_t first, int64_t last)
{
    for (int64_t i = 0; i < plan->n_parts; i++)
        if (plan->parts[i].first == first && plan->parts[i].last <= last) return &plan->parts[i];
    return NULL;
}

nn_status nn_plan_run_captured(nn_plan *plan, uint64_t seed, int64_t first, int64_t last)
{
    while (first < last) {
        nn_part *part = part_at(plan, first, last);
        if (!part) return nn_plan_run_direct(plan, seed, first, last);
        NN_TRY(run_part(plan, part, seed));
        first = part->last;
    }
    return NN_OK;
}
