/* Checkpoints of a training: when one is written and by whom, what is told of it, and going on from
 * one. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "tools/trainer.h"

/* -- saving ------------------------------------------------------------------------------------ */

/* Whether training can do without the checkpoint that this is the failure of. */
static bool is_bearable(nn_status status)
{
    return status == NN_IO || status == NN_NOT_FOUND || status == NN_MEMORY;
}

static void tell(trainer_saves *s, const nn_saved *saved)
{
    const char *what = s->t->what;
    const double bytes = (double)nn_checkpoint_bytes(s->t->optimizer);
    nn_field fields[] = { { "step", (double)saved->step },
                          { "saved", saved->status == NN_OK },
                          { "bytes", bytes },
                          { "seconds_writing", saved->seconds },
                          { "seconds_stood_still", s->stood } };
    nn_cli_log("checkpoint", fields, NN_COUNT(fields));
    if (saved->status == NN_OK) {
        s->newest = saved->step;
        nn_log(NN_LOG_INFO,
               "%s: checkpoint of update %" PRId64 ": %.1f MB written in %.2f s, training stood "
               "still for %.2f s",
               what, saved->step, 1e-6 * bytes, saved->seconds, s->stood);
    } else {
        nn_log(NN_LOG_WARN,
               "%s: no checkpoint of update %" PRId64 ": %s; earlier ones are as they were, and "
               "training goes on",
               what, saved->step, saved->message);
    }
}

void trainer_saves_poll(trainer_saves *s, bool wait)
{
    nn_saved saved;
    if (!s->saver || !nn_saver_is_busy(s->saver)) return;
    if (!wait && !nn_saver_is_done(s->saver)) return;
    nn_saver_wait(s->saver, &saved);
    tell(s, &saved);
}

void trainer_saves_mark(trainer_saves *s)
{
    const trainer_stream *stream = &s->t->stream;
    if (stream->tell) stream->tell(stream->ctx, &s->epoch, &s->position);
}

static nn_checkpoint state_of(const trainer_saves *s)
{
    return (nn_checkpoint){ .step = s->t->step,
                            .epoch = s->epoch,
                            .position = s->position,
                            .seed = (uint64_t)s->t->set.seed,
                            .config = s->config };
}

/* Whether there is a copy to save from. Where there is no memory for one, training waits. */
static bool has_saver(trainer_saves *s)
{
    const trainer *t = s->t;
    if (!t->set.background || s->no_room) return false;
    if (s->saver) return true;
    s->no_room = nn_saver_create(s->directory, (int)t->set.keep, t->optimizer, &s->saver) != NN_OK;
    if (s->no_room)
        nn_log(NN_LOG_WARN, "%s: checkpoints are written while training waits: %s", t->what,
               nn_error_message());
    return !s->no_room;
}

static nn_status save_while_waiting(trainer_saves *s, bool goes_on, double began)
{
    const nn_checkpoint state = state_of(s);
    nn_saved saved = { .step = state.step };
    saved.status = nn_checkpoint_save(s->directory, (int)s->t->set.keep, &state, s->t->optimizer);
    saved.seconds = s->stood = nn_clock_seconds() - began;
    if (saved.status != NN_OK) {
        if (!goes_on || !is_bearable(saved.status)) return saved.status;
        snprintf(saved.message, sizeof(saved.message), "%s", nn_error_message());
    }
    tell(s, &saved);
    return NN_OK;
}

nn_status trainer_saves_save(trainer_saves *s, bool goes_on)
{
    const trainer *t = s->t;
    const double began = nn_clock_seconds();
    if (t->set.ranks.rank) return t->sharded ? trainer_shards_follow(t, true) : NN_OK;
    trainer_saves_poll(s, true);
    if (s->newest == t->step && !t->sharded) return NN_OK; /* of parts the others gather already */
    if (!goes_on || !has_saver(s)) return save_while_waiting(s, goes_on, began);
    const nn_checkpoint state = state_of(s);
    NN_TRY(nn_saver_start(s->saver, &state));
    s->stood = nn_clock_seconds() - began;
    return NN_OK;
}

/* -- going on ---------------------------------------------------------------------------------- */

/* What the first rank finds among the checkpoints. */
static nn_status find_checkpoint(trainer_saves *s, nn_checkpoint *state, bool *found)
{
    NN_TRY(nn_checkpoint_resume(s->directory, state, s->t->optimizer, found));
    if (!*found) return NN_OK;
    const nn_status status = trainer_compare(s->directory, state->config, s->config);
    nn_free(state->config);
    state->config = NULL;
    return status;
}

/* The first rank's state to all. */
static nn_status spread(trainer_saves *s, nn_checkpoint *state, bool *found)
{
    nn_optimizer *o = s->t->optimizer;
    int64_t numbers[] = { *found, state->step, state->epoch, state->position, o->step };
    if (!s->t->wire) return NN_OK;
    NN_TRY(trainer_ranks_tell(&s->t->set.ranks, numbers, sizeof(numbers)));
    *found = numbers[0] != 0;
    if (!*found) return NN_OK;
    state->step = numbers[1];
    state->epoch = numbers[2];
    state->position = numbers[3];
    o->step = numbers[4];
    float *const buffers[] = { o->params->values, o->m, o->v, o->ema };
    for (int i = 0; i < (s->t->sharded ? 1 : NN_COUNT(buffers)); i++)
        if (buffers[i])
            NN_TRY(nn_comm_broadcast(s->t->wire, NN_F32, o->params->n_elems, buffers[i], 0));
    nn_params_touch(o->params);
    return NN_OK;
}

nn_status trainer_saves_resume(trainer_saves *s)
{
    trainer *t = s->t;
    nn_checkpoint state = { 0 };
    bool found = false;
    if (!t->set.ranks.rank) NN_TRY(find_checkpoint(s, &state, &found));
    if (t->sharded)
        NN_TRY(t->set.ranks.rank ? trainer_shards_follow(t, false) : trainer_shards_end(t));
    NN_TRY(spread(s, &state, &found));
    if (found) {
        t->step = s->newest = state.step;
        nn_log(NN_LOG_INFO, "%s: goes on from update %" PRId64, t->what, t->step);
    }
    if (t->stream.seek) NN_TRY(t->stream.seek(t->stream.ctx, state.epoch, state.position));
    trainer_saves_mark(s);
    return NN_OK;
}

/* -- life -------------------------------------------------------------------------------------- */

nn_status trainer_saves_open(trainer *t, char *config, trainer_saves *out)
{
    *out = (trainer_saves){ .t = t, .config = config };
    NN_NEED(out->directory = nn_format("%s/checkpoints", t->set.output));
    return NN_OK;
}

void trainer_saves_close(trainer_saves *s)
{
    trainer_saves_poll(s, true);
    nn_saver_destroy(s->saver);
    nn_free(s->directory);
    *s = (trainer_saves){ 0 };
}

int64_t trainer_saves_copy_bytes(const trainer *t)
{
    const trainer_settings *set = &t->set;
    const bool saves = !set->ranks.rank && set->checkpoint_every < set->steps;
    return saves && set->background ? nn_checkpoint_bytes(t->optimizer) : 0;
}
