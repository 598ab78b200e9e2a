/* Names and shapes are checked in one walk over the store, values move in a second one. */
#include "engine/weights.h"

#include <stdio.h>
#include <string.h>

#include "data/weights.h"
#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "engine/base/log.h"
#include "engine/base/str.h"

enum { CHUNK = 1 << 18 }; /* elements on their way at a time */

/* Which parameters take part, and under which names. */
typedef struct naming {
    const nn_prefix *prefixes;
    int n_prefixes;
} naming;

/* *name: what a parameter is called in the file, NULL if it takes no part. Owner: nn_free. */
static nn_status name_in_file(const naming *by, const char *ours, char **name)
{
    *name = NULL;
    for (int i = 0; i < by->n_prefixes; i++) {
        const nn_prefix *p = &by->prefixes[i];
        if (!nn_starts_with(ours, p->ours)) continue;
        *name = nn_format("%s%s", p->theirs, ours + strlen(p->ours));
        NN_NEED(*name);
        return NN_OK;
    }
    if (by->n_prefixes) return NN_OK;
    *name = nn_strdup(ours);
    NN_NEED(*name);
    return NN_OK;
}

typedef struct loader {
    nn_params *params;
    const char *path;
    naming by;
    nn_weights file;
    const nn_safetensor **tensor; /* by index of the parameter; NULL: takes no part */
} loader;

static nn_status not_there(const loader *l, const char *name)
{
    const char *nearest = NULL;
    int least = 1 + (int)strlen(name) / 4;
    for (int64_t i = 0; i < l->file.n; i++) {
        int edits = nn_edit_distance(name, l->file.tensor[i]->name);
        if (edits < least) least = edits, nearest = l->file.tensor[i]->name;
    }
    return nn_fail(NN_NOT_FOUND, "%s: has no tensor '%s' among its %lld%s%s%s", l->path, name,
                   (long long)l->file.n, nearest ? "; the nearest is '" : "",
                   nearest ? nearest : "", nearest ? "'" : "");
}

static bool is_float(const nn_safetensor *t)
{
    return t->dtype == NN_ST_F32 || t->dtype == NN_ST_F16 || t->dtype == NN_ST_BF16 ||
           t->dtype == NN_ST_F64;
}

static nn_status check_tensor(const loader *l, const nn_param *p, const nn_safetensor *t)
{
    bool same = t->rank == p->view.rank;
    for (int i = 0; same && i < t->rank; i++) same = t->dim[i] == p->view.dim[i];
    if (!same) {
        char shape[NN_SAFETENSORS_RANK * 21 + 1] = "";
        for (int i = 0, at = 0; i < t->rank; i++)
            at += snprintf(shape + at, sizeof(shape) - (size_t)at, "%s%lld", i ? "," : "",
                           (long long)t->dim[i]);
        return nn_fail(NN_SHAPE, "%s: tensor '%s' is [%s], the model expects %s", l->path, t->name,
                       shape, nn_view_text(&p->view).s);
    }
    if (!is_float(t))
        return nn_fail(NN_UNSUPPORTED, "%s: tensor '%s' is %s, F32, F16, BF16 or F64 is expected",
                       l->path, t->name, nn_st_dtype_name(t->dtype));
    return NN_OK;
}

static nn_status match(loader *l)
{
    for (int64_t i = 0; i < l->params->n; i++) {
        char *name;
        NN_TRY(name_in_file(&l->by, l->params->items[i]->name, &name));
        if (!name) continue;
        l->tensor[i] = nn_weights_find(&l->file, name);
        nn_status status =
            l->tensor[i] ? check_tensor(l, l->params->items[i], l->tensor[i]) : not_there(l, name);
        nn_free(name);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status move_one(loader *l, nn_param *p, const nn_safetensor *t, float *host)
{
    int64_t n = nn_view_elems(&p->view);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t part = nn_min(n - i, CHUNK);
        NN_TRY(nn_safetensor_part_to_f32(t, i, part, host));
        NN_TRY(nn_params_write_part(l->params, p, i, part, host));
    }
    return NN_OK;
}

static nn_status move(loader *l)
{
    float *host = nn_alloc(CHUNK, sizeof(*host));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < l->params->n && status == NN_OK; i++)
        if (l->tensor[i]) status = move_one(l, l->params->items[i], l->tensor[i], host);
    nn_free(host);
    return status;
}

