/* The training loop. Two plans: one pass (loss and gradients), and the update; or one that does
 * both. */
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
    nn_graph *pass_graph, *norm_graph, *update_graph;
    nn_plan *pass, *norm, *update; /* norm: of this rank's part, if the optimizer is sharded */
    nn_tensor *loss;
    trainer_saves saves;
    nn_text description; /* what a run that goes on must share */
    int64_t skipped;     /* in a row */
    float *told, *heard; /* [passes + 2] of this rank, [ranks][passes + 2] of all: see exchange */
    bool stop;           /* a rank was interrupted */
    bool given_up;       /* this update is not to be completed */
    double fed;          /* seconds of this update in which batches were prepared */
    double ended;        /* when the last update was */
} loop;

/* Passes in an update, over all ranks. */
static int64_t all_passes(const loop *l)
{
    return l->t->set.ranks.passes * l->t->set.ranks.n;
}

static nn_status make_pass(loop *l, const nn_plan_options *options)
{
    trainer *t = l->t;
    const int64_t passes = all_passes(l);
    NN_TRY(nn_graph_create(&l->pass_graph));
    nn_graph_training(l->pass_graph);
    nn_graph_compute(l->pass_graph, nn_device_storage(t->device));
    l->loss = t->build(t->ctx, l->pass_graph, t->params);
    nn_keep(l->loss);
    if (t->set.fuse)
        nn_optimizer_backward(t->optimizer, l->pass_graph, l->loss);
    else
        nn_backward(l->pass_graph, l->loss, 1.0 / (double)passes, passes > 1);
    return nn_plan_create(l->pass_graph, t->device, options, &l->pass);
}

static nn_status make_plans(loop *l)
{
    trainer *t = l->t;
    const nn_plan_options options = { .profile = t->set.profile };
    NN_TRY(make_pass(l, &options));
    t->pass = l->pass;
    if (t->set.fuse) return NN_OK;
    if (t->wire) NN_TRY(trainer_buckets_open(t, l->pass));
    if (t->sharded) {
        NN_TRY(nn_graph_create(&l->norm_graph));
        nn_optimizer_add_norm(t->optimizer, l->norm_graph);
        NN_TRY(nn_plan_create(l->norm_graph, t->device, &options, &l->norm));
    }
    NN_TRY(nn_graph_create(&l->update_graph));
    nn_optimizer_add(t->optimizer, l->update_graph);
    NN_TRY(nn_plan_create(l->update_graph, t->device, &options, &l->update));
    t->update = l->update;
    return NN_OK;
}

/* -- an update --------------------------------------------------------------------------------- */

static nn_status zero_gradients(loop *l)
{
    const nn_params *p = l->t->params;
    return p->device->backend->zero(p->device, p->grads, p->n_elems * (int64_t)sizeof(float));
}

/* Pass number i of this rank in this update. sum: with those of the other ranks. */
static nn_status one_pass(loop *l, int64_t i, bool sum)
{
    trainer *t = l->t;
    const trainer_ranks *r = &t->set.ranks;
    const int64_t number = (t->step * r->passes + i) * r->n + r->rank;
    const trainer_pass pass = { .update = t->step,
                                .number = number,
                                .first = number * r->batch,
                                .before = r->rank * r->batch,
                                .after = (r->n - 1 - r->rank) * r->batch };
    const double began = nn_clock_seconds();
    NN_TRY(t->feed(t->ctx, l->pass, &pass));
    l->fed += nn_clock_seconds() - began;
    const uint64_t seed = nn_mix((uint64_t)t->set.seed, (uint64_t)number);
    NN_TRY(sum ? trainer_buckets_run(t, l->pass, seed, i + 1 == r->passes)
               : nn_plan_run(l->pass, seed));
    return nn_plan_read(l->pass, l->loss, &l->told[i]);
}

/* An update of many passes is given up when this is the only rank and it is to stop: nothing but
 * gradients has changed since the one before. */
static bool gives_up(loop *l)
{
    l->given_up = !l->t->wire && nn_cli_interrupted();
    return l->given_up;
}

