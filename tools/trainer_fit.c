#include "tools/trainer_fit.h"

#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "tools/plan_report.h"

/* The ratio of arithmetic to memory traffic is all that settings are compared by; caches of the
 * host keep much of its traffic. */
static const plan_rates of_host = { 1e11, 1e11, 1 }, of_gpu = { 1e15, 3.3e12, 1 };
static const double taken = 0.95; /* of what is free */

/* Ranks of one host share its memory. */
static nn_status find_free(const trainer_ranks *r, const nn_device *device, int64_t *bytes)
{
    const nn_comm_place *place = nn_comm_place_of(r->comm);
    const int64_t available = nn_device_free_bytes(device);
    if (available <= 0)
        return nn_fail(NN_UNSUPPORTED,
                       "--memory auto: device %s does not say how much memory is "
                       "free; give a size",
                       device->backend->name);
    *bytes = (int64_t)(taken * (double)available);
    if (device->backend->host_memory && r->n > 1) *bytes /= place->n_local;
    return NN_OK;
}

/* The least that any rank has, so that all choose the same. */
static nn_status agree(const trainer_ranks *r, int64_t *bytes)
{
    const float own = (float)(1e-6 * (double)*bytes);
    float *all, least = own;
    if (r->n < 2) return NN_OK;
    NN_NEED(all = nn_alloc(r->n, sizeof(*all)));
    const nn_status status = nn_comm_all_gather(r->comm, NN_F32, 1, &own, all);
    for (int i = 0; i < r->n; i++) least = fminf(least, all[i]);
    *bytes = (int64_t)(1e6 * (double)least);
    nn_free(all);
    return status;
}

/* What this rank may take, and what it has taken or will before anything that is planned. */
static nn_status find_budget(const trainer_settings *set, const nn_device *device, plan_limits *l)
{
    const bool host = device->backend->host_memory;
    if (host) l->fixed_bytes = nn_clock_rss_bytes() + PLAN_FIRST_RUN_BYTES;
    if (!strcmp(set->memory, "auto")) {
        NN_TRY(find_free(&set->ranks, device, &l->bytes));
        l->bytes += l->fixed_bytes;
    } else {
        NN_TRY(plan_memory_parse(set->memory, &l->bytes));
        if (!host) l->bytes -= PLAN_CONTEXT_BYTES;
    }
    return agree(&set->ranks, &l->bytes);
}

static nn_status say(const plan_limits *l, const plan_setting *s, const plan_result *r)
{
    const int64_t needed = plan_bytes(r) + l->fixed_bytes;
    nn_text how = { 0 };
    nn_field fields[] = {
        { "needed_bytes", (double)needed },  { "memory_bytes", (double)l->bytes },
        { "micro_batch", (double)s->batch }, { "passes", (double)s->passes },
        { "recompute", s->recompute },       { "optimizer_parts", s->shard ? s->ranks : 1 }
    };
    nn_cli_log("fit", fields, NN_COUNT(fields));
    const nn_status status = plan_say(s, &how);
    if (status == NN_OK)
        nn_log(NN_LOG_INFO, "needs %s of %s: %s", plan_size_text(needed, true).s,
               plan_size_text(l->bytes, false).s, how.text);
    nn_text_free(&how);
    return status;
}

/* One rank chooses: what kernels leave resident differs between processes. */
static nn_status choose(const trainer_ranks *r, const plan_task *task, nn_device *device,
                        const plan_limits *l, plan_setting *setting)
{
    const plan_rates *rates = device->backend->host_memory ? &of_host : &of_gpu;
    plan_result result;
    nn_device *absent;
    if (!r->rank) {
        NN_TRY(nn_device_open_absent(device, &absent));
        const nn_status status = plan_fit(task, absent, l, rates, setting, &result);
        nn_device_close(absent);
        NN_TRY(status);
        NN_TRY(say(l, setting, &result));
    }
    return trainer_ranks_tell(r, setting, sizeof(*setting));
}

nn_status trainer_fit(trainer_settings *set, const plan_task *task, nn_device *device,
                      bool *recompute)
{
    trainer_ranks *r = &set->ranks;
    plan_limits l = { .samples = r->batch * r->passes,
                      .most = r->batch,
                      .ranks = r->n,
                      .recompute = *recompute,
                      .shard = set->shard };
    plan_setting setting;
    NN_TRY(find_budget(set, device, &l));
    NN_TRY(choose(r, task, device, &l, &setting));
    *recompute = setting.recompute;
    set->shard = setting.shard;
    r->most = setting.batch;
    return trainer_share(set);
}
