/* From the pickle's description of tensors to the stretches of the file that hold them. */
#include "data/torch_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "data/pickle.h"
#include "data/zip.h"
#include "engine/base/alloc.h"
#include "engine/base/str.h"

enum { MOST_NAME = 1024, MOST_METADATA = 64, MOST_TEXT = 256 };

typedef struct reader {
    const char *path;
    nn_weight_file *file;
    nn_zip zip;
    const char *root; /* "archive/" */
    int64_t copied;   /* bytes of tensors put in order so far */
} reader;

static const struct {
    const char *name;
    nn_st_dtype dtype;
} storages[] = {
    { "torch FloatStorage", NN_ST_F32 },     { "torch HalfStorage", NN_ST_F16 },
    { "torch BFloat16Storage", NN_ST_BF16 }, { "torch DoubleStorage", NN_ST_F64 },
    { "torch LongStorage", NN_ST_I64 },      { "torch IntStorage", NN_ST_I32 },
    { "torch ShortStorage", NN_ST_I16 },     { "torch CharStorage", NN_ST_I8 },
    { "torch ByteStorage", NN_ST_U8 },       { "torch BoolStorage", NN_ST_BOOL },
};

/* -- one tensor -- */

static const nn_pickle *argument(const nn_pickle *call, int64_t i)
{
    return i < call->call.arguments->n ? call->call.arguments->values[i] : NULL;
}

static bool is_tensor(const nn_pickle *value)
{
    return nn_pickle_calls(value, "torch._utils _rebuild_tensor_v2") ||
           nn_pickle_calls(value, "torch._utils _rebuild_parameter");
}

/* The numbers that a tensor's storage holds. */
typedef struct storage {
    nn_st_dtype dtype;
    const unsigned char *data;
    int64_t numel;
} storage;

static nn_status read_class(const reader *r, const char *name, const nn_pickle *class, storage *s)
{
    for (int i = 0; class->kind == NN_PICKLE_GLOBAL && i < NN_COUNT(storages); i++) {
        if (strcmp(class->text, storages[i].name) != 0) continue;
        s->dtype = storages[i].dtype;
        return NN_OK;
    }
    return nn_fail(NN_UNSUPPORTED, "%s: tensor '%s' has a storage of class '%.80s'", r->path, name,
                   class->kind == NN_PICKLE_GLOBAL ? class->text : nn_pickle_kind_name(class));
}

/* id: ("storage", class, "key", "place", numel) */
static nn_status read_storage(const reader *r, const char *name, const nn_pickle *id, storage *s)
{
    bool fits =
        id && id->kind == NN_PICKLE_PERSISTENT && id->id->kind == NN_PICKLE_TUPLE && id->id->n == 5;
    const nn_pickle *const *v = fits ? id->id->values : NULL;
    if (!fits || !nn_pickle_is_text(v[0], "storage") || v[2]->kind != NN_PICKLE_TEXT ||
        v[2]->n > MOST_TEXT || v[4]->kind != NN_PICKLE_INT || v[4]->integer < 0)
        return nn_fail(NN_FORMAT, "%s: tensor '%s' has no storage", r->path, name);
    NN_TRY(read_class(r, name, v[1], s));
    char *path = nn_format("%sdata/%.*s", r->root, (int)v[2]->n, v[2]->text);
    NN_NEED(path);
    const nn_zip_entry *entry = nn_zip_find(&r->zip, path);
    nn_free(path);
    if (!entry)
        return nn_fail(NN_FORMAT, "%s: tensor '%s' lies in the entry data/%.*s, which is not there",
                       r->path, name, (int)v[2]->n, v[2]->text);
    s->numel = v[4]->integer;
    s->data = entry->data;
    if (s->numel > entry->bytes / (nn_st_dtype_bits(s->dtype) / 8))
        return nn_fail(NN_FORMAT,
                       "%s: the storage of tensor '%s' has %lld elements of %s, its entry %lld "
                       "bytes",
                       r->path, name, (long long)s->numel, nn_st_dtype_name(s->dtype),
                       (long long)entry->bytes);
    return NN_OK;
}

