/* One lookup over the parts of a model. */
#include "data/weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/str.h"

enum { MOST_PARTS = 10000, MOST_INDEX_BYTES = 64 << 20 };

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const nn_weight *const *)a)->name, (*(const nn_weight *const *)b)->name);
}

static nn_status open_file(const char *path, nn_weights *w)
{
    NN_NEED(w->file = nn_alloc(1, sizeof(*w->file)));
    NN_TRY(nn_weight_file_open(path, &w->file[0]));
    w->n_files = 1;
    NN_NEED(w->tensor = nn_alloc(w->file->n, sizeof(*w->tensor)));
    for (; w->n < w->file->n; w->n++) w->tensor[w->n] = &w->file->tensor[w->n];
    return NN_OK;
}

/* A part is a plain file name: no way out of the directory of the index. */
static bool is_part_name(const char *name)
{
    return !strchr(name, '/') && !strchr(name, '\\') &&
           (nn_ends_with(name, ".safetensors") || nn_ends_with(name, ".bin"));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of the map, sorted; names[size of the map]. */
static nn_status part_names(const nn_json *map, const char **names, int64_t *n)
{
    int64_t all = 0;
    json_t *object = map->node;
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const char *name = json_string_value(json_object_iter_value(it));
        if (!name || !is_part_name(name))
            return nn_fail(NN_FORMAT,
                           "%s: tensor '%.200s' lies in '%.200s'; the name of a .safetensors or "
                           ".bin file beside the index was expected",
                           map->file, json_object_iter_key(it), name ? name : "no file");
        names[all++] = name;
    }
    qsort(names, (size_t)all, sizeof(*names), by_text);
    *n = 0;
    for (int64_t i = 0; i < all; i++)
        if (*n == 0 || strcmp(names[*n - 1], names[i]) != 0) names[(*n)++] = names[i];
    if (*n > MOST_PARTS)
        return nn_fail(NN_FORMAT, "%s: has %lld parts, at most %d are read", map->file,
                       (long long)*n, MOST_PARTS);
    return NN_OK;
}

static nn_status open_parts(const char *index, const char *const *names, int64_t n, nn_weights *w)
{
    const char *slash = strrchr(index, '/');
    int directory = slash ? (int)(slash - index) + 1 : 0;
    NN_NEED(w->file = nn_alloc(n, sizeof(*w->file)));
    for (; w->n_files < n; w->n_files++) {
        char *path = nn_format("%.*s%s", directory, index, names[w->n_files]);
        NN_NEED(path);
        nn_status status = nn_weight_file_open(path, &w->file[w->n_files]);
        nn_free(path);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status open_mapped(const char *path, const nn_json *map, const char **names,
                             nn_weights *w)
{
    int64_t n = 0;
    json_t *object = map->node;
    NN_TRY(part_names(map, names, &n));
    NN_TRY(open_parts(path, names, n, w));
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const char *file = json_string_value(json_object_iter_value(it));
        const char **place = bsearch(&file, names, (size_t)n, sizeof(*names), by_text);
        NN_ASSERT(place);
        const nn_weight *t = nn_weight_file_find(&w->file[place - names], json_object_iter_key(it));
        if (!t)
            return nn_fail(NN_FORMAT, "%s: tensor '%.200s' is not in '%s', where the index puts it",
                           path, json_object_iter_key(it), file);
        w->tensor[w->n++] = t;
    }
    if (w->n) qsort(w->tensor, (size_t)w->n, sizeof(*w->tensor), by_name);
    return NN_OK;
}

static nn_status open_index(const char *path, nn_weights *w)
{
    nn_json json, map;
    NN_TRY(nn_json_open(path, MOST_INDEX_BYTES, &json));
    const char **names = NULL;
    nn_status status = nn_json_need(&json, "weight_map");
    if (status == NN_OK) status = nn_json_child(&json, "weight_map", &map);
    if (status == NN_OK) {
        int64_t n = (int64_t)json_object_size(map.node);
        names = nn_alloc(n, sizeof(*names));
        w->tensor = nn_alloc(n, sizeof(*w->tensor));
        status = names && w->tensor ? open_mapped(path, &map, names, w) : NN_MEMORY;
    }
    nn_free(names);
    nn_json_close(&json);
    return status;
}

static nn_status open_if_there(const char *path, const char *name, const char *suffix,
                               nn_weights *w, bool *found)
{
    char *file = nn_format("%s/%s%s", path, name, suffix);
    NN_NEED(file);
    nn_status status = NN_OK;
    *found = nn_file_exists(file);
    if (*found) status = nn_ends_with(file, ".json") ? open_index(file, w) : open_file(file, w);
    nn_free(file);
    return status;
}

static nn_status open_directory(const char *path, nn_weights *w)
{
    static const char *const names[] = { "diffusion_pytorch_model", "model", "pytorch_model" };
    static const char *const suffixes[] = {
        ".safetensors",
        ".fp16.safetensors",
        ".safetensors.index.json",
        ".safetensors.index.fp16.json",
        ".bin",
        ".fp16.bin",
        ".bin.index.json",
    };
    bool found = false;
    for (int s = 0; s < NN_COUNT(suffixes); s++)
        for (int i = 0; i < NN_COUNT(names); i++) {
            NN_TRY(open_if_there(path, names[i], suffixes[s], w, &found));
            if (found) return NN_OK;
        }
    return nn_fail(NN_NOT_FOUND,
                   "%s: no %s.safetensors, %s.safetensors, %s.bin, fp16 variant or index in this "
                   "directory",
                   path, names[0], names[1], names[2]);
}

nn_status nn_weights_open(const char *path, nn_weights *w)
{
    struct stat info;
    *w = (nn_weights){ 0 };
    bool directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    nn_status status = (w->path = nn_strdup(path)) == NULL ? NN_MEMORY
                       : directory                         ? open_directory(path, w)
                       : nn_ends_with(path, ".json")       ? open_index(path, w)
                                                           : open_file(path, w);
    if (status != NN_OK) nn_weights_close(w);
    return status;
}

void nn_weights_close(nn_weights *w)
{
    for (int64_t i = 0; i < w->n_files; i++) nn_weight_file_close(&w->file[i]);
    nn_free(w->file);
    nn_free(w->tensor);
    nn_free(w->path);
    nn_arena_free(&w->arena);
    *w = (nn_weights){ 0 };
}
