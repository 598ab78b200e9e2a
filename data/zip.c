/* The end record says where the directory is, the directory where the entries are; each entry then
 * has a header of its own, which must agree. */
#include "data/zip.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/str.h"

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    ENTRY_BYTES = 46, /* of the directory, without name, extra field and comment */
    LOCAL_BYTES = 30, /* of the header before an entry's data, likewise */
    MOST_COMMENT = 65535,
    ENCRYPTED = 1, /* bits of an entry's flags */
    STORED = 0,    /* methods */
    ZIP64_FIELD = 1
};

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    while (bytes--) value = value << 8 | p[bytes];
    return value;
}

static bool is_mark(const unsigned char *p, char third, char fourth)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == (unsigned char)third &&
           p[3] == (unsigned char)fourth;
}

bool nn_zip_recognises(const nn_map *map)
{
    return map->size >= 4 && (is_mark(map->data, 3, 4) || is_mark(map->data, 5, 6));
}

typedef struct reader {
    const char *path;
    const unsigned char *data;
    int64_t size;
    int64_t directory, directory_bytes, n; /* where it is, how long, how many entries */
    int64_t end;                           /* where the records after the directory begin */
    nn_arena *arena;
} reader;

/* The end record is the last thing in the file but for a comment whose length it states. */
static nn_status find_end(const reader *r, int64_t *at)
{
    int64_t lowest = nn_max(0, r->size - END_BYTES - MOST_COMMENT);
    for (*at = r->size - END_BYTES; *at >= lowest; --*at)
        if (is_mark(r->data + *at, 5, 6) &&
            *at + END_BYTES + (int64_t)little(r->data + *at + 20, 2) == r->size)
            return NN_OK;
    return nn_fail(NN_FORMAT, "%s: has no end record of a zip archive; the file is cut off",
                   r->path);
}

static nn_status read_end64(reader *r, int64_t end)
{
    int64_t locator = end - LOCATOR_BYTES;
    uint64_t at = little(r->data + locator + 8, 8);
    if (little(r->data + locator + 4, 4) != 0 || little(r->data + locator + 16, 4) > 1)
        return nn_fail(NN_FORMAT, "%s: is one part of a divided archive", r->path);
    if (locator < END64_BYTES || at > (uint64_t)(locator - END64_BYTES) ||
        !is_mark(r->data + at, 6, 6))
        return nn_fail(NN_FORMAT, "%s: the Zip64 locator points to no Zip64 end record", r->path);
    const unsigned char *p = r->data + at;
    if (little(p + 16, 4) != 0 || little(p + 20, 4) != 0 || little(p + 24, 8) != little(p + 32, 8))
        return nn_fail(NN_FORMAT, "%s: is one part of a divided archive", r->path);
    r->n = (int64_t)(little(p + 32, 8) & INT64_MAX);
    r->directory_bytes = (int64_t)(little(p + 40, 8) & INT64_MAX);
    r->directory = (int64_t)(little(p + 48, 8) & INT64_MAX);
    r->end = (int64_t)at;
    return NN_OK;
}

static nn_status read_end(reader *r)
{
    int64_t at;
    if (r->size < END_BYTES)
        return nn_fail(NN_FORMAT, "%s: has %lld bytes, a zip archive has at least %d", r->path,
                       (long long)r->size, END_BYTES);
    NN_TRY(find_end(r, &at));
    const unsigned char *p = r->data + at;
    r->n = (int64_t)little(p + 10, 2);
    r->directory_bytes = (int64_t)little(p + 12, 4);
    r->directory = (int64_t)little(p + 16, 4);
    r->end = at;
    bool has_locator = at >= LOCATOR_BYTES && is_mark(p - LOCATOR_BYTES, 6, 7);
    if (has_locator)
        NN_TRY(read_end64(r, at));
    else if (little(p + 4, 2) != 0 || little(p + 6, 2) != 0 ||
             little(p + 8, 2) != little(p + 10, 2))
        return nn_fail(NN_FORMAT, "%s: is one part of a divided archive", r->path);
    if (r->directory > r->end || r->directory_bytes != r->end - r->directory)
        return nn_fail(NN_FORMAT,
                       "%s: the directory is said to lie at %lld with %lld bytes, but what follows "
                       "it begins at %lld",
                       r->path, (long long)r->directory, (long long)r->directory_bytes,
                       (long long)r->end);
    if (r->n > NN_ZIP_MOST || r->n > r->directory_bytes / ENTRY_BYTES)
        return nn_fail(NN_FORMAT,
                       "%s: is said to have %lld entries; the directory has room for %lld, and at "
                       "most %d are read",
                       r->path, (long long)r->n, (long long)(r->directory_bytes / ENTRY_BYTES),
                       NN_ZIP_MOST);
    return NN_OK;
}

