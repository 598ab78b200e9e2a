/* The training loop. Two plans: one pass (loss and gradients), and the update. */
#include "tools/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"

const char *const trainer_schedules[] = { "constant", "linear", "cosine", NULL };

enum { MOST_SKIPPED = 20 }; /* updates in a row with gradients that are not finite */

typedef struct loop {
    trainer *t;
    nn_graph *pass_graph, *update_graph;
    nn_plan *pass, *update;
    nn_tensor *loss;
    char *directory;     /* of the checkpoints */
    nn_text description; /* what a run that goes on must share */
    int64_t skipped;     /* in a row */
} loop;

static nn_status make_plans(loop *l)
{
    trainer *t = l->t;
    bool many = t->set.accumulate > 1;
    NN_TRY(nn_graph_create(&l->pass_graph));
    nn_graph_training(l->pass_graph);
    nn_graph_compute(l->pass_graph, nn_device_storage(t->device));
    l->loss = t->build(t->ctx, l->pass_graph, t->params);
    nn_keep(l->loss);
    nn_backward(l->pass_graph, l->loss, 1.0 / (double)t->set.accumulate, many);
    nn_plan_options options = { .profile = t->set.profile };
    NN_TRY(nn_plan_create(l->pass_graph, t->device, &options, &l->pass));
    NN_TRY(nn_graph_create(&l->update_graph));
    nn_optimizer_add(t->optimizer, l->update_graph);
    NN_TRY(nn_plan_create(l->update_graph, t->device, &options, &l->update));
    t->pass = l->pass;
    t->update = l->update;
    return NN_OK;
}

static nn_status save(loop *l)
{
    trainer *t = l->t;
    nn_checkpoint state = { .step = t->step,
                            .seed = (uint64_t)t->set.seed,
                            .config = l->description.text };
    if (t->stream.tell) t->stream.tell(t->stream.ctx, &state.epoch, &state.position);
    return nn_checkpoint_save(l->directory, (int)t->set.keep, &state, t->optimizer);
}

static nn_status resume(loop *l)
{
    trainer *t = l->t;
    nn_checkpoint state = { 0 };
    bool found = false;
    NN_TRY(nn_checkpoint_resume(l->directory, &state, t->optimizer, &found));
    nn_status status = NN_OK;
    if (found) status = trainer_compare(l->directory, state.config, l->description.text);
    if (found && status == NN_OK) {
        t->step = state.step;
        nn_log(NN_LOG_INFO, "%s: goes on from update %" PRId64, t->what, t->step);
    }
    nn_free(state.config);
    if (status == NN_OK && t->stream.seek)
        status = t->stream.seek(t->stream.ctx, state.epoch, state.position);
    return status;
}

static nn_status all_passes(loop *l)
{
    trainer *t = l->t;
    const nn_backend *b = t->device->backend;
    t->loss = 0;
    if (t->set.accumulate > 1)
        NN_TRY(b->zero(t->device, t->params->grads, t->params->n_elems * (int64_t)sizeof(float)));
    for (int64_t i = 0; i < t->set.accumulate; i++) {
        float loss;
        NN_TRY(t->feed(t->ctx, l->pass, t->step, i));
        NN_TRY(nn_plan_run(
            l->pass, nn_mix((uint64_t)t->set.seed, (uint64_t)(t->step * t->set.accumulate + i))));
        NN_TRY(nn_plan_read(l->pass, l->loss, &loss));
        t->loss += loss / (double)t->set.accumulate;
    }
    return NN_OK;
}

static nn_status one_update(loop *l, nn_progress *progress)
{
    trainer *t = l->t;
    const nn_schedule schedule = { (nn_schedule_kind)t->set.schedule, t->set.lr, t->set.warmup,
                                   t->set.steps };
    double lr = nn_schedule_at(&schedule, t->step);
    float norm;
    NN_TRY(all_passes(l));
    NN_TRY(nn_optimizer_begin(t->optimizer, l->update, lr));
    NN_TRY(nn_plan_run(l->update, 0));
    NN_TRY(nn_optimizer_end(t->optimizer, l->update, &norm));
    t->step++;
    l->skipped = isfinite(norm) ? 0 : l->skipped + 1;
    if (l->skipped >= MOST_SKIPPED)
        return nn_fail(NN_NUMERIC,
                       "%s: the gradients of %d updates in a row are not finite (loss %g); lower "
                       "--learning-rate",
                       t->what, MOST_SKIPPED, t->loss);
    nn_field fields[] = { { "loss", t->loss },
                          { "norm", norm },
                          { "lr", lr },
                          { "memory_mb", 1e-6 * (double)nn_clock_rss_bytes() } };
    nn_progress_step(progress, t->step, fields, NN_COUNT(fields));
    return NN_OK;
}