static nn_status read_tuple(const reader *r, const char *name, const nn_pickle *tuple,
                            const char *what, int64_t *out, int *n)
{
    bool fits = tuple && tuple->kind == NN_PICKLE_TUPLE && tuple->n <= NN_WEIGHT_RANK;
    for (int64_t i = 0; fits && i < tuple->n; i++) {
        fits = tuple->values[i]->kind == NN_PICKLE_INT && tuple->values[i]->integer >= 0;
        out[i] = tuple->values[i]->integer;
    }
    if (!fits)
        return nn_fail(NN_FORMAT,
                       "%s: the %s of tensor '%s' is no tuple of up to %d integers of 0 or more",
                       r->path, what, name, NN_WEIGHT_RANK);
    *n = (int)tuple->n;
    return NN_OK;
}

/* Where a tensor lies in its storage, in elements. */
typedef struct place {
    int64_t offset, stride[NN_WEIGHT_RANK];
} place;

/* Elements and bytes are bounded by the storage, since no two elements of a tensor may share a
 * place as those of an expanded tensor do. */
static nn_status check_place(const reader *r, const storage *s, const place *at, nn_weight *t)
{
    int64_t n = 1, last = at->offset;
    bool over = false, empty = false;
    for (int i = 0; i < t->rank; i++) empty = empty || t->dim[i] == 0;
    for (int i = 0; i < t->rank && !empty; i++) {
        int64_t step;
        over = over || __builtin_mul_overflow(n, t->dim[i], &n) ||
               __builtin_mul_overflow(t->dim[i] - 1, at->stride[i], &step) ||
               __builtin_add_overflow(last, step, &last);
    }
    if (over || at->offset < 0 || (empty ? last > s->numel : last >= s->numel))
        return nn_fail(
            NN_FORMAT, "%s: tensor '%s' %s reaches beyond the %lld elements of its storage",
            r->path, t->name, nn_weight_shape_text(t->rank, t->dim).s, (long long)s->numel);
    if (!empty && n > s->numel)
        return nn_fail(NN_FORMAT, "%s: tensor '%s' %s has elements that share their place", r->path,
                       t->name, nn_weight_shape_text(t->rank, t->dim).s);
    t->bytes = empty ? 0 : n * nn_st_dtype_bits(t->dtype) / 8;
    return NN_OK;
}

static bool is_row_major(const nn_weight *t, const int64_t *stride)
{
    int64_t expected = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && stride[i] != expected) return false;
        expected *= t->dim[i];
    }
    return true;
}

static nn_status put_in_order(reader *r, const unsigned char *from, const place *at, nn_weight *t)
{
    int64_t size = nn_st_dtype_bits(t->dtype) / 8, index[NN_WEIGHT_RANK] = { 0 };
    r->copied += t->bytes;
    if (r->copied > r->file->map.size)
        return nn_fail(NN_FORMAT, "%s: more tensors share storages than the file has bytes",
                       r->path);
    char *to = nn_arena_alloc(&r->file->arena, t->bytes, 1);
    NN_NEED(to);
    t->data = to;
    for (int64_t done = 0; done < t->bytes; done += size) {
        int64_t element = at->offset;
        for (int i = 0; i < t->rank; i++) element += index[i] * at->stride[i];
        memcpy(to + done, from + element * size, (size_t)size);
        for (int i = t->rank - 1; i >= 0 && ++index[i] == t->dim[i]; i--) index[i] = 0;
    }
    return NN_OK;
}

static nn_status read_tensor(reader *r, const nn_pickle *value, nn_weight *t)
{
    storage s;
    place at = { 0 };
    int n_strides;
    if (nn_pickle_calls(value, "torch._utils _rebuild_parameter")) {
        value = argument(value, 0);
        if (!value || !nn_pickle_calls(value, "torch._utils _rebuild_tensor_v2"))
            return nn_fail(NN_FORMAT, "%s: parameter '%s' holds no tensor", r->path, t->name);
    }
    const nn_pickle *offset = argument(value, 1);
    if (!offset || offset->kind != NN_PICKLE_INT)
        return nn_fail(NN_FORMAT, "%s: tensor '%s' has no offset", r->path, t->name);
    at.offset = offset->integer;
    NN_TRY(read_storage(r, t->name, argument(value, 0), &s));
    NN_TRY(read_tuple(r, t->name, argument(value, 2), "shape", t->dim, &t->rank));
    NN_TRY(read_tuple(r, t->name, argument(value, 3), "stride", at.stride, &n_strides));
    if (n_strides != t->rank)
        return nn_fail(NN_FORMAT, "%s: tensor '%s' has %d dimensions and %d strides", r->path,
                       t->name, t->rank, n_strides);
    t->dtype = s.dtype;
    NN_TRY(check_place(r, &s, &at, t));
    t->data = s.data + (t->bytes ? at.offset * (nn_st_dtype_bits(t->dtype) / 8) : 0);
    return t->bytes == 0 || is_row_major(t, at.stride) ? NN_OK : put_in_order(r, s.data, &at, t);
}

