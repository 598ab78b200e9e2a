/* Saving in the background: the copy, and the thread that writes it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/checkpoint_internal.h"

struct nn_saver {
    const nn_optimizer *optimizer;
    char *directory;
    int keep;
    float *copies[CHECKPOINT_SECTIONS]; /* on the host, in the order of the store */

    /* Of the save under way: */
    bool busy, threaded;
    pthread_t thread;
    _Atomic bool done;
    nn_checkpoint state;
    checkpoint_content content; /* of the copies */
    nn_saved saved;
    nn_status tidied; /* the file is there: whether older ones could be removed */
};

nn_status nn_saver_create(const char *directory, int keep, const nn_optimizer *optimizer,
                          nn_saver **out)
{
    const checkpoint_content c = checkpoint_content_of(optimizer);
    const int64_t bytes = optimizer->params->n_elems * (int64_t)sizeof(float);
    nn_saver *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    s->optimizer = optimizer;
    s->keep = keep;
    bool there = (s->directory = nn_strdup(directory)) != NULL;
    for (int k = 0; k < CHECKPOINT_SECTIONS && there; k++)
        if (c.sections[k].values) there = (s->copies[k] = nn_alloc_aligned(bytes)) != NULL;
    if (!there) {
        nn_saver_destroy(s);
        return NN_MEMORY;
    }
    *out = s;
    return NN_OK;
}

void nn_saver_destroy(nn_saver *s)
{
    nn_saved unseen;
    if (!s) return;
    if (s->busy) nn_saver_wait(s, &unseen);
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) nn_free(s->copies[k]);
    nn_free(s->directory);
    nn_free(s);
}

/* The thread must not touch what training changes: everything it reads is in the saver. */
static void *write_copies(void *ctx)
{
    nn_saver *s = ctx;
    const double began = nn_clock_seconds();
    s->saved.status = checkpoint_write(s->directory, &s->state, &s->content);
    s->tidied = NN_OK;
    if (s->saved.status == NN_OK)
        s->tidied = checkpoint_remove_older(s->directory, s->keep, s->state.step);
    if (s->saved.status != NN_OK || s->tidied != NN_OK)
        snprintf(s->saved.message, sizeof(s->saved.message), "%s", nn_error_message());
    s->saved.seconds = nn_clock_seconds() - began;
    atomic_store(&s->done, true);
    return NULL;
}

/* Sections in parts are gathered in their order, as the others do. */
static nn_status copy_sections(nn_saver *s)
{
    nn_device *d = s->optimizer->params->device;
    const nn_optimizer_peers *peers = s->optimizer->peers;
    const int64_t bytes = s->optimizer->params->n_elems * (int64_t)sizeof(float);
    s->content = checkpoint_content_of(s->optimizer);
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) {
        checkpoint_section *section = &s->content.sections[k];
        if (!section->values) continue;
        if (section->part) NN_TRY(peers->gather(peers->ctx, section->part));
        NN_TRY(d->backend->read(d, s->copies[k], section->values, bytes));
        *section = (checkpoint_section){ section->prefix, s->copies[k], NULL };
    }
    s->content.peers = NULL;
    s->content.on_host = true;
    return NN_OK;
}

nn_status nn_saver_start(nn_saver *s, const nn_checkpoint *state)
{
    NN_ASSERT(!s->busy);
    NN_TRY(copy_sections(s));
    s->state = *state;
    s->saved = (nn_saved){ .step = state->step };
    NN_NEED(s->state.config = nn_strdup(state->config ? state->config : ""));
    atomic_store(&s->done, false);
    s->busy = true;
    s->threaded = pthread_create(&s->thread, NULL, write_copies, s) == 0;
    if (!s->threaded) write_copies(s);
    return NN_OK;
}

bool nn_saver_is_busy(const nn_saver *s)
{
    return s->busy;
}

bool nn_saver_is_done(const nn_saver *s)
{
    return s->busy && atomic_load(&s->done);
}

void nn_saver_wait(nn_saver *s, nn_saved *out)
{
    NN_ASSERT(s->busy);
    if (s->threaded) pthread_join(s->thread, NULL);
    s->busy = false;
    nn_free(s->state.config);
    s->state.config = NULL;
    if (s->tidied != NN_OK)
        nn_log(NN_LOG_WARN, "old checkpoints are left in place: %s", s->saved.message);
    *out = s->saved;
}
