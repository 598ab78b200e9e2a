/* Reading: lengths first, then a count of the header's structure, then JSON, then each tensor, then
 * the layout of all of them. */
#include "data/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/str.h"

/* Refuse headers whose JSON would need far more memory than their tensors can justify: each tensor
 * has at most 8 dimensions, 2 offsets and 3 keys, so commas and brackets are bounded. */
static nn_status check_structure(const char *path, const char *header, int64_t n)
{
    const int64_t most = (int64_t)NN_WEIGHT_FILE_MOST * 20;
    int64_t marks = 0;
    bool quoted = false;
    for (int64_t i = 0; i < n; i++) {
        char c = header[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted)
            marks += c == ',' || c == '[' || c == '{';
    }
    if (marks <= most) return NN_OK;
    return nn_fail(NN_FORMAT, "%s: the header has %lld commas and brackets, %d tensors need fewer",
                   path, (long long)marks, NN_WEIGHT_FILE_MOST);
}

/* Rules 1 and the textual part of 2: lengths, first byte, UTF-8. */
static nn_status check_header(const char *path, const nn_map *map, int64_t *header_bytes)
{
    uint64_t n = 0;
    if (map->size < 8)
        return nn_fail(NN_FORMAT, "%s: has %lld bytes, a safetensors file has at least 8", path,
                       (long long)map->size);
    for (int i = 7; i >= 0; i--) n = n << 8 | map->data[i];
    if (n > NN_SAFETENSORS_HEADER_BYTES)
        return nn_fail(NN_FORMAT,
                       "%s: the header is said to have %llu bytes, at most %d are allowed; is this "
                       "a safetensors file?",
                       path, (unsigned long long)n, NN_SAFETENSORS_HEADER_BYTES);
    if ((int64_t)n > map->size - 8)
        return nn_fail(NN_FORMAT,
                       "%s: the header is said to have %llu bytes, but only %lld follow; the file "
                       "is cut off",
                       path, (unsigned long long)n, (long long)map->size - 8);
    const char *header = (const char *)map->data + 8;
    if (n == 0 || header[0] != '{')
        return nn_fail(NN_FORMAT, "%s: the header does not begin with '{'", path);
    if (!nn_utf8_valid(header, (int64_t)n))
        return nn_fail(NN_FORMAT, "%s: the header is not valid UTF-8", path);
    *header_bytes = (int64_t)n;
    return check_structure(path, header, (int64_t)n);
}

static nn_status read_dtype(const char *path, const json_t *entry, nn_weight *t)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name) return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has no dtype", path, t->name);
    for (int i = 0; i < NN_ST_COUNT; i++) {
        if (strcmp(nn_st_dtype_name((nn_st_dtype)i), name) != 0) continue;
        t->dtype = (nn_st_dtype)i;
        return NN_OK;
    }
    return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has the unknown dtype '%.40s'", path, t->name,
                   name);
}

/* The shape, and t->bytes as it demands. */
static nn_status read_shape(const char *path, const json_t *entry, nn_weight *t)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has no shape", path, t->name);
    if (json_array_size(shape) > NN_WEIGHT_RANK)
        return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has %zu dimensions, at most %d are read",
                       path, t->name, json_array_size(shape), NN_WEIGHT_RANK);
    t->rank = (int)json_array_size(shape);
    int64_t bits = nn_st_dtype_bits(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        t->dim[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || t->dim[i] < 0)
            return nn_fail(NN_FORMAT,
                           "%s: dimension %d of tensor '%.200s' is no integer of 0 or more", path,
                           i, t->name);
        if (__builtin_mul_overflow(bits, t->dim[i], &bits))
            return nn_fail(NN_FORMAT, "%s: the size of tensor '%.200s' overflows", path, t->name);
    }
    if (bits % 8)
        return nn_fail(NN_FORMAT, "%s: tensor '%.200s' (%s) does not end on a whole byte", path,
                       t->name, nn_st_dtype_name(t->dtype));
    t->bytes = bits / 8;
    return NN_OK;
}

static nn_status read_offsets(const char *path, const json_t *entry, int64_t header_bytes,
                              const nn_map *map, nn_weight *t)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has no data_offsets [begin, end]", path,
                       t->name);
    int64_t from = json_integer_value(begin), to = json_integer_value(end);
    int64_t most = map->size - 8 - header_bytes;
    if (from < 0 || to < from || to > most)
        return nn_fail(NN_FORMAT,
                       "%s: tensor '%.200s' lies at %lld to %lld, outside the %lld bytes of data",
                       path, t->name, (long long)from, (long long)to, (long long)most);
    if (to - from != t->bytes)
        return nn_fail(NN_FORMAT, "%s: tensor '%.200s' has %lld bytes, its shape needs %lld", path,
                       t->name, (long long)(to - from), (long long)t->bytes);
    t->data = map->data + 8 + header_bytes + from;
    return NN_OK;
}