/* The gradients of all passes of the update, summed. With --deterministic in the order of the
 * passes, however many ranks there are: after each round the ranks are summed in their order, the
 * first one's term holding the sum of the rounds before. */
static nn_status sum_passes(loop *l)
{
    const trainer_ranks *r = &l->t->set.ranks;
    const bool in_order = l->t->wire && l->t->device->deterministic;
    if (all_passes(l) > 1) NN_TRY(zero_gradients(l));
    for (int64_t i = 0; i < r->passes; i++) {
        if (i > 0 && gives_up(l)) return NN_OK;
        if (i > 0 && in_order && r->rank > 0) NN_TRY(zero_gradients(l));
        NN_TRY(one_pass(l, i, in_order || (l->t->wire && i + 1 == r->passes)));
    }
    return NN_OK;
}

/* Every rank tells its losses, whether it was interrupted, and the norm of its part of the
 * gradients, so that all log and do the same. */
static nn_status exchange(loop *l)
{
    trainer *t = l->t;
    const trainer_ranks *r = &t->set.ranks;
    const int64_t n = r->passes + 2;
    l->told[r->passes] = nn_cli_interrupted();
    if (l->norm) {
        NN_TRY(nn_plan_run(l->norm, 0));
        NN_TRY(nn_plan_read(l->norm, t->optimizer->part_norm, &l->told[r->passes + 1]));
    }
    if (l->t->wire)
        NN_TRY(nn_comm_all_gather(r->comm, NN_F32, n, l->told, l->heard));
    else
        memcpy(l->heard, l->told, (size_t)n * sizeof(float));
    t->loss = 0;
    for (int64_t i = 0; i < r->passes; i++)
        for (int k = 0; k < r->n; k++) t->loss += l->heard[k * n + i] / (double)all_passes(l);
    for (int k = 0; k < r->n; k++) l->stop = l->stop || l->heard[k * n + r->passes] != 0;
    return NN_OK;
}

/* The update of all parameters, unless the pass did it, or of this rank's part and then everyone's
 * values. */
static nn_status update(loop *l, double lr, float *norm)
{
    trainer *t = l->t;
    const trainer_ranks *r = &t->set.ranks;
    double squares = 0;
    if (t->set.fuse) return nn_optimizer_end(t->optimizer, l->pass, norm);
    NN_TRY(nn_optimizer_begin(t->optimizer, l->update, lr));
    for (int k = 0; k < r->n && t->sharded; k++) {
        const double part = l->heard[k * (r->passes + 2) + r->passes + 1];
        squares += part * part;
    }
    if (t->sharded) NN_TRY(nn_optimizer_set_norm(t->optimizer, l->update, (float)sqrt(squares)));
    NN_TRY(nn_plan_run(l->update, 0));
    NN_TRY(nn_optimizer_end(t->optimizer, l->update, norm));
    return t->sharded ? trainer_shards_values(t) : NN_OK;
}

/* To whoever reports a failure from here on. */
static void say_step(const loop *l)
{
    char where[128];
    const nn_comm_place *place = nn_comm_place_of(l->t->wire);
    snprintf(where, sizeof(where), "rank %d of %d on %s, step %" PRId64, place->rank,
             place->n_ranks, place->host, l->t->step);
    nn_cli_where(where, l->t->wire);
    nn_comm_step(l->t->set.ranks.comm, l->t->step);
    nn_comm_step(l->t->wire, l->t->step);
}

/* Nothing where the pass makes the update. */
static nn_plan_stats update_stats(const loop *l)
{
    return l->update ? nn_plan_stats_of(l->update) : (nn_plan_stats){ 0 };
}