/* -- the state dict -- */

static int64_t count_tensors(const nn_pickle *dict)
{
    int64_t n = 0;
    for (int64_t i = 0; dict && i < dict->n; i += 2)
        n += dict->values[i]->kind == NN_PICKLE_TEXT && is_tensor(dict->values[i + 1]);
    return n;
}

static nn_status find_state(const reader *r, const nn_pickle *top, const nn_pickle **state)
{
    static const char *const keys[] = { "state_dict", "model" };
    *state = nn_pickle_dict(top);
    if (!*state)
        return nn_fail(NN_UNSUPPORTED, "%s: holds %s, a dict of tensors was expected", r->path,
                       nn_pickle_kind_name(top));
    if (count_tensors(*state)) return NN_OK;
    for (int i = 0; i < NN_COUNT(keys); i++) {
        const nn_pickle *inner = nn_pickle_get(*state, keys[i]);
        const nn_pickle *dict = inner ? nn_pickle_dict(inner) : NULL;
        if (!count_tensors(dict)) continue;
        *state = dict;
        return NN_OK;
    }
    return nn_fail(NN_UNSUPPORTED,
                   "%s: no tensors at the top, nor under \"state_dict\" or \"model\"", r->path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nn_weight *)a)->name, ((const nn_weight *)b)->name);
}

static nn_status read_name(const reader *r, const nn_pickle *key, const char **out)
{
    if (key->n == 0 || key->n > MOST_NAME || !nn_utf8_valid(key->text, key->n) ||
        memchr(key->text, 0, (size_t)key->n))
        return nn_fail(NN_FORMAT, "%s: the name of a tensor is no UTF-8 of 1 to %d bytes", r->path,
                       MOST_NAME);
    *out = nn_arena_format(&r->file->arena, "%.*s", (int)key->n, key->text);
    NN_NEED(*out);
    return NN_OK;
}

static nn_status read_state(reader *r, const nn_pickle *state)
{
    nn_weight_file *f = r->file;
    int64_t n = count_tensors(state);
    if (n > NN_WEIGHT_FILE_MOST)
        return nn_fail(NN_FORMAT, "%s: has %lld tensors, at most %d are read", r->path,
                       (long long)n, NN_WEIGHT_FILE_MOST);
    f->tensor = nn_arena_alloc(&f->arena, n, sizeof(*f->tensor));
    NN_NEED(f->tensor);
    for (int64_t i = 0; i < state->n; i += 2) {
        const nn_pickle *key = state->values[i], *value = state->values[i + 1];
        if (key->kind != NN_PICKLE_TEXT || !is_tensor(value)) continue;
        nn_weight *t = &f->tensor[f->n++];
        NN_TRY(read_name(r, key, &t->name));
        NN_TRY(read_tensor(r, value, t));
    }
    qsort(f->tensor, (size_t)f->n, sizeof(*f->tensor), by_name);
    for (int64_t i = 1; i < f->n; i++)
        if (strcmp(f->tensor[i - 1].name, f->tensor[i].name) == 0)
            return nn_fail(NN_FORMAT, "%s: two tensors are called '%s'", r->path,
                           f->tensor[i].name);
    return NN_OK;
}

/* -- what else the file says -- */

static nn_status metadata_value(nn_arena *arena, const nn_pickle *value, const char **text)
{
    *text = NULL;
    switch (value->kind) {
    case NN_PICKLE_TEXT:
        if (value->n > MOST_TEXT || !nn_utf8_valid(value->text, value->n)) return NN_OK;
        *text = nn_arena_format(arena, "%.*s", (int)value->n, value->text);
        break;
    case NN_PICKLE_INT:
        *text = nn_arena_format(arena, "%" PRId64, value->integer);
        break;
    case NN_PICKLE_REAL:
        *text = nn_arena_format(arena, "%.9g", value->real);
        break;
    default:
        return NN_OK;
    }
    NN_NEED(*text);
    return NN_OK;
}