static nn_status steps(loop *l)
{
    trainer *t = l->t;
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, t->what, "update", t->step, t->set.steps);
    while (status == NN_OK && t->step < t->set.steps && !nn_cli_interrupted()) {
        status = one_update(l, &progress);
        if (status == NN_OK && t->after) status = t->after(t->ctx, t, t->step);
        if (status == NN_OK && t->step % t->set.checkpoint_every == 0 && t->step < t->set.steps)
            status = save(l);
    }
    nn_progress_stop(&progress);
    NN_TRY(status);
    if (t->step < t->set.steps) {
        NN_TRY(save(l));
        return nn_fail(
            NN_INTERRUPTED,
            "%s: interrupted after %" PRId64 " of %" PRId64
            " updates; everything is saved in %s, and the same command goes on from there",
            t->what, t->step, t->set.steps, l->directory);
    }
    return t->optimizer->ema ? nn_optimizer_swap_ema(t->optimizer) : NN_OK;
}

static nn_status write_profile(loop *l)
{
    nn_text table = { 0 };
    char *path = nn_format("%s/trace.json", l->t->set.output);
    NN_NEED(path);
    nn_status status = nn_plan_profile_table(l->pass, &table);
    if (status == NN_OK) status = nn_plan_profile_table(l->update, &table);
    if (status == NN_OK) status = nn_plan_profile_trace(l->pass, path);
    if (status == NN_OK) fprintf(stderr, "%strace: %s\n", table.text, path);
    nn_text_free(&table);
    nn_free(path);
    return status;
}

/* What a pass and the update after it compute, and what they hold. */
static void log_plans(const loop *l)
{
    const trainer *t = l->t;
    nn_plan_stats a = nn_plan_stats_of(l->pass), b = nn_plan_stats_of(l->update);
    double passes = (double)t->set.accumulate;
    int64_t copies = t->optimizer->ema ? 5 : 4; /* values, gradients, two moments, average */
    nn_field fields[] = {
        { "parameters", (double)nn_params_count(t->params) },
        { "gflop", 1e-9 * (passes * a.flops + b.flops) },
        { "launches", passes * (double)a.n_launches + (double)b.n_launches },
        { "state_bytes", (double)(copies * t->params->n_elems * (int64_t)sizeof(float)) },
        { "activation_bytes", (double)(a.activation_bytes + b.activation_bytes) },
        { "workspace_bytes", (double)(a.workspace_bytes + b.workspace_bytes) },
        { "program_bytes", (double)(a.program_bytes + b.program_bytes) },
    };
    nn_cli_log("plan", fields, NN_COUNT(fields));
    nn_log(NN_LOG_INFO,
           "%s: %.2f M parameters, %.1f MB of activations, %.2f GFLOP in %" PRId64
           " kernels a pass",
           t->what, 1e-6 * (double)nn_params_count(t->params),
           1e-6 * (double)(a.activation_bytes + a.workspace_bytes), 1e-9 * a.flops, a.n_launches);
}

static nn_status run(loop *l)
{
    trainer *t = l->t;
    const trainer_settings *s = &t->set;
    nn_adamw_options options = { s->beta1,        s->beta2,     s->eps,
                                 s->weight_decay, s->clip_norm, s->ema_decay };
    l->directory = nn_format("%s/checkpoints", s->output);
    NN_NEED(l->directory);
    NN_TRY(trainer_describe(t, &l->description));
    NN_TRY(nn_optimizer_create(t->params, &options, &t->optimizer));
    NN_TRY(make_plans(l));
    log_plans(l);
    NN_TRY(resume(l));
    NN_TRY(steps(l));
    return s->profile ? write_profile(l) : NN_OK;
}

nn_status trainer_run(trainer *t)
{
    loop l = { .t = t };
    t->step = 0;
    nn_status status = run(&l);
    nn_plan_destroy(l.pass);
    nn_plan_destroy(l.update);
    nn_graph_destroy(l.pass_graph);
    nn_graph_destroy(l.update_graph);
    nn_optimizer_destroy(t->optimizer);
    t->optimizer = NULL;
    t->pass = t->update = NULL;
    nn_free(l.directory);
    nn_text_free(&l.description);
    return status;
}