/* The numbers of the update that is done. Those that the progress line has room for come first. */
static void report_update(loop *l, nn_progress *progress, double norm, double lr)
{
    trainer *t = l->t;
    const trainer_ranks *r = &t->set.ranks;
    const double now = nn_clock_seconds(), seconds = now - l->ended;
    const double flops =
        (double)r->passes * nn_plan_stats_of(l->pass).flops + update_stats(l).flops;
    nn_field fields[] = { { "loss", t->loss },
                          { "norm", norm },
                          { "lr", lr },
                          { "memory_mb", 1e-6 * (double)nn_clock_rss_bytes() },
                          { "samples_per_s", (double)(all_passes(l) * r->batch) / seconds },
                          { "update_ms", 1e3 * seconds },
                          { "data_ms", 1e3 * l->fed },
                          { "exchange_ms", 1e3 * t->exchange.waited },
                          { "exchange_total_ms", 1e3 * t->exchange.total },
                          { "mfu", 1e-12 * flops / seconds / t->set.peak_tflops } };
    const int n = NN_COUNT(fields) - !(t->set.peak_tflops > 0);
    trainer_watch_add(t, "train", fields, n);
    nn_progress_step(progress, t->step, fields, n);
    l->ended = now;
}

static nn_status one_update(loop *l, nn_progress *progress)
{
    trainer *t = l->t;
    const nn_schedule schedule = { (nn_schedule_kind)t->set.schedule, t->set.lr, t->set.warmup,
                                   t->set.steps };
    double lr = nn_schedule_at(&schedule, t->step);
    float norm;
    if (l->t->wire) say_step(l);
    t->exchange = (trainer_exchange){ 0 };
    l->fed = 0;
    if (t->set.fuse) NN_TRY(nn_optimizer_begin(t->optimizer, l->pass, lr));
    NN_TRY(sum_passes(l));
    if (l->given_up) return NN_OK;
    NN_TRY(exchange(l));
    NN_TRY(update(l, lr, &norm));
    t->step++;
    trainer_saves_mark(&l->saves);
    l->skipped = isfinite(norm) ? 0 : l->skipped + 1;
    if (l->skipped >= MOST_SKIPPED)
        return nn_fail(NN_NUMERIC,
                       "%s: the gradients of %d updates in a row are not finite (loss %g); lower "
                       "--learning-rate",
                       t->what, MOST_SKIPPED, t->loss);
    report_update(l, progress, norm, lr);
    return NN_OK;
}

/* All ranks stop after the same update. */
static bool stopped(const loop *l)
{
    return l->t->wire ? l->stop : nn_cli_interrupted();
}

/* What comes after an update that is no part of it. */
static nn_status between_updates(loop *l)
{
    trainer *t = l->t;
    const bool last = t->step == t->set.steps;
    if (t->validation.build && trainer_validates_after(&t->set, t->step))
        NN_TRY(trainer_validate(t));
    if (t->after) NN_TRY(t->after(t->ctx, t, t->step));
    trainer_saves_poll(&l->saves, false);
    if (!last && !stopped(l) && t->step % t->set.checkpoint_every == 0)
        NN_TRY(trainer_saves_save(&l->saves, true));
    l->ended = nn_clock_seconds();
    return NN_OK;
}

static nn_status steps(loop *l)
{
    trainer *t = l->t;
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, t->what, "update", t->step, t->set.steps);
    l->ended = nn_clock_seconds();
    while (status == NN_OK && t->step < t->set.steps && !stopped(l)) {
        status = one_update(l, &progress);
        if (status == NN_OK && !l->given_up) status = between_updates(l);
    }
    nn_progress_stop(&progress);
    NN_TRY(status);
    if (t->step < t->set.steps) {
        NN_TRY(trainer_saves_save(&l->saves, false));
        return nn_fail(
            NN_INTERRUPTED,
            "%s: interrupted after %" PRId64 " of %" PRId64
            " updates; everything is saved in %s, and the same command goes on from there",
            t->what, t->step, t->set.steps, l->saves.directory);
    }
    trainer_saves_poll(&l->saves, true);
    return trainer_swap_average(t);
}