/* One record of the directory. */
typedef struct record {
    const unsigned char *p;
    int64_t name_bytes, extra_bytes, bytes; /* bytes: of the whole record */
    uint64_t size, packed, local;
    const char *name;
} record;

static nn_status read_name(const reader *r, record *e)
{
    char *name = nn_arena_alloc(r->arena, e->name_bytes + 1, 1);
    NN_NEED(name);
    memcpy(name, e->p + ENTRY_BYTES, (size_t)e->name_bytes);
    e->name = name;
    if (!nn_utf8_valid(name, e->name_bytes) || strlen(name) != (size_t)e->name_bytes)
        return nn_fail(NN_FORMAT, "%s: the name of an entry is not valid UTF-8", r->path);
    bool up = false;
    for (const char *part = name; !up; part = strchr(part, '/') + 1) {
        up = part[0] == '.' && part[1] == '.' && (part[2] == '/' || !part[2]);
        if (!strchr(part, '/')) break;
    }
    if (name[0] == '/' || strchr(name, '\\') || up)
        return nn_fail(NN_FORMAT, "%s: the entry '%.200s' leads out of its folder", r->path, name);
    return NN_OK;
}

/* Sizes of 4 GiB and more stand in an extra field, in this order, each only if it is needed. */
static nn_status read_zip64(const reader *r, record *e)
{
    uint64_t *const values[] = { &e->size, &e->packed, &e->local };
    const unsigned char *p = e->p + ENTRY_BYTES + e->name_bytes, *end = p + e->extra_bytes;
    while (end - p >= 4 && little(p, 2) != ZIP64_FIELD) {
        int64_t step = 4 + (int64_t)little(p + 2, 2);
        if (step > end - p) break;
        p += step;
    }
    bool found = end - p >= 4 && little(p, 2) == ZIP64_FIELD;
    int64_t left = found ? nn_min((int64_t)little(p + 2, 2), end - p - 4) : 0;
    p += 4;
    for (int i = 0; i < NN_COUNT(values); i++) {
        if (*values[i] != UINT32_MAX) continue;
        if (left < 8)
            return nn_fail(NN_FORMAT, "%s: the entry '%.200s' has no Zip64 field for its size",
                           r->path, e->name);
        *values[i] = little(p, 8);
        p += 8;
        left -= 8;
    }
    return NN_OK;
}

static nn_status read_record(const reader *r, int64_t at, record *e)
{
    int64_t left = r->end - at;
    const unsigned char *p = r->data + at;
    if (left < ENTRY_BYTES || !is_mark(p, 1, 2))
        return nn_fail(NN_FORMAT, "%s: the directory has no entry at %lld", r->path, (long long)at);
    *e = (record){ .p = p,
                   .name_bytes = (int64_t)little(p + 28, 2),
                   .extra_bytes = (int64_t)little(p + 30, 2),
                   .packed = little(p + 20, 4),
                   .size = little(p + 24, 4),
                   .local = little(p + 42, 4) };
    e->bytes = ENTRY_BYTES + e->name_bytes + e->extra_bytes + (int64_t)little(p + 32, 2);
    if (e->bytes > left)
        return nn_fail(NN_FORMAT, "%s: the entry at %lld is longer than the directory", r->path,
                       (long long)at);
    if (e->name_bytes == 0 || e->name_bytes > NN_ZIP_NAME)
        return nn_fail(NN_FORMAT, "%s: the name of an entry has %lld bytes, 1 to %d are read",
                       r->path, (long long)e->name_bytes, NN_ZIP_NAME);
    NN_TRY(read_name(r, e));
    NN_TRY(read_zip64(r, e));
    if (little(p + 8, 2) & ENCRYPTED)
        return nn_fail(NN_UNSUPPORTED, "%s: the entry '%.200s' is encrypted", r->path, e->name);
    if (little(p + 10, 2) != STORED || e->packed != e->size)
        return nn_fail(NN_UNSUPPORTED, "%s: the entry '%.200s' is compressed, torch stores entries",
                       r->path, e->name);
    return NN_OK;
}

