/* From "train-{000000..000011}.tar" or a directory to the paths of tars. */
#include "data/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/alloc.h"

enum { MOST_SHARDS = 1000000 };

typedef struct paths {
    char **items;
    int64_t n, capacity;
} paths;

/* Takes over path. */
static nn_status add_path(paths *p, char *path)
{
    NN_NEED(path);
    nn_status status = p->n < MOST_SHARDS
                           ? nn_grow(&p->items, &p->capacity, p->n, sizeof(*p->items))
                           : nn_fail(NN_ARGUMENT, "more than %d shards are named", MOST_SHARDS);
    if (status != NN_OK) {
        nn_free(path);
        return status;
    }
    p->items[p->n++] = path;
    return NN_OK;
}

static nn_status list_directory(const char *directory, paths *out)
{
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(directory, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i++)
        if (nn_ends_with(names[i], ".tar"))
            status = add_path(out, nn_format("%s/%s", directory, names[i]));
    nn_file_list_free(names, n);
    if (status == NN_OK && !out->n)
        status = nn_fail(NN_NOT_FOUND, "%s: has no *.tar; name a directory of shards", directory);
    return status;
}

static nn_status expand(const char *spec, paths *out);

/* prefix + item + rest, where rest may hold more braces. */
static nn_status expand_one(const char *spec, int64_t prefix, const char *item, int64_t n,
                            const char *rest, paths *out)
{
    char *path = nn_format("%.*s%.*s%s", (int)prefix, spec, (int)n, item, rest);
    NN_NEED(path);
    nn_status status = expand(path, out);
    nn_free(path);
    return status;
}

/* "{first..last}": numbers as wide as the first. */
static nn_status expand_range(const char *spec, const char *open, const char *close, paths *out)
{
    char *end, *last_end;
    long long first = strtoll(open + 1, &end, 10);
    int width = (int)(end - open - 1);
    long long last = nn_starts_with(end, "..") ? strtoll(end + 2, &last_end, 10) : -1;
    if (last < 0 || last_end != close || first < 0 || first > last || width < 1 || width > 18 ||
        last - first >= MOST_SHARDS)
        return nn_fail(NN_ARGUMENT,
                       "'%s': '%.*s' is no range; write {000000..000011} or {a,b}, at most %d",
                       spec, (int)(close - open + 1), open, MOST_SHARDS);
    for (long long i = first; i <= last; i++) {
        char number[32];
        int n = snprintf(number, sizeof(number), "%0*lld", width, i);
        NN_TRY(expand_one(spec, open - spec, number, n, close + 1, out));
    }
    return NN_OK;
}

static nn_status expand(const char *spec, paths *out)
{
    const char *open = strchr(spec, '{');
    if (!open) return add_path(out, nn_strdup(spec));
    const char *close = strchr(open, '}');
    if (!close) return nn_fail(NN_ARGUMENT, "'%s': '{' is not closed", spec);
    if (!memchr(open, ',', (size_t)(close - open))) return expand_range(spec, open, close, out);
    for (const char *item = open + 1; item <= close;) {
        const char *end = item + strcspn(item, ",}");
        NN_TRY(expand_one(spec, open - spec, item, end - item, close + 1, out));
        item = end + 1;
    }
    return NN_OK;
}

nn_status nn_shards_expand(const char *spec, char ***items, int64_t *n)
{
    struct stat info;
    paths out = { 0 };
    bool directory = stat(spec, &info) == 0 && S_ISDIR(info.st_mode);
    nn_status status = directory              ? list_directory(spec, &out)
                       : nn_file_exists(spec) ? add_path(&out, nn_strdup(spec))
                                              : expand(spec, &out);
    if (status != NN_OK) {
        nn_file_list_free(out.items, out.n);
        return status;
    }
    *items = out.items;
    *n = out.n;
    return NN_OK;
}
