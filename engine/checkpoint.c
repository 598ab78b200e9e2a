/* Saving, loading and the choice of a file. */
#include "engine/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/str.h"

enum { SECTIONS = 4 };

/* A flat buffer of the training state, and the prefix of its tensors' names. */
typedef struct section {
    const char *prefix;
    float *values; /* on the device; NULL = not there */
    float *part;   /* what of it is here, if others hold the rest: then `values` is the room where
                      the parts meet, one section at a time */
} section;

static section of_state(const nn_optimizer *o, const char *prefix, float *values)
{
    if (!values || !o->peers) return (section){ prefix, values, NULL };
    return (section){ prefix, o->peers->room, values };
}

static void list_sections(const nn_optimizer *o, section s[SECTIONS])
{
    s[0] = (section){ "", o->params->values, NULL };
    s[1] = of_state(o, "adamw.m.", o->m);
    s[2] = of_state(o, "adamw.v.", o->v);
    s[3] = of_state(o, "ema.", o->ema);
}

/* -- saving -- */

typedef struct saver {
    nn_params *params;
    section sections[SECTIONS];
    const nn_optimizer_peers *peers;
    const float *gathered; /* the part whose section is in the room */
    nn_arena arena;        /* names and metadata */
    nn_weight *tensors;
    const float **parts; /* of each tensor's section; NULL where it is all here */
    int64_t n;
} saver;

/* Tensors come in the order of their names, so that each section is gathered once. */
static nn_status fetch(void *ctx, const nn_weight *t, int64_t at, int64_t n, void *out)
{
    saver *s = ctx;
    nn_device *d = s->params->device;
    const float *part = s->parts[t - s->tensors];
    if (part && part != s->gathered) {
        NN_TRY(s->peers->gather(s->peers->ctx, part));
        s->gathered = part;
    }
    return d->backend->read(d, out, (const char *)t->data + at, n);
}

static nn_status list_tensors(saver *s)
{
    s->tensors = nn_arena_alloc(&s->arena, SECTIONS * s->params->n, sizeof(*s->tensors));
    NN_NEED(s->tensors);
    NN_NEED(s->parts = nn_arena_alloc(&s->arena, SECTIONS * s->params->n, sizeof(*s->parts)));
    for (int k = 0; k < SECTIONS; k++) {
        for (int64_t i = 0; s->sections[k].values && i < s->params->n; i++) {
            const nn_param *p = s->params->items[i];
            s->parts[s->n] = s->sections[k].part;
            nn_weight *t = &s->tensors[s->n++];
            *t = (nn_weight){ .dtype = NN_ST_F32,
                              .rank = p->view.rank,
                              .data = s->sections[k].values + p->offset,
                              .bytes = nn_view_bytes(&p->view) };
            memcpy(t->dim, p->view.dim, sizeof(p->view.dim));
            NN_NEED(t->name = nn_arena_format(&s->arena, "%s%s", s->sections[k].prefix, p->name));
        }
    }
    return NN_OK;
}

static nn_status write_file(saver *s, const char *path, const nn_checkpoint *state, int64_t updates)
{
    const char *config = state->config ? state->config : "";
    nn_st_pair meta[] = {
        { "format", "pt" },
        { "step", nn_arena_format(&s->arena, "%" PRId64, state->step) },
        { "updates", nn_arena_format(&s->arena, "%" PRId64, updates) },
        { "epoch", nn_arena_format(&s->arena, "%" PRId64, state->epoch) },
        { "position", nn_arena_format(&s->arena, "%" PRId64, state->position) },
        { "seed", nn_arena_format(&s->arena, "%" PRIu64, state->seed) },
        { "config", config },
        { "config_hash", nn_arena_format(&s->arena, "%016" PRIx64, nn_hash_text(config)) },
    };
    for (int i = 0; i < NN_COUNT(meta); i++) NN_NEED(meta[i].value);
    const bool direct = s->params->device->backend->host_memory && !s->peers;
    const nn_st_source source = { fetch, s };
    return nn_safetensors_write_from(path, s->tensors, s->n, meta, NN_COUNT(meta),
                                     direct ? NULL : &source);
}

static nn_status save_file(const char *path, const nn_checkpoint *state, const nn_optimizer *o)
{
    saver s = { .params = o->params, .peers = o->peers };
    list_sections(o, s.sections);
    nn_status status = list_tensors(&s);
    if (status == NN_OK) status = write_file(&s, path, state, o->step);
    nn_arena_free(&s.arena);
    return status;
}

/* -- the directory -- */