static nn_status write_profile(loop *l)
{
    nn_text table = { 0 };
    char *path = nn_format("%s/trace.json", l->t->set.output);
    NN_NEED(path);
    nn_status status = nn_plan_profile_table(l->pass, &table);
    if (status == NN_OK && l->update) status = nn_plan_profile_table(l->update, &table);
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
    nn_plan_stats a = nn_plan_stats_of(l->pass), b = update_stats(l);
    double passes = (double)t->set.ranks.passes;
    const int64_t copies = t->optimizer->ema ? 3 : 2; /* two moments, average; beside them */
    const int64_t whole = t->set.fuse ? 1 : 2;        /* values, gradients */
    const int64_t copy_bytes = trainer_saves_copy_bytes(t);
    nn_field fields[] = {
        { "parameters", (double)nn_params_count(t->params) },
        { "gflop", 1e-9 * (passes * a.flops + b.flops) },
        { "launches", passes * (double)a.n_launches + (double)b.n_launches },
        { "state_bytes", 4.0 * (double)(whole * t->params->n_elems + copies * t->optimizer->n) },
        { "activation_bytes", (double)(a.activation_bytes + b.activation_bytes) },
        { "workspace_bytes", (double)(a.workspace_bytes + b.workspace_bytes) },
        { "program_bytes", (double)(a.program_bytes + b.program_bytes) },
        { "checkpoint_copy_bytes", (double)copy_bytes },
    };
    nn_cli_log("plan", fields, NN_COUNT(fields));
    nn_log(NN_LOG_INFO,
           "%s: %.2f M parameters, %.1f MB of activations, %.2f GFLOP in %" PRId64
           " kernels a pass",
           t->what, 1e-6 * (double)nn_params_count(t->params),
           1e-6 * (double)(a.activation_bytes + a.workspace_bytes), 1e-9 * a.flops, a.n_launches);
    if (copy_bytes)
        nn_log(NN_LOG_INFO,
               "%s: %.1f MB for the copy that checkpoints are written from; "
               "--no-background-checkpoints does without",
               t->what, 1e-6 * (double)copy_bytes);
}

static nn_status run(loop *l)
{
    trainer *t = l->t;
    const trainer_settings *s = &t->set;
    nn_adamw_options options = { s->beta1,     s->beta2,     s->eps, s->weight_decay,
                                 s->clip_norm, s->ema_decay, s->fuse };
    const trainer_ranks *r = &s->ranks;
    NN_TRY(trainer_check_fusion(s));
    NN_NEED(l->told = nn_alloc(r->passes + 2, sizeof(float)));
    NN_NEED(l->heard = nn_alloc((r->passes + 2) * r->n, sizeof(float)));
    NN_TRY(trainer_ranks_compare(t));
    if (r->n > 1) NN_TRY(trainer_ranks_wire(t, &t->wire));
    NN_TRY(trainer_describe(t, &l->description));
    t->sharded = s->shard && trainer_shards_possible(t);
    NN_TRY(t->sharded ? trainer_shards_open(t, &options)
                      : nn_optimizer_create(t->params, &options, &t->optimizer));
    NN_TRY(make_plans(l));
    NN_TRY(trainer_watch_open(t));
    log_plans(l);
    NN_TRY(trainer_saves_open(t, l->description.text, &l->saves));
    NN_TRY(trainer_saves_resume(&l->saves));
    NN_TRY(trainer_watch_start(t));
    NN_TRY(steps(l));
    return s->profile && !r->rank ? write_profile(l) : NN_OK;
}

static void close_wire(loop *l, nn_status status)
{
    const trainer_ranks *r = &l->t->set.ranks;
    nn_cli_where("", NULL);
    if (r->n > 1 && status != NN_OK && status != NN_INTERRUPTED) trainer_ranks_fail(r, l->t->wire);
    if (l->t->wire != r->comm) nn_comm_close(l->t->wire);
}

nn_status trainer_run(trainer *t)
{
    loop l = { .t = t };
    t->step = 0;
    if (!t->set.ranks.n) NN_TRY(trainer_share(&t->set));
    nn_status status = run(&l);
    trainer_saves_close(&l.saves);
    close_wire(&l, status);
    trainer_watch_close(t);
    trainer_buckets_close(t);
    nn_plan_destroy(l.pass);
    nn_plan_destroy(l.norm);
    nn_plan_destroy(l.update);
    nn_graph_destroy(l.pass_graph);
    nn_graph_destroy(l.norm_graph);
    nn_graph_destroy(l.update_graph);
    nn_optimizer_destroy(t->optimizer);
    t->optimizer = NULL;
    t->pass = t->update = NULL;
    t->wire = NULL;
    nn_free(l.told);
    nn_free(l.heard);
    nn_text_free(&l.description);
    return status;
}
