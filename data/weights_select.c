/* One network of a file, under our names; and back to another layout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/weights.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"

enum { MOST_BLOCKS = 16, MOST_LAYERS = 16, MOST_NAMED = 10 };

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const nn_weight *const *)a)->name, (*(const nn_weight *const *)b)->name);
}

const nn_weight *nn_weights_find(const nn_weights *w, const char *name)
{
    nn_weight wanted = { .name = name };
    const nn_weight *key = &wanted;
    if (!w->n) return NULL;
    const nn_weight **found = bsearch(&key, w->tensor, (size_t)w->n, sizeof(*w->tensor), by_name);
    return found ? *found : NULL;
}

const nn_layout *nn_weights_layout(const nn_weights *w, nn_network network)
{
    for (int i = 0; i < nn_layout_count; i++) {
        char name[128];
        const nn_layout *l = &nn_layouts[i];
        snprintf(name, sizeof(name), "%s%s", l->prefix, l->sign);
        if (l->network == network && nn_weights_find(w, name)) return l;
    }
    return NULL;
}

bool nn_weights_belongs(const nn_weights *w, const nn_weight *t)
{
    for (int i = 0; i < NN_NETWORK_COUNT; i++) {
        const nn_layout *l = nn_weights_layout(w, (nn_network)i);
        if (l && nn_starts_with(t->name, l->prefix)) return true;
    }
    return false;
}

static nn_status no_network(const nn_weights *w, nn_network network)
{
    nn_text there = { 0 };
    nn_status status = nn_text_add(&there, "%s", "");
    for (int i = 0; i < NN_NETWORK_COUNT && status == NN_OK; i++)
        if (nn_weights_layout(w, (nn_network)i))
            status = nn_text_add(&there, "%s%s", there.length ? ", " : "",
                                 nn_network_name((nn_network)i));
    if (status == NN_OK)
        status = nn_fail(NN_NOT_FOUND, "%s: holds no %s, but %lld tensors of %s", w->path,
                         nn_network_name(network), (long long)w->n,
                         there.length ? there.text : "no network that is known");
    nn_text_free(&there);
    return status;
}

/* -- the size, told by which tensors are there -- */

/* How many tensors of a series there are from number 0 on; bit k of *which: whether the k-th is
 * there, also behind a gap. */
static nn_status count(const nn_weights *w, const nn_layout *l, const nn_net_size *size,
                       const char *series, int most, int *n, unsigned *which)
{
    nn_text theirs = { 0 };
    nn_status status = NN_OK;
    *n = 0;
    *which = 0;
    for (int k = 0; k < most && series && status == NN_OK; k++) {
        char ours[128];
        int rank;
        bool found;
        const char *number = strstr(series, "%d");
        snprintf(ours, sizeof(ours), "%.*s%d%s", (int)(number - series), series, k, number + 2);
        nn_text_clear(&theirs);
        status = nn_layout_theirs(l, size, ours, &theirs, &rank, &found);
        if (status != NN_OK || !found || !nn_weights_find(w, theirs.text)) continue;
        *which |= 1u << k;
        *n += *n == k;
    }
    nn_text_free(&theirs);
    return status;
}

static nn_status measure(const nn_weights *w, const nn_layout *l, nn_net_size *size)
{
    const nn_network_names *names = &nn_names_of[l->network];
    unsigned which;
    int n;
    *size = (nn_net_size){ 0 };
    NN_TRY(count(w, l, size, names->layer, MOST_LAYERS, &size->layers, &which));
    NN_TRY(count(w, l, size, names->step, MOST_BLOCKS, &n, &which));
    size->blocks = n + 1;
    return count(w, l, size, names->attention, size->blocks, &n, &size->attends);
}

/* -- their tensors as ours -- */

static bool is_idle(const nn_network_names *names, const char *ours)
{
    for (int i = 0; i < NN_COUNT(names->idle) && names->idle[i]; i++)
        if (nn_ends_with(ours, names->idle[i])) return true;
    return false;
}

static void set_rank(nn_weight *t, int rank)
{
    while (t->rank < rank && t->rank < NN_WEIGHT_RANK) t->dim[t->rank++] = 1;
    while (t->rank > rank && t->dim[t->rank - 1] == 1) t->rank--;
}

static void set_our_rank(const nn_network_names *names, nn_weight *t)
{
    for (int i = 0; i < NN_COUNT(names->rank) && names->rank[i].end; i++)
        if (nn_ends_with(t->name, names->rank[i].end)) set_rank(t, names->rank[i].rank);
}

/* The moving average of one of LDM's tensors: "model." becomes "model_ema.", other dots go. */
static nn_status find_average(const nn_weights *w, const nn_weight **t)
{
    nn_text name = { 0 };
    nn_status status = nn_text_add(&name, "model_ema.");
    if (!nn_starts_with((*t)->name, "model.")) return NN_OK;
    for (const char *c = (*t)->name + 6; *c && status == NN_OK; c++)
        if (*c != '.') status = nn_text_add_bytes(&name, c, 1);
    const nn_weight *average = status == NN_OK ? nn_weights_find(w, name.text) : NULL;
    if (status == NN_OK && !average)
        status = nn_fail(NN_NOT_FOUND, "%s: has no moving average '%s'", w->path, name.text);
    *t = average;
    nn_text_free(&name);
    return status;
}

/* What is under way: the tensors of the network so far. */
typedef struct selection {
    nn_weights *w;
    const nn_layout *layout;
    nn_net_size size;
    bool averaged;
    const nn_weight **tensor;
    const nn_weight *twin; /* what other programs compute with, if it is there */
    int64_t n, n_left;
    nn_text name;
} selection;