static nn_status read_metadata(const char *path, json_t *object, nn_weight_file *file)
{
    if (!json_is_object(object)) return nn_fail(NN_FORMAT, "%s: __metadata__ is no object", path);
    file->metadata =
        nn_arena_alloc(&file->arena, (int64_t)json_object_size(object), sizeof(nn_st_pair));
    NN_NEED(file->metadata);
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const char *value = json_string_value(json_object_iter_value(it));
        nn_st_pair *pair = &file->metadata[file->n_metadata];
        if (!value)
            return nn_fail(NN_FORMAT, "%s: __metadata__ '%.200s' is no string", path,
                           json_object_iter_key(it));
        NN_NEED(pair->key = nn_arena_strdup(&file->arena, json_object_iter_key(it)));
        NN_NEED(pair->value = nn_arena_strdup(&file->arena, value));
        file->n_metadata++;
    }
    return NN_OK;
}

static int by_place(const void *a, const void *b)
{
    const nn_weight *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nn_weight *)a)->name, ((const nn_weight *)b)->name);
}

/* Rules 3 and 5: the tensors fill the data, each beginning where the last one ended. */
static nn_status check_layout(const char *path, int64_t header_bytes, nn_weight_file *file)
{
    const unsigned char *data = file->map.data + 8 + header_bytes, *next = data;
    const unsigned char *end = file->map.data + file->map.size;
    if (file->n) qsort(file->tensor, (size_t)file->n, sizeof(*file->tensor), by_place);
    for (int64_t i = 0; i < file->n; i++) {
        const nn_weight *t = &file->tensor[i];
        const unsigned char *begin = t->data;
        if (begin != next)
            return nn_fail(NN_FORMAT, "%s: tensor '%.200s' begins at %lld, %s %lld", path, t->name,
                           (long long)(begin - data),
                           begin > next ? "after a hole from" : "inside the one that ends at",
                           (long long)(next - data));
        next = begin + t->bytes;
    }
    if (next != end)
        return nn_fail(NN_FORMAT, "%s: %lld bytes follow the last tensor", path,
                       (long long)(end - next));
    if (file->n) qsort(file->tensor, (size_t)file->n, sizeof(*file->tensor), by_name);
    return NN_OK;
}

static nn_status read_tensor(const char *path, const char *name, const json_t *entry,
                             int64_t header_bytes, nn_weight_file *file)
{
    nn_weight *t = &file->tensor[file->n++];
    NN_NEED(t->name = nn_arena_strdup(&file->arena, name));
    NN_TRY(read_dtype(path, entry, t));
    NN_TRY(read_shape(path, entry, t));
    return read_offsets(path, entry, header_bytes, &file->map, t);
}

static nn_status read_entries(const char *path, json_t *root, int64_t header_bytes,
                              nn_weight_file *file)
{
    if (json_object_size(root) > NN_WEIGHT_FILE_MOST)
        return nn_fail(NN_FORMAT, "%s: has %zu tensors, at most %d are read", path,
                       json_object_size(root), NN_WEIGHT_FILE_MOST);
    file->tensor =
        nn_arena_alloc(&file->arena, (int64_t)json_object_size(root), sizeof(*file->tensor));
    NN_NEED(file->tensor);
    for (void *it = json_object_iter(root); it; it = json_object_iter_next(root, it)) {
        json_t *entry = json_object_iter_value(it);
        if (strcmp(json_object_iter_key(it), "__metadata__") == 0) {
            NN_TRY(read_metadata(path, entry, file));
            continue;
        }
        NN_TRY(read_tensor(path, json_object_iter_key(it), entry, header_bytes, file));
    }
    return check_layout(path, header_bytes, file);
}

static nn_status read_file(const char *path, nn_weight_file *file)
{
    int64_t header_bytes = 0;
    json_error_t error;
    NN_TRY(check_header(path, &file->map, &header_bytes));
    json_t *root = json_loadb((const char *)file->map.data + 8, (size_t)header_bytes,
                              JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return nn_fail(NN_FORMAT, "%s: the header is no valid JSON: byte %d: %s", path,
                       error.position, error.text);
    nn_status status = read_entries(path, root, header_bytes, file);
    json_decref(root);
    return status;
}

static bool recognises(const nn_map *map)
{
    return map->size > 8 && map->data[8] == '{';
}

const nn_weight_format nn_safetensors = { "safetensors", recognises, read_file };

nn_status nn_safetensors_open(const char *path, nn_weight_file *file)
{
    return nn_weight_file_open_as(path, &nn_safetensors, file);
}
