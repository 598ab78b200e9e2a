/* What surrounds the training loop in every trainer's command. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "tools/trainer.h"

static bool is_finished(const trainer_settings *set)
{
    char path[4096], *text = NULL;
    int64_t n;
    snprintf(path, sizeof(path), "%s/finished", set->output);
    if (!nn_file_exists(path) || nn_file_read(path, 64, &text, &n) != NN_OK) return false;
    bool finished = strtoll(text, NULL, 10) == set->steps;
    nn_free(text);
    return finished;
}

static nn_status mark_finished(const trainer_settings *set)
{
    char path[4096], text[32];
    snprintf(path, sizeof(path), "%s/finished", set->output);
    int n = snprintf(text, sizeof(text), "%" PRId64 "\n", set->steps);
    return nn_file_write(path, text, n);
}

static void log_peak(void)
{
    const nn_field peak = { "peak_rss_bytes", (double)nn_clock_peak_rss_bytes() };
    nn_cli_log("memory", &peak, 1);
}

static nn_status do_work(const trainer_settings *set, void *ctx, trainer_work *work,
                         void (*close)(void *ctx))
{
    nn_device *device = NULL;
    const bool leads = set->ranks.rank == 0;
    bool finished = leads && is_finished(set);
    NN_TRY(trainer_ranks_tell(&set->ranks, &finished, sizeof(finished)));
    if (finished) {
        nn_log(NN_LOG_INFO, "%s: %" PRId64 " updates are done already", set->output, set->steps);
        return NN_OK;
    }
    nn_status status = device_open(&set->on, &device);
    if (status == NN_OK && leads) status = nn_file_make_dir(set->output);
    if (status == NN_OK) status = work(ctx, device);
    if (status == NN_OK) log_peak();
    if (status == NN_OK && leads) status = mark_finished(set);
    if (status != NN_OK && status != NN_INTERRUPTED && set->ranks.n > 1)
        trainer_ranks_fail(&set->ranks, NULL);
    close(ctx);
    nn_device_close(device);
    return status;
}

nn_status trainer_check_fusion(const trainer_settings *set)
{
    const trainer_ranks *r = &set->ranks;
    if (!set->fuse) return NN_OK;
    if (set->clip_norm > 0)
        return nn_fail(NN_ARGUMENT,
                       "--fuse-update with --max-grad-norm %g: the norm of all gradients is known "
                       "when all parameters have been updated; give --max-grad-norm 0",
                       set->clip_norm);
    if (set->memory)
        return nn_fail(NN_ARGUMENT,
                       "--fuse-update with --memory %s: settings are chosen for an update behind "
                       "the backward pass; give one of them",
                       set->memory);
    if (r->n > 1)
        return nn_fail(NN_ARGUMENT,
                       "--fuse-update on %d ranks: gradients are summed over the ranks before the "
                       "update; start one rank, or give --shard-optimizer instead",
                       r->n);
    if (r->passes > 1)
        return nn_fail(NN_ARGUMENT,
                       "--fuse-update with %" PRId64 " passes in an update: gradients are added up "
                       "before the update; give --gradient-accumulation-steps 1",
                       r->passes);
    return NN_OK;
}

nn_status trainer_command(trainer_settings *set, void *ctx, trainer_work *work,
                          void (*close)(void *ctx))
{
    nn_status status = trainer_ranks_open(set);
    if (status == NN_OK) status = trainer_check_fusion(set);
    if (status == NN_OK) status = do_work(set, ctx, work, close);
    trainer_ranks_close(&set->ranks);
    return status;
}

nn_status trainer_make_params(trainer_build *build, void *ctx, nn_device *device, nn_params **out)
{
    nn_graph *g;
    NN_TRY(nn_params_create(out));
    NN_TRY(nn_graph_create(&g));
    (void)build(ctx, g, *out);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    return nn_params_alloc(*out, device, true);
}
