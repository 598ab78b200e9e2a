/* The setting of a training that fits into a memory. Candidates are planned on the null device
 * first, which has every tensor and no workspace; with the real kernels only what passes that. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "engine/base/clock.h"
#include "tools/plan_training.h"

typedef struct search {
    const plan_task *task;
    nn_device *device, *null;
    const plan_limits *limits;
    const plan_rates *rates;
    int64_t resident; /* of this process, when the search began */
} search;

static int64_t needed(const search *s, const plan_result *r)
{
    return plan_bytes(r) + s->limits->fixed_bytes;
}

static plan_setting setting_of(const plan_limits *l, int64_t batch, bool recompute, bool shard)
{
    return (plan_setting){ batch, l->samples / batch, l->ranks, recompute, shard };
}

/* With the kernels that will run; what they leave resident adds up from plan to plan. */
static nn_status plan_real(const search *s, const plan_setting *setting, plan_result *out)
{
    NN_TRY(plan_training(s->task, s->device, setting, s->rates, out));
    if (s->device->backend->host_memory)
        out->program_bytes = nn_max(out->program_bytes, nn_clock_rss_bytes() - s->resident);
    return NN_OK;
}

/* Whether it fits; *out is what a device without workspace says if it does not. */
static nn_status try_one(const search *s, const plan_setting *setting, plan_result *out, bool *fits)
{
    NN_TRY(plan_training(s->task, s->null, setting, s->rates, out));
    *fits = needed(s, out) <= s->limits->bytes;
    if (!*fits) return NN_OK;
    NN_TRY(plan_real(s, setting, out));
    *fits = needed(s, out) <= s->limits->bytes;
    return NN_OK;
}

static bool is_possible(const search *s, int64_t batch)
{
    return s->limits->samples % batch == 0 && batch % nn_max(s->task->granule, 1) == 0;
}

/* The largest passes that fit; *found false: none do. */
static nn_status try_batches(const search *s, bool recompute, bool shard, plan_setting *setting,
                             plan_result *out, bool *found)
{
    *found = false;
    for (int64_t b = nn_min(s->limits->most, s->limits->samples); b > 0 && !*found; b--) {
        if (!is_possible(s, b)) continue;
        *setting = setting_of(s->limits, b, recompute, shard);
        NN_TRY(try_one(s, setting, out, found));
    }
    return NN_OK;
}

/* Seconds of an update without what the optimizer takes: that is the same for all candidates but
 * for its parts, which alone are no reason to cut it. */
static double cost(const plan_setting *s, const plan_result *r)
{
    return (double)s->passes * r->pass.seconds;
}

static nn_status search_all(const search *s, plan_setting *best, plan_result *best_result,
                            bool *found)
{
    static const double worth = 0.99; /* of the time, to recompute or cut */
    const plan_limits *l = s->limits;
    *found = false;
    for (int i = 0; i < 4; i++) {
        const bool recompute = i & 2, shard = i & 1;
        plan_setting setting;
        plan_result result;
        bool fits;
        if ((recompute && !s->task->recomputes) || (shard && l->ranks < 2)) continue;
        if ((l->recompute && s->task->recomputes && !recompute) ||
            (l->shard && l->ranks > 1 && !shard))
            continue;
        NN_TRY(try_batches(s, recompute, shard, &setting, &result, &fits));
        if (!fits || (*found && cost(&setting, &result) > worth * cost(best, best_result)))
            continue;
        *best = setting;
        *best_result = result;
        *found = true;
    }
    return NN_OK;
}

/* -- refusing ---------------------------------------------------------------------------------- */

/* What needs least memory of `ranks` ranks. */
static nn_status plan_least(const search *s, int ranks, plan_setting *setting, plan_result *out)
{
    const plan_limits *l = s->limits;
    *setting = (plan_setting){ .batch = nn_max(s->task->granule, 1),
                               .ranks = ranks,
                               .recompute = s->task->recomputes,
                               .shard = ranks > 1 };
    setting->passes = nn_max(l->samples * l->ranks / ranks / setting->batch, 1);
    return plan_real(s, setting, out);
}

static nn_status add_more_ranks(const search *s, nn_text *out)
{
    const plan_limits *l = s->limits;
    const int64_t all = l->samples * l->ranks / nn_max(s->task->granule, 1);
    for (int64_t n = l->ranks + 1; n <= nn_min(all, 4096); n++) {
        plan_setting setting;
        plan_result r;
        if (all % n) continue;
        NN_TRY(plan_least(s, (int)n, &setting, &r));
        if (needed(s, &r) > l->bytes) continue;
        return nn_text_add(out, ", and so would %" PRId64 " ranks with --shard-optimizer, %s each",
                           n, plan_size_text(needed(s, &r), true).s);
    }
    return NN_OK;
}

static nn_status refuse(const search *s)
{
    plan_setting setting;
    plan_result r;
    nn_text how = { 0 }, others = { 0 };
    NN_TRY(plan_least(s, s->limits->ranks, &setting, &r));
    nn_status status = plan_say(&setting, &how);
    if (status == NN_OK) status = add_more_ranks(s, &others);
    if (status == NN_OK)
        status = nn_fail(NN_MEMORY,
                         "the training does not fit into %s: with %s it needs %s, of which %s are "
                         "weights, gradients and moments. That much memory would do%s",
                         plan_size_text(s->limits->bytes, false).s, how.text,
                         plan_size_text(needed(s, &r), true).s,
                         plan_size_text(r.state_bytes, true).s, others.text ? others.text : "");
    nn_text_free(&how);
    nn_text_free(&others);
    return status;
}

nn_status plan_fit(const plan_task *task, nn_device *device, const plan_limits *limits,
                   const plan_rates *rates, plan_setting *setting, plan_result *out)
{
    search s = { .task = task,
                 .device = device,
                 .limits = limits,
                 .rates = rates,
                 .resident = nn_clock_rss_bytes() };
    bool found = false;
    NN_TRY(nn_device_open("null", 1, &s.null));
    nn_status status = nn_device_compute(s.null, nn_device_storage(device));
    if (status == NN_OK) status = search_all(&s, setting, out, &found);
    if (status == NN_OK && !found) status = refuse(&s);
    nn_device_close(s.null);
    return status;
}

plan_size plan_size_text(int64_t bytes, bool up)
{
    const bool large = bytes >= 1000000000;
    const double unit = large ? 1e8 : 1e6, units = (double)bytes / unit;
    const double shown = up ? ceil(units) : floor(units);
    plan_size text;
    snprintf(text.s, sizeof(text.s), large ? "%.1f GB" : "%.0f MB", large ? shown / 10 : shown);
    return text;
}

nn_status plan_say(const plan_setting *s, nn_text *out)
{
    NN_TRY(nn_text_add(out, "micro-batch %" PRId64, s->batch));
    if (s->recompute) NN_TRY(nn_text_add(out, ", recompute"));
    if (s->shard && s->ranks > 1) NN_TRY(nn_text_add(out, ", optimizer in %d parts", s->ranks));
    return NN_OK;
}