static nn_status add(selection *s, const nn_weight *from, const char *name)
{
    nn_weight *t = nn_arena_alloc(&s->w->arena, 1, sizeof(*t));
    NN_NEED(t);
    *t = *from;
    NN_NEED(t->name = nn_arena_strdup(&s->w->arena, name));
    set_our_rank(&nn_names_of[s->layout->network], t);
    s->tensor[s->n++] = t;
    return NN_OK;
}

static nn_status take(selection *s, const nn_weight *t)
{
    bool found;
    if (!nn_starts_with(t->name, s->layout->prefix)) return NN_OK;
    nn_text_clear(&s->name);
    NN_TRY(nn_layout_ours(s->layout, &s->size, t->name, &s->name, &found));
    if (!found) {
        if (s->n_left++ < MOST_NAMED)
            nn_log(NN_LOG_INFO, "%s: tensor '%s' is not known", s->w->path, t->name);
        return NN_OK;
    }
    const nn_network_names *names = &nn_names_of[s->layout->network];
    if (is_idle(names, s->name.text)) return NN_OK;
    if (names->twin && strcmp(s->name.text, names->twin) == 0) {
        s->twin = t;
        return NN_OK;
    }
    if (s->averaged) NN_TRY(find_average(s->w, &t));
    return add(s, t, s->name.text);
}

static nn_status take_tied(selection *s)
{
    const nn_network_names *names = &nn_names_of[s->layout->network];
    const nn_weight *source = NULL;
    for (int64_t i = 0; i < s->n && names->tied; i++) {
        if (strcmp(s->tensor[i]->name, names->tied) == 0) return NN_OK;
        if (strcmp(s->tensor[i]->name, names->same_as) == 0) source = s->tensor[i];
    }
    return source ? add(s, source, names->tied) : NN_OK;
}

/* The two are the same in most files; transformers 5 trains the twin alone where it does not tie.
 */
static nn_status take_twin(selection *s)
{
    const char *name = nn_names_of[s->layout->network].twin_of;
    int64_t at = 0;
    if (!s->twin) return NN_OK;
    while (at < s->n && strcmp(s->tensor[at]->name, name) != 0) at++;
    NN_TRY(add(s, s->twin, name));
    if (at < s->n - 1) s->tensor[at] = s->tensor[--s->n];
    return NN_OK;
}

static nn_status take_all(selection *s)
{
    NN_TRY(measure(s->w, s->layout, &s->size));
    for (int64_t i = 0; i < s->w->n; i++) NN_TRY(take(s, s->w->tensor[i]));
    NN_TRY(take_tied(s));
    NN_TRY(take_twin(s));
    if (s->n_left > MOST_NAMED)
        nn_log(NN_LOG_INFO, "%s: nor are %lld more", s->w->path, (long long)s->n_left - MOST_NAMED);
    if (s->n) qsort(s->tensor, (size_t)s->n, sizeof(*s->tensor), by_name);
    for (int64_t i = 1; i < s->n; i++)
        if (by_name(&s->tensor[i - 1], &s->tensor[i]) == 0)
            return nn_fail(NN_FORMAT, "%s: '%s' is there under two names", s->w->path,
                           s->tensor[i]->name);
    return NN_OK;
}

nn_status nn_weights_select(nn_weights *w, nn_network network, bool averaged)
{
    selection s = { .w = w, .layout = nn_weights_layout(w, network), .averaged = averaged };
    if (!s.layout) return no_network(w, network);
    s.tensor = nn_alloc(w->n + 1, sizeof(*s.tensor)); /* and the tied one */
    NN_NEED(s.tensor);
    nn_status status = take_all(&s);
    nn_text_free(&s.name);
    if (status != NN_OK) {
        nn_free(s.tensor);
        return status;
    }
    nn_free(w->tensor);
    w->tensor = s.tensor;
    w->n = s.n;
    w->n_left = s.n_left;
    w->layout = s.layout;
    return NN_OK;
}

nn_status nn_weights_open_network(const char *path, nn_network network, nn_weights *w)
{
    NN_TRY(nn_weights_open(path, w));
    nn_status status = nn_weights_select(w, network, false);
    if (status != NN_OK) nn_weights_close(w);
    return status;
}

/* -- ours as theirs -- */

static nn_status export_one(const nn_weight *t, const nn_layout *to, const nn_net_size *size,
                            nn_text *name, nn_arena *arena, nn_weight *out)
{
    int rank;
    bool found;
    nn_text_clear(name);
    NN_TRY(nn_layout_theirs(to, size, t->name, name, &rank, &found));
    if (!found)
        return nn_fail(NN_UNSUPPORTED, "the layout %s has no name for the tensor '%s'", to->name,
                       t->name);
    *out = *t;
    NN_NEED(out->name = nn_arena_strdup(arena, name->text));
    if (rank) set_rank(out, rank);
    return NN_OK;
}

nn_status nn_weights_export(const nn_weights *w, const char *const *names, int64_t n,
                            const nn_layout *to, nn_arena *arena, nn_weight *out)
{
    const nn_layout ours = { .name = "ours", .network = to->network, .prefix = "" };
    nn_net_size size;
    nn_text name = { 0 };
    nn_status status = measure(w, &ours, &size);
    for (int64_t i = 0; i < n && status == NN_OK; i++) {
        const nn_weight *t = nn_weights_find(w, names[i]);
        status = t ? export_one(t, to, &size, &name, arena, &out[i])
                   : nn_fail(NN_NOT_FOUND, "%s: has no tensor '%s'", w->path, names[i]);
    }
    nn_text_free(&name);
    return status;
}