/* Where the data of an entry lies: behind its own header, which repeats the name. */
static nn_status locate(const reader *r, const record *e, nn_zip_entry *out)
{
    if (e->local > (uint64_t)r->directory || r->directory - (int64_t)e->local < LOCAL_BYTES ||
        !is_mark(r->data + e->local, 3, 4))
        return nn_fail(NN_FORMAT, "%s: the entry '%.200s' has no header at %llu", r->path, e->name,
                       (unsigned long long)e->local);
    const unsigned char *p = r->data + e->local;
    int64_t begin = (int64_t)e->local + LOCAL_BYTES + e->name_bytes + (int64_t)little(p + 28, 2);
    if (little(p + 26, 2) != (uint64_t)e->name_bytes || begin > r->directory ||
        memcmp(p + LOCAL_BYTES, e->name, (size_t)e->name_bytes) != 0)
        return nn_fail(NN_FORMAT, "%s: the entry '%.200s' has another name in its own header",
                       r->path, e->name);
    if (e->size > (uint64_t)(r->directory - begin))
        return nn_fail(NN_FORMAT, "%s: the entry '%.200s' has %llu bytes, only %lld are there",
                       r->path, e->name, (unsigned long long)e->size,
                       (long long)(r->directory - begin));
    *out = (nn_zip_entry){ e->name, r->data + begin, (int64_t)e->size };
    return NN_OK;
}

/* An entry's header, name and data as one stretch of the file. */
typedef struct stretch {
    const unsigned char *begin, *end;
    const char *name;
} stretch;

static int by_place(const void *a, const void *b)
{
    const stretch *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static nn_status check_overlap(const reader *r, stretch *s)
{
    if (r->n) qsort(s, (size_t)r->n, sizeof(*s), by_place);
    for (int64_t i = 1; i < r->n; i++)
        if (s[i].begin < s[i - 1].end)
            return nn_fail(NN_FORMAT, "%s: the entries '%.200s' and '%.200s' overlap", r->path,
                           s[i - 1].name, s[i].name);
    return NN_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nn_zip_entry *)a)->name, ((const nn_zip_entry *)b)->name);
}

static nn_status read_directory(const reader *r, nn_zip *zip)
{
    int64_t at = r->directory;
    stretch *places = nn_arena_alloc(r->arena, r->n, sizeof(*places));
    NN_NEED(places);
    zip->entry = nn_arena_alloc(r->arena, r->n, sizeof(*zip->entry));
    NN_NEED(zip->entry);
    for (; zip->n < r->n; zip->n++) {
        record e;
        nn_zip_entry *out = &zip->entry[zip->n];
        NN_TRY(read_record(r, at, &e));
        NN_TRY(locate(r, &e, out));
        places[zip->n] = (stretch){ r->data + e.local, out->data + out->bytes, out->name };
        at += e.bytes;
    }
    if (at != r->end)
        return nn_fail(NN_FORMAT, "%s: %lld bytes follow the last entry of the directory", r->path,
                       (long long)(r->end - at));
    NN_TRY(check_overlap(r, places));
    if (zip->n) qsort(zip->entry, (size_t)zip->n, sizeof(*zip->entry), by_name);
    for (int64_t i = 1; i < zip->n; i++)
        if (by_name(&zip->entry[i - 1], &zip->entry[i]) == 0)
            return nn_fail(NN_FORMAT, "%s: two entries are called '%.200s'", r->path,
                           zip->entry[i].name);
    return NN_OK;
}

nn_status nn_zip_read(const char *path, const nn_map *map, nn_arena *arena, nn_zip *zip)
{
    reader r = { .path = path, .data = map->data, .size = map->size, .arena = arena };
    *zip = (nn_zip){ 0 };
    NN_TRY(read_end(&r));
    return read_directory(&r, zip);
}

const nn_zip_entry *nn_zip_find(const nn_zip *zip, const char *name)
{
    nn_zip_entry wanted = { .name = name };
    if (!zip->n) return NULL;
    return bsearch(&wanted, zip->entry, (size_t)zip->n, sizeof(*zip->entry), by_name);
}
