/* Names and shapes are checked in one walk over the store, values move in a second one. */
#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
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
    const nn_params *params;
    naming by;
    const nn_weights *weights;
    const nn_weight **tensor; /* by index of the parameter; NULL: takes no part */
} loader;

static nn_status not_there(const loader *l, const char *name, const nn_view *expected)
{
    const char *nearest = NULL;
    int least = 1 + (int)strlen(name) / 4;
    for (int64_t i = 0; i < l->weights->n; i++) {
        int edits = nn_edit_distance(name, l->weights->tensor[i]->name);
        if (edits < least) least = edits, nearest = l->weights->tensor[i]->name;
    }
    return nn_fail(NN_NOT_FOUND, "%s: has no tensor '%s' %s among its %lld%s%s%s", l->weights->path,
                   name, nn_weight_shape_text(expected->rank, expected->dim).s,
                   (long long)l->weights->n, nearest ? "; the nearest is '" : "",
                   nearest ? nearest : "", nearest ? "'" : "");
}

static bool same_shape(const nn_view *v, const nn_weight *t)
{
    bool same = t->rank == v->rank;
    for (int i = 0; same && i < t->rank; i++) same = t->dim[i] == v->dim[i];
    return same;
}

static nn_status check_tensor(const loader *l, const nn_param *p, const nn_weight *t)
{
    if (!same_shape(&p->view, t))
        return nn_fail(NN_SHAPE, "%s: tensor '%s' is %s, the model expects %s", l->weights->path,
                       t->name, nn_weight_shape_text(t->rank, t->dim).s,
                       nn_weight_shape_text(p->view.rank, p->view.dim).s);
    if (!nn_weight_is_float(t))
        return nn_fail(NN_UNSUPPORTED, "%s: tensor '%s' is %s, F32, F16, BF16 or F64 is expected",
                       l->weights->path, t->name, nn_st_dtype_name(t->dtype));
    return NN_OK;
}

static nn_status match(loader *l)
{
    for (int64_t i = 0; i < l->params->n; i++) {
        char *name;
        const nn_param *p = l->params->items[i];
        NN_TRY(name_in_file(&l->by, p->name, &name));
        if (!name) continue;
        l->tensor[i] = nn_weights_find(l->weights, name);
        nn_status status =
            l->tensor[i] ? check_tensor(l, p, l->tensor[i]) : not_there(l, name, &p->view);
        nn_free(name);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status move_one(const nn_weight *t, nn_params *to, nn_param *p, float *host)
{
    int64_t n = nn_view_elems(&p->view);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t part = nn_min(n - i, CHUNK);
        NN_TRY(nn_weight_convert(t, i, part, NN_ST_F32, host));
        NN_TRY(nn_params_write_part(to, p, i, part, host));
    }
    return NN_OK;
}

/* A weight on its way to where it is read. */
typedef struct fetching {
    const nn_weight *from;
    float *to;
} fetching;

/* Its type was checked when it was bound: nothing can fail. */
static void fetch_part(void *ctx, int thread, int64_t begin, int64_t end)
{
    const fetching *f = ctx;
    const int64_t n = end - begin, size = f->from->bytes / nn_weight_elements(f->from);
    const char *bytes = (const char *)f->from->data + begin * size;
    (void)thread;
    nn_map_take(bytes, n * size);
    nn_take(f->to + begin, n * (int64_t)sizeof(*f->to));
    NN_ASSERT(nn_weight_convert(f->from, begin, n, NN_ST_F32, f->to + begin) == NN_OK);
    nn_map_give_back(bytes, n * size);
}

static nn_status fetch_weight(const void *of, const nn_param *p, nn_pool *pool, float *out)
{
    fetching f = { of, out };
    nn_pool_for(pool, nn_view_elems(&p->view), CHUNK, fetch_part, &f);
    return NN_OK;
}

/* Its values where they lie in the file, if the device can read them there. */
static const float *in_place(const nn_weight *t)
{
    bool aligned = (uintptr_t)t->data % sizeof(float) == 0;
    return t->dtype == NN_ST_F32 && aligned ? t->data : NULL;
}

static nn_status bind(const loader *l, nn_params *to)
{
    for (int64_t i = 0; i < to->n; i++)
        if (l->tensor[i])
            NN_TRY(nn_params_bind(to, to->items[i], fetch_weight, l->tensor[i],
                                  in_place(l->tensor[i])));
    return NN_OK;
}

static nn_status move(const loader *l, nn_params *to)
{
    if (to->frozen) return bind(l, to);
    float *host = nn_alloc(CHUNK, sizeof(*host));
    NN_NEED(host);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < to->n && status == NN_OK; i++)
        if (l->tensor[i]) status = move_one(l->tensor[i], to, to->items[i], host);
    nn_free(host);
    return status;
}