/* The step in "step-00000300.safetensors", -1 for other names. */
static int64_t step_of(const char *name)
{
    char *end;
    if (!nn_starts_with(name, "step-") || name[5] < '0' || name[5] > '9') return -1;
    int64_t step = strtoll(name + 5, &end, 10);
    return strcmp(end, ".safetensors") == 0 ? step : -1;
}

/* What a killed run left half-written. */
static bool is_leftover(const char *name)
{
    return nn_starts_with(name, "step-") && strstr(name, ".safetensors.part-");
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = step_of(*(char *const *)a), y = step_of(*(char *const *)b);
    return (x < y) - (x > y);
}

/* Names of checkpoints, newest first; others are freed. Owner: nn_file_list_free. */
static nn_status list_checkpoints(const char *directory, char ***names, int64_t *n)
{
    int64_t all, kept = 0;
    NN_TRY(nn_file_list(directory, names, &all));
    for (int64_t i = 0; i < all; i++) {
        if (step_of((*names)[i]) >= 0)
            (*names)[kept++] = (*names)[i];
        else
            nn_free((*names)[i]);
    }
    *n = kept;
    if (kept) qsort(*names, (size_t)kept, sizeof(**names), newest_first);
    return NN_OK;
}

static bool readable(const char *path)
{
    nn_weight_file file;
    if (nn_safetensors_open(path, &file) != NN_OK) return false;
    nn_weight_file_close(&file);
    return true;
}

