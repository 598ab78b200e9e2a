/* Saving in the foreground, and what of it the background shares. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/checkpoint_internal.h"

/* -- what there is to save -- */

static checkpoint_section of_state(const nn_optimizer *o, const char *prefix, float *values)
{
    if (!values || !o->peers) return (checkpoint_section){ prefix, values, NULL };
    return (checkpoint_section){ prefix, o->peers->room, values };
}

checkpoint_content checkpoint_content_of(const nn_optimizer *o)
{
    return (checkpoint_content){
        .params = o->params,
        .sections = { { "", o->params->values, NULL },
                      of_state(o, "adamw.m.", o->m),
                      of_state(o, "adamw.v.", o->v),
                      of_state(o, "ema.", o->ema) },
        .peers = o->peers,
        .on_host = o->params->device->backend->host_memory && !o->peers,
        .updates = o->step,
    };
}

int64_t nn_checkpoint_bytes(const nn_optimizer *o)
{
    const checkpoint_content c = checkpoint_content_of(o);
    int64_t n = 0;
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) n += c.sections[k].values != NULL;
    return n * o->params->n_elems * (int64_t)sizeof(float);
}

/* -- writing a file -- */

typedef struct writer {
    const checkpoint_content *content;
    int n_gathered; /* of the sections that lie in parts */
    bool alone;     /* gathering failed */
    nn_arena arena; /* names and metadata */
    nn_weight *tensors;
    int *sections; /* of each tensor */
    int64_t n;
} writer;

/* The next section that lies in parts into the room; all ranks do so in the same order. */
static nn_status gather_next(writer *s, const float *part)
{
    const nn_optimizer_peers *peers = s->content->peers;
    const nn_status status = peers->gather(peers->ctx, part);
    s->n_gathered++;
    s->alone = status != NN_OK;
    return status;
}

/* Gather what a failure has kept from being gathered, since the others do. */
static nn_status gather_rest(writer *s)
{
    const checkpoint_section *sections = s->content->sections;
    for (int k = 0, n = 0; k < CHECKPOINT_SECTIONS && !s->alone; k++)
        if (sections[k].part && n++ == s->n_gathered) NN_TRY(gather_next(s, sections[k].part));
    return NN_OK;
}

/* The number of a section among those in parts. */
static int part_number(const checkpoint_section *sections, int of)
{
    int n = 0;
    for (int k = 0; k < of; k++) n += sections[k].part != NULL;
    return n;
}

/* Tensors come in the order of their names, so that each section is gathered once. */
static nn_status fetch(void *ctx, const nn_weight *t, int64_t at, int64_t n, void *out)
{
    writer *s = ctx;
    nn_device *d = s->content->params->device;
    const int section = s->sections[t - s->tensors];
    const float *part = s->content->sections[section].part;
    if (part && part_number(s->content->sections, section) == s->n_gathered)
        NN_TRY(gather_next(s, part));
    return d->backend->read(d, out, (const char *)t->data + at, n);
}

static nn_status list_tensors(writer *s)
{
    const nn_params *params = s->content->params;
    const int64_t most = CHECKPOINT_SECTIONS * params->n;
    NN_NEED(s->tensors = nn_arena_alloc(&s->arena, most, sizeof(*s->tensors)));
    NN_NEED(s->sections = nn_arena_alloc(&s->arena, most, sizeof(*s->sections)));
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) {
        const checkpoint_section *section = &s->content->sections[k];
        for (int64_t i = 0; section->values && i < params->n; i++) {
            const nn_param *p = params->items[i];
            s->sections[s->n] = k;
            nn_weight *t = &s->tensors[s->n++];
            *t = (nn_weight){ .dtype = NN_ST_F32,
                              .rank = p->view.rank,
                              .data = section->values + p->offset,
                              .bytes = nn_view_bytes(&p->view) };
            memcpy(t->dim, p->view.dim, sizeof(p->view.dim));
            NN_NEED(t->name = nn_arena_format(&s->arena, "%s%s", section->prefix, p->name));
        }
    }
    return NN_OK;
}

static nn_status write_file(writer *s, const char *path, const nn_checkpoint *state)
{
    const char *config = state->config ? state->config : "";
    nn_st_pair meta[] = {
        { "format", "pt" },
        { "step", nn_arena_format(&s->arena, "%" PRId64, state->step) },
        { "updates", nn_arena_format(&s->arena, "%" PRId64, s->content->updates) },
        { "epoch", nn_arena_format(&s->arena, "%" PRId64, state->epoch) },
        { "position", nn_arena_format(&s->arena, "%" PRId64, state->position) },
        { "seed", nn_arena_format(&s->arena, "%" PRIu64, state->seed) },
        { "config", config },
        { "config_hash", nn_arena_format(&s->arena, "%016" PRIx64, nn_hash_text(config)) },
    };
    for (int i = 0; i < NN_COUNT(meta); i++) NN_NEED(meta[i].value);
    const nn_st_source source = { fetch, s };
    return nn_safetensors_write_sealed(path, s->tensors, s->n, meta, NN_COUNT(meta),
                                       s->content->on_host ? NULL : &source);
}

static nn_status save_file(writer *s, const char *directory, const nn_checkpoint *state)
{
    char path[4096];
    NN_TRY(nn_file_make_dir(directory));
    NN_TRY(checkpoint_remove_leftovers(directory));
    NN_TRY(list_tensors(s));
    snprintf(path, sizeof(path), "%s/step-%08" PRId64 ".safetensors", directory, state->step);
    return write_file(s, path, state);
}

/* A disk that refuses a file may be full. */
static nn_status add_space(nn_status status, const char *directory, const writer *s)
{
    int64_t bytes = 0;
    const int64_t free_bytes = nn_file_space(directory);
    for (int64_t i = 0; i < s->n; i++) bytes += s->tensors[i].bytes;
    if (status != NN_IO || free_bytes < 0 || !s->n) return status;
    return nn_fail(status, "%s; the file needs %.1f MB, and %.1f MB are free", nn_error_message(),
                   1e-6 * (double)bytes, 1e-6 * (double)free_bytes);
}

nn_status checkpoint_write(const char *directory, const nn_checkpoint *state,
                           const checkpoint_content *content)
{
    writer s = { .content = content };
    nn_status status = save_file(&s, directory, state);
    if (status != NN_OK) status = add_space(status, directory, &s);
    nn_arena_free(&s.arena);
    NN_TRY(gather_rest(&s));
    return status;
}

nn_status nn_checkpoint_save(const char *directory, int keep, const nn_checkpoint *state,
                             const nn_optimizer *optimizer)
{
    const checkpoint_content content = checkpoint_content_of(optimizer);
    NN_TRY(checkpoint_write(directory, state, &content));
    if (checkpoint_remove_older(directory, keep, state->step) != NN_OK)
        nn_log(NN_LOG_WARN, "old checkpoints are left in place: %s", nn_error_message());
    return NN_OK;
}