static int by_data(const void *a, const void *b)
{
    const nn_weight *const *x = a, *const *y = b;
    const char *p = (*x)->data, *q = (*y)->data;
    return (p > q) - (p < q);
}

/* used: the tensors that parameters have taken; is sorted. What was used under another name is not
 * left over: of a tied matrix there is only one. */
static int64_t count_extra(const nn_weights *w, const nn_weight **used, int64_t n_used)
{
    enum { NAMED = 10 };
    int64_t n = 0;
    if (n_used) qsort(used, (size_t)n_used, sizeof(*used), by_data);
    for (int64_t i = 0; i < w->n; i++) {
        const nn_weight *t = w->tensor[i];
        if (n_used && bsearch(&t, used, (size_t)n_used, sizeof(*used), by_data)) continue;
        if (n++ < NAMED)
            nn_log(NN_LOG_INFO, "%s: tensor '%s' %s is not used", w->path, t->name,
                   nn_weight_shape_text(t->rank, t->dim).s);
    }
    if (n > NAMED) nn_log(NN_LOG_INFO, "%s: nor are %lld more", w->path, (long long)n - NAMED);
    return n;
}

static nn_status report_extra(const loader *l, int64_t *n_extra)
{
    const nn_weight **used = nn_alloc(l->params->n, sizeof(*used));
    NN_NEED(used);
    int64_t n = 0;
    for (int64_t i = 0; i < l->params->n; i++)
        if (l->tensor[i]) used[n++] = l->tensor[i];
    int64_t extra = count_extra(l->weights, used, n);
    if (n_extra) *n_extra = extra;
    nn_free(used);
    return NN_OK;
}

/* to: the store to fill, NULL = only check. */
static nn_status load(const nn_params *params, const nn_weights *weights, naming by,
                      int64_t *n_extra, nn_params *to)
{
    loader l = { params, by, weights, nn_alloc(params->n, sizeof(*l.tensor)) };
    NN_NEED(l.tensor);
    nn_status status = match(&l);
    if (status == NN_OK) status = report_extra(&l, n_extra);
    if (status == NN_OK && to) status = move(&l, to);
    nn_free(l.tensor);
    return status;
}

nn_status nn_params_check(const nn_params *params, const nn_weights *weights,
                          const nn_prefix *prefixes, int n_prefixes, int64_t *n_extra)
{
    return load(params, weights, (naming){ prefixes, n_prefixes }, n_extra, NULL);
}

nn_status nn_params_load_from(nn_params *params, const nn_weights *weights,
                              const nn_prefix *prefixes, int n_prefixes, int64_t *n_extra)
{
    NN_ASSERT(params->sealed && params->dtype == NN_F32);
    return load(params, weights, (naming){ prefixes, n_prefixes }, n_extra, params);
}

static void close_held(void *it)
{
    nn_weights_close(it);
    nn_free(it);
}