static nn_status read_metadata(reader *r, const nn_pickle *top)
{
    nn_weight_file *f = r->file;
    const nn_pickle *dict = nn_pickle_dict(top);
    f->metadata = nn_arena_alloc(&f->arena, MOST_METADATA, sizeof(*f->metadata));
    NN_NEED(f->metadata);
    for (int64_t i = 0; i < dict->n && f->n_metadata < MOST_METADATA; i += 2) {
        nn_st_pair *pair = &f->metadata[f->n_metadata];
        const nn_pickle *key = dict->values[i];
        if (key->kind != NN_PICKLE_TEXT) continue;
        NN_TRY(metadata_value(&f->arena, key, &pair->key));
        NN_TRY(metadata_value(&f->arena, dict->values[i + 1], &pair->value));
        f->n_metadata += pair->key && pair->value;
    }
    return NN_OK;
}

/* -- the archive -- */

/* The folder that everything lies in: of the one entry FOLDER/data.pkl. */
static nn_status find_root(reader *r, const nn_zip_entry **pickle)
{
    static const char name[] = "/data.pkl";
    *pickle = NULL;
    for (int64_t i = 0; i < r->zip.n; i++) {
        const char *entry = r->zip.entry[i].name, *slash = strchr(entry, '/');
        if (!slash || strcmp(slash, name) != 0) continue;
        if (*pickle)
            return nn_fail(NN_FORMAT, "%s: has both '%.200s' and '%.200s'", r->path,
                           (*pickle)->name, entry);
        *pickle = &r->zip.entry[i];
    }
    if (!*pickle)
        return nn_fail(NN_FORMAT, "%s: a zip archive without data.pkl; it is not of torch.save",
                       r->path);
    const char *first = (*pickle)->name;
    r->root =
        nn_arena_format(&r->file->arena, "%.*s", (int)(strchr(first, '/') - first) + 1, first);
    NN_NEED(r->root);
    return NN_OK;
}

static nn_status find_in_root(const reader *r, const char *name, const nn_zip_entry **entry)
{
    char *path = nn_format("%s%s", r->root, name);
    NN_NEED(path);
    *entry = nn_zip_find(&r->zip, path);
    nn_free(path);
    return NN_OK;
}

static nn_status check_kind(const reader *r)
{
    const nn_zip_entry *order, *program;
    NN_TRY(find_in_root(r, "byteorder", &order));
    NN_TRY(find_in_root(r, "constants.pkl", &program));
    if (program)
        return nn_fail(NN_UNSUPPORTED, "%s: is a TorchScript program; save its state_dict instead",
                       r->path);
    if (order && (order->bytes < 6 || memcmp(order->data, "little", 6) != 0))
        return nn_fail(NN_UNSUPPORTED, "%s: was written on a big-endian machine", r->path);
    return NN_OK;
}

static nn_status read_archive(reader *r, nn_arena *values)
{
    const nn_zip_entry *pickle;
    const nn_pickle *top, *state;
    NN_TRY(nn_zip_read(r->path, &r->file->map, values, &r->zip));
    NN_TRY(find_root(r, &pickle));
    NN_TRY(check_kind(r));
    nn_status status = nn_pickle_read("data.pkl", pickle->data, pickle->bytes, values, &top);
    if (status != NN_OK) return nn_fail_prefix(status, "%s: ", r->path);
    NN_TRY(find_state(r, top, &state));
    NN_TRY(read_state(r, state));
    return read_metadata(r, top);
}

/* Files that torch wrote before it took to archives, for messages that help. */
static nn_status check_age(const char *path, const nn_map *map)
{
    static const unsigned char magic[] = { 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9 };
    if (map->size > 9 && map->data[0] == 0x80 && memcmp(map->data + 2, magic, sizeof(magic)) == 0)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: was written by a torch before 1.6; load it and save it again with a "
                       "newer one",
                       path);
    if (map->size > 1 && map->data[0] == 0x80)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: is a bare pickle; only archives of torch.save (1.6 or newer) are read",
                       path);
    if (map->size > 262 && memcmp(map->data + 257, "ustar", 5) == 0)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: is a tar archive of a torch before 0.1.10; save it again with a newer "
                       "one",
                       path);
    return NN_OK;
}

static nn_status read_file(const char *path, nn_weight_file *file)
{
    nn_arena values = { 0 };
    reader r = { .path = path, .file = file };
    NN_TRY(check_age(path, &file->map));
    nn_status status = read_archive(&r, &values);
    nn_arena_free(&values);
    return status;
}

static bool recognises(const nn_map *map)
{
    return nn_zip_recognises(map) || (map->size > 1 && map->data[0] == 0x80 && map->data[1] <= 5) ||
           (map->size > 262 && memcmp(map->data + 257, "ustar", 5) == 0);
}

const nn_weight_format nn_torch_file = { "torch", recognises, read_file };