static bool is_used(const loader *l, const nn_safetensor *t)
{
    for (int64_t i = 0; i < l->params->n; i++)
        if (l->tensor[i] == t) return true;
    return false;
}

static int64_t count_extra(const loader *l)
{
    enum { NAMED = 5 };
    int64_t n = 0;
    for (int64_t i = 0; i < l->file.n; i++)
        if (!is_used(l, l->file.tensor[i]) && n++ < NAMED)
            nn_log(NN_LOG_DEBUG, "%s: tensor '%s' is not used", l->path, l->file.tensor[i]->name);
    return n;
}

static nn_status load(loader *l, int64_t *n_extra)
{
    l->tensor = nn_alloc(l->params->n, sizeof(*l->tensor));
    NN_NEED(l->tensor);
    NN_TRY(match(l));
    int64_t extra = count_extra(l);
    if (n_extra) *n_extra = extra;
    return move(l);
}

nn_status nn_params_load(nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, int64_t *n_extra)
{
    loader l = { params, path, { prefixes, n_prefixes }, { 0 }, NULL };
    NN_ASSERT(params->sealed && params->dtype == NN_F32);
    NN_TRY(nn_weights_open(path, &l.file));
    nn_status status = load(&l, n_extra);
    nn_free(l.tensor);
    nn_weights_close(&l.file);
    return status;
}

/* -- saving -- */

/* What a file is made of: one entry per parameter that takes part, whose data is the parameter. */
typedef struct saver {
    const nn_params *params;
    naming by;
    nn_dtype dtype;
    nn_safetensor *tensors;
    int64_t n;
    char **names; /* of the tensors */
    float *host;  /* a piece on its way */
} saver;

/* Bytes at .. at + n - 1 of a parameter in the dtype of the file. */
static nn_status fetch(void *ctx, const nn_safetensor *t, int64_t at, int64_t n, void *out)
{
    saver *w = ctx;
    const nn_param *p = t->data;
    int64_t size = nn_dtype_bytes(w->dtype);
    uint16_t *half = out;
    if (w->dtype == NN_F32) return nn_params_read_part(w->params, p, at / size, n / size, out);
    NN_TRY(nn_params_read_part(w->params, p, at / size, n / size, w->host));
    for (int64_t i = 0; i < n / size; i++)
        half[i] = w->dtype == NN_F16 ? nn_f32_to_f16(w->host[i]) : nn_f32_to_bf16(w->host[i]);
    return NN_OK;
}

static void add_tensor(saver *w, const nn_param *p, char *name)
{
    nn_safetensor *t = &w->tensors[w->n];
    w->names[w->n++] = name;
    *t = (nn_safetensor){ .name = name,
                          .dtype = w->dtype == NN_F32   ? NN_ST_F32
                                   : w->dtype == NN_F16 ? NN_ST_F16
                                                        : NN_ST_BF16,
                          .rank = p->view.rank,
                          .data = p,
                          .bytes = nn_view_elems(&p->view) * nn_dtype_bytes(w->dtype) };
    memcpy(t->dim, p->view.dim, sizeof(p->view.dim));
}

static nn_status collect(saver *w)
{
    const nn_params *params = w->params;
    w->tensors = nn_alloc(params->n, sizeof(*w->tensors));
    NN_NEED(w->tensors);
    w->names = nn_alloc(params->n, sizeof(*w->names));
    NN_NEED(w->names);
    w->host = nn_alloc(NN_SAFETENSORS_PIECE / 2, sizeof(*w->host));
    NN_NEED(w->host);
    for (int64_t i = 0; i < params->n; i++) {
        char *name;
        NN_TRY(name_in_file(&w->by, params->items[i]->name, &name));
        if (name) add_tensor(w, params->items[i], name);
    }
    return NN_OK;
}

nn_status nn_params_save(const nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, nn_dtype dtype)
{
    saver w = { .params = params, .by = { prefixes, n_prefixes }, .dtype = dtype };
    NN_ASSERT(params->dtype == NN_F32 && params->sealed);
    NN_ASSERT(dtype == NN_F32 || dtype == NN_F16 || dtype == NN_BF16);
    const nn_st_source source = { fetch, &w };
    nn_status status = collect(&w);
    if (status == NN_OK) status = nn_safetensors_write_from(path, w.tensors, w.n, NULL, 0, &source);
    for (int64_t i = 0; i < w.n; i++) nn_free(w.names[i]);
    nn_free(w.names);
    nn_free(w.host);
    nn_free(w.tensors);
    return status;
}