/* Fill the store and close the weights, or let a frozen store keep them. */
static nn_status load_opened(nn_params *params, nn_weights *weights, naming by, int64_t *n_extra)
{
    NN_ASSERT(params->sealed && params->dtype == NN_F32);
    nn_status status = load(params, weights, by, n_extra, params);
    nn_weights *kept = status == NN_OK && params->frozen ? nn_alloc(1, sizeof(*kept)) : NULL;
    if (status == NN_OK && params->frozen && !kept) status = NN_MEMORY;
    if (!kept) {
        nn_weights_close(weights);
        return status;
    }
    *kept = *weights;
    return nn_params_hold(params, kept, close_held);
}

nn_status nn_params_load(nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, int64_t *n_extra)
{
    nn_weights weights;
    NN_TRY(nn_weights_open(path, &weights));
    return load_opened(params, &weights, (naming){ prefixes, n_prefixes }, n_extra);
}

nn_status nn_params_load_network(nn_params *params, const char *path, nn_network network,
                                 const nn_prefix *prefix)
{
    nn_weights weights;
    NN_TRY(nn_weights_open_network(path, network, &weights));
    return load_opened(params, &weights, (naming){ prefix, prefix ? 1 : 0 }, NULL);
}

/* -- saving -- */

/* What a file is made of: one entry per parameter that takes part, whose data is the parameter. */
typedef struct saver {
    const nn_params *params;
    naming by;
    nn_dtype dtype;
    const nn_network_names *published; /* NULL = a store of ours */
    nn_weight *tensors;
    int64_t n;
    char **names; /* of the tensors */
    float *host;  /* a piece on its way */
} saver;

/* Bytes at .. at + n - 1 of a parameter in the dtype of the file. */
static nn_status fetch(void *ctx, const nn_weight *t, int64_t at, int64_t n, void *out)
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
    nn_weight *t = &w->tensors[w->n];
    w->names[w->n++] = name;
    *t = (nn_weight){ .name = name,
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
    w->tensors = nn_alloc(params->n + 1, sizeof(*w->tensors)); /* and a twin */
    NN_NEED(w->tensors);
    w->names = nn_alloc(params->n + 1, sizeof(*w->names));
    NN_NEED(w->names);
    w->host = nn_alloc(NN_SAFETENSORS_PIECE / 2, sizeof(*w->host));
    NN_NEED(w->host);
    for (int64_t i = 0; i < params->n; i++) {
        char *name;
        NN_TRY(name_in_file(&w->by, params->items[i]->name, &name));
        if (name) add_tensor(w, params->items[i], name);
    }
    bool twin = w->published && w->published->twin;
    const nn_param *p = twin ? nn_params_find(params, w->published->twin_of) : NULL;
    if (!p) return NN_OK;
    char *name = nn_strdup(w->published->twin);
    NN_NEED(name);
    add_tensor(w, p, name);
    return NN_OK;
}

static nn_status save(saver *w, const char *path)
{
    NN_ASSERT(w->params->dtype == NN_F32 && w->params->sealed);
    NN_ASSERT(w->dtype == NN_F32 || w->dtype == NN_F16 || w->dtype == NN_BF16);
    const nn_st_source source = { fetch, w };
    nn_status status = collect(w);
    if (status == NN_OK)
        status = nn_safetensors_write_from(path, w->tensors, w->n, NULL, 0, &source);
    for (int64_t i = 0; i < w->n; i++) nn_free(w->names[i]);
    nn_free(w->names);
    nn_free(w->host);
    nn_free(w->tensors);
    return status;
}

nn_status nn_params_save(const nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, nn_dtype dtype)
{
    saver w = { .params = params, .by = { prefixes, n_prefixes }, .dtype = dtype };
    return save(&w, path);
}

nn_status nn_params_save_network(const nn_params *params, const char *path, nn_network network,
                                 nn_dtype dtype)
{
    saver w = { .params = params, .dtype = dtype, .published = &nn_names_of[network] };
    return save(&w, path);
}
