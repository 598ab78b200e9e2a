/* Loading, and the choice of a file. */
#include "engine/checkpoint.h"

#include <errno.h>
#include <stdlib.h>

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/checkpoint_internal.h"

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
    const checkpoint_content c = checkpoint_content_of(o);
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) {
        for (int64_t i = 0; c.sections[k].values && i < o->params->n; i++) {
            const nn_param *p = o->params->items[i];
            char *name = nn_format("%s%s", c.sections[k].prefix, p->name);
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
    const checkpoint_content c = checkpoint_content_of(o);
    nn_device *d = o->params->device;
    for (int k = 0; k < CHECKPOINT_SECTIONS; k++) {
        for (int64_t i = 0; c.sections[k].values && i < o->params->n; i++) {
            const nn_weight *t = found[k * o->params->n + i];
            float *place = c.sections[k].values + o->params->items[i]->offset;
            NN_TRY(d->backend->write(d, place, t->data, t->bytes));
        }
        if (c.sections[k].part) NN_TRY(o->peers->scatter(o->peers->ctx, c.sections[k].part));
    }
    return NN_OK;
}

/* Everything that can fail comes before the first value changes. */
static nn_status load_file(const nn_weight_file *file, const char *path, nn_checkpoint *state,
                           nn_optimizer *o)
{
    int64_t updates = 0;
    const nn_weight **found = nn_alloc(CHECKPOINT_SECTIONS * o->params->n, sizeof(*found));
    NN_NEED(found);
    nn_status status = nn_safetensors_verify(path, file);
    if (status == NN_OK) status = find_tensors(file, path, o, found);
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

/* Whether an older one may do where this is what loading a newer one came to. */
static bool is_of_the_file(nn_status status)
{
    return status == NN_FORMAT || status == NN_IO || status == NN_NOT_FOUND || status == NN_SHAPE;
}

nn_status nn_checkpoint_resume(const char *directory, nn_checkpoint *state, nn_optimizer *optimizer,
                               bool *found)
{
    char **names;
    int64_t n;
    *found = false;
    if (!nn_file_exists(directory)) return NN_OK;
    NN_TRY(checkpoint_list(directory, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && !*found; i++) {
        char *path = nn_format("%s/%s", directory, names[i]);
        status = path ? nn_checkpoint_load(path, state, optimizer) : NN_MEMORY;
        nn_free(path);
        *found = status == NN_OK;
        if (!is_of_the_file(status)) break;
        nn_log(NN_LOG_WARN, "checkpoint passed over: %s", nn_error_message());
    }
    nn_file_list_free(names, n);
    return status;
}