static nn_status remove_older(const char *directory, char *const *names, int64_t n, int keep,
                              const char *just_written)
{
    int kept = 0;
    for (int64_t i = 0; i < n; i++) {
        char *path = nn_format("%s/%s", directory, names[i]);
        NN_NEED(path);
        nn_status status = NN_OK;
        if (kept >= keep && strcmp(names[i], just_written) != 0)
            status = nn_file_remove(path);
        else
            kept += readable(path);
        nn_free(path);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status remove_leftovers(const char *directory)
{
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(directory, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i++) {
        if (!is_leftover(names[i])) continue;
        char *path = nn_format("%s/%s", directory, names[i]);
        status = path ? nn_file_remove(path) : NN_MEMORY;
        nn_free(path);
    }
    nn_file_list_free(names, n);
    return status;
}

static nn_status tidy(const char *directory, int keep, const char *just_written)
{
    char **names;
    int64_t n;
    NN_TRY(remove_leftovers(directory));
    if (keep <= 0) return NN_OK;
    NN_TRY(list_checkpoints(directory, &names, &n));
    nn_status status = remove_older(directory, names, n, keep, just_written);
    nn_file_list_free(names, n);
    return status;
}

nn_status nn_checkpoint_save(const char *directory, int keep, const nn_checkpoint *state,
                             const nn_optimizer *optimizer)
{
    char name[64];
    snprintf(name, sizeof(name), "step-%08" PRId64 ".safetensors", state->step);
    NN_TRY(nn_file_make_dir(directory));
    char *path = nn_format("%s/%s", directory, name);
    NN_NEED(path);
    nn_status status = save_file(path, state, optimizer);
    nn_free(path);
    NN_TRY(status);
    if (tidy(directory, keep, name) != NN_OK)
        nn_log(NN_LOG_WARN, "old checkpoints are left in place: %s", nn_error_message());
    return NN_OK;
}

/* -- loading -- */

static nn_status meta_text(const nn_weight_file *file, const char *path, const char *key,
                           const char **value)
{
    *value = nn_weight_file_metadata(file, key);
    if (*value) return NN_OK;
    return nn_fail(NN_FORMAT, "%s: has no metadata '%s': it is no checkpoint of training", path,
                   key);
}

static nn_status meta_number(const nn_weight_file *file, const char *path, const char *key,
                             int base, uint64_t *value)
{
    const char *text;
    char *end;
    NN_TRY(meta_text(file, path, key, &text));
    errno = 0;
    *value = strtoull(text, &end, base);
    if (errno == 0 && end != text && *end == 0) return NN_OK;
    return nn_fail(NN_FORMAT, "%s: metadata '%s' is '%.40s', a number is expected", path, key,
                   text);
}

static nn_status read_state(const nn_weight_file *file, const char *path, nn_checkpoint *state,
                            int64_t *updates)
{
    const char *config;
    uint64_t step, done, epoch, position, hash;
    NN_TRY(meta_number(file, path, "step", 10, &step));
    NN_TRY(meta_number(file, path, "updates", 10, &done));
    NN_TRY(meta_number(file, path, "epoch", 10, &epoch));
    NN_TRY(meta_number(file, path, "position", 10, &position));
    NN_TRY(meta_number(file, path, "seed", 10, &state->seed));
    NN_TRY(meta_number(file, path, "config_hash", 16, &hash));
    NN_TRY(meta_text(file, path, "config", &config));
    if (nn_hash_text(config) != hash)
        return nn_fail(NN_FORMAT, "%s: the configuration does not have the hash it was saved with",
                       path);
    state->step = (int64_t)step;
    state->epoch = (int64_t)epoch;
    state->position = (int64_t)position;
    *updates = (int64_t)done;
    NN_NEED(state->config = nn_strdup(config));
    return NN_OK;
}

static nn_status check_tensor(const char *path, const char *name, const nn_param *p,
                              const nn_weight *t)
{
    if (!t)
        return nn_fail(NN_NOT_FOUND,
                       "%s: has no tensor '%s': it belongs to another model or "
                       "another optimizer",
                       path, name);
    bool same = t->rank == p->view.rank && t->dtype == NN_ST_F32;
    for (int i = 0; same && i < t->rank; i++) same = t->dim[i] == p->view.dim[i];
    if (same) return NN_OK;
    return nn_fail(
        NN_SHAPE, "%s: tensor '%s' is %s of %d dimensions and %lld bytes, %s is expected", path,
        name, nn_st_dtype_name(t->dtype), t->rank, (long long)t->bytes, nn_view_text(&p->view).s);
}

/* found[section * n + i]: the tensor of each parameter and section that the optimizer has. */
static nn_status find_tensors(const nn_weight_file *file, const char *path, const nn_optimizer *o,
                              const nn_weight **found)
{
    section sections[SECTIONS];
    list_sections(o, sections);
    for (int k = 0; k < SECTIONS; k++) {
        for (int64_t i = 0; sections[k].values && i < o->params->n; i++) {
            const nn_param *p = o->params->items[i];
            char *name = nn_format("%s%s", sections[k].prefix, p->name);
            NN_NEED(name);
            const nn_weight *t = nn_weight_file_find(file, name);
            nn_status status = check_tensor(path, name, p, t);
            nn_free(name);
            NN_TRY(status);
            found[k * o->params->n + i] = t;
        }
    }
    return NN_OK;
}

static nn_status copy_tensors(const nn_weight *const *found, const nn_optimizer *o)
{
    section sections[SECTIONS];
    nn_device *d = o->params->device;
    list_sections(o, sections);
    for (int k = 0; k < SECTIONS; k++) {
        for (int64_t i = 0; sections[k].values && i < o->params->n; i++) {
            const nn_weight *t = found[k * o->params->n + i];
            float *place = sections[k].values + o->params->items[i]->offset;
            NN_TRY(d->backend->write(d, place, t->data, t->bytes));
        }
        if (sections[k].part) NN_TRY(o->peers->scatter(o->peers->ctx, sections[k].part));
    }
    return NN_OK;
}

/* Everything that can fail comes before the first value changes. */
static nn_status load_file(const nn_weight_file *file, const char *path, nn_checkpoint *state,
                           nn_optimizer *o)
{
    int64_t updates = 0;
    const nn_weight **found = nn_alloc(SECTIONS * o->params->n, sizeof(*found));
    NN_NEED(found);
    nn_status status = find_tensors(file, path, o, found);
    if (status == NN_OK) status = read_state(file, path, state, &updates);
    if (status == NN_OK) status = copy_tensors(found, o);
    nn_free(found);
    if (status != NN_OK) {
        nn_free(state->config);
        return status;
    }
    o->step = updates;
    nn_params_touch(o->params);
    return NN_OK;
}

nn_status nn_checkpoint_load(const char *path, nn_checkpoint *state, nn_optimizer *optimizer)
{
    nn_weight_file file;
    nn_checkpoint loaded = { 0 };
    NN_TRY(nn_safetensors_open(path, &file));
    nn_status status = load_file(&file, path, &loaded, optimizer);
    nn_weight_file_close(&file);
    if (status == NN_OK) *state = loaded;
    return status;
}

nn_status nn_checkpoint_resume(const char *directory, nn_checkpoint *state, nn_optimizer *optimizer,
                               bool *found)
{
    char **names;
    int64_t n;
    *found = false;
    if (!nn_file_exists(directory)) return NN_OK;
    NN_TRY(list_checkpoints(directory, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && !*found; i++) {
        char *path = nn_format("%s/%s", directory, names[i]);
        status = path ? nn_checkpoint_load(path, state, optimizer) : NN_MEMORY;
        nn_free(path);
        *found = status == NN_OK;
        if (status != NN_FORMAT && status != NN_IO) break;
        nn_log(NN_LOG_WARN, "checkpoint passed over: %s", nn_error_message());
    }
    nn_file_list_free(names, n);
    return status;
}
