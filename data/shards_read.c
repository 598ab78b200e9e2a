/* Maps tars and indexes their samples; the bytes of members stay where they are.
 *
 * libarchive parses the headers. It is given the whole file as one block, so the data it returns
 * are views into that block; a member that is not one such view (a sparse file) is refused. */
#include "data/shards.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/shards_pipe.h"
#include "engine/base/alloc.h"
#include "engine/base/arena.h"
#include "engine/base/rng.h"

enum { MOST_NAME = 1024 };

struct nn_shards {
    nn_arena arena; /* keys and shard names */
    nn_map *maps;
    int64_t n_maps;
    nn_sample *samples;
    int64_t n, capacity;
};

/* The pass over one shard. */
typedef struct scan {
    nn_shards *set;
    nn_shard_report *report;
    nn_shard_limits limits;
    const char *name;
    const char *data; /* the tar */
    int64_t size;
    nn_sample group; /* the sample that is being put together; key NULL before the first */
    bool spoiled;    /* a member of the group was refused and reported */
} scan;

typedef enum member_kind { OTHER, IMAGE, TEXT, JSON } member_kind;

static nn_status fault(scan *s, nn_shard_fault kind, const char *member, const char *detail)
{
    return nn_shard_report_add(s->report, kind, s->name, member, detail);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool safe_path(const char *path)
{
    if (path[0] == '/') return false;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2])) return false;
    }
    return true;
}

bool nn_shard_key_valid(const char *key)
{
    int64_t n = (int64_t)strlen(key);
    return n > 0 && n < MOST_NAME && nn_utf8_valid(key, n) && safe_path(key) && base_name(key)[0] &&
           !strchr(base_name(key), '.') && strncmp(key, "./", 2) != 0;
}

static member_kind kind_of(const char *suffix, const char **format)
{
    static const char *const formats[] = { "png", "jpg", "jpeg", "webp" };
    if (!strcasecmp(suffix, "txt")) return TEXT;
    if (!strcasecmp(suffix, "json")) return JSON;
    for (int i = 0; i < NN_COUNT(formats); i++)
        if (!strcasecmp(suffix, formats[i])) {
            *format = formats[i];
            return IMAGE;
        }
    return OTHER;
}

static nn_status close_group(scan *s)
{
    nn_sample *g = &s->group;
    const char *key = g->key;
    if (!key) return NN_OK;
    nn_status status = NN_OK;
    if (s->spoiled)
        ;
    else if (!g->image.data)
        status = fault(s, NN_SHARD_NO_IMAGE, key, "has no .png, .jpg, .jpeg or .webp member");
    else if (!g->alt.data && !g->json.data)
        status = fault(s, NN_SHARD_NO_CAPTION, key, "has neither a .txt nor a .json member");
    else {
        nn_shards *set = s->set;
        NN_TRY(nn_grow(&set->samples, &set->capacity, set->n, sizeof(*set->samples)));
        set->samples[set->n++] = *g;
    }
    *g = (nn_sample){ 0 };
    s->spoiled = false;
    return status;
}

static nn_status open_group(scan *s, const char *path, int64_t key_length)
{
    nn_sample *g = &s->group;
    if (g->key && (int64_t)strlen(g->key) == key_length &&
        !memcmp(g->key, path, (size_t)key_length))
        return NN_OK;
    NN_TRY(close_group(s));
    g->key = nn_arena_format(&s->set->arena, "%.*s", (int)key_length, path);
    NN_NEED(g->key);
    g->shard = s->name;
    const char *file = base_name(s->name);
    uint64_t h = nn_hash(0, file, (int64_t)strlen(file) + 1);
    g->id = nn_hash(h, g->key, key_length);
    return NN_OK;
}

/* The member's bytes as one view; NULL (and why) when they are not there. */
static const char *view_member(scan *s, struct archive *a, int64_t size, const char **why)
{
    const void *block;
    size_t n;
    la_int64_t offset;
    if (size == 0) {
        *why = "is empty";
        return NULL;
    }
    *why = "is stored in pieces";
    int code = archive_read_data_block(a, &block, &n, &offset);
    if (code < ARCHIVE_WARN) {
        *why = archive_error_string(a);
        return NULL;
    }
    const char *at = block;
    bool inside = code != ARCHIVE_EOF && at >= s->data && at <= s->data + s->size;
    if (!inside || offset != 0) return NULL;
    if (size > s->data + s->size - at) {
        *why = "is cut off by the end of the file";
        return NULL;
    }
    return (int64_t)n == size ? at : NULL;
}

static nn_status refuse(scan *s, nn_shard_fault kind, const char *member, const char *detail)
{
    s->spoiled = true;
    return fault(s, kind, member, detail);
}

static nn_status take_member(scan *s, struct archive *a, struct archive_entry *entry,
                             const char *path, member_kind kind, const char *format)
{
    nn_sample *g = &s->group;
    nn_span *to = kind == IMAGE ? &g->image : kind == TEXT ? &g->alt : &g->json;
    int64_t most = kind == IMAGE  ? s->limits.image_bytes
                   : kind == TEXT ? s->limits.text_bytes
                                  : s->limits.json_bytes;
    int64_t size = archive_entry_size(entry);
    if (to->data)
        return refuse(s, NN_SHARD_DUPLICATE, path, "the sample has such a member already");
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
        return refuse(s, NN_SHARD_MEMBER, path, "is not a regular file");
    if (size > most) {
        char detail[96];
        snprintf(detail, sizeof(detail), "has %lld bytes, at most %lld are taken", (long long)size,
                 (long long)most);
        return refuse(s, NN_SHARD_SIZE, path, detail);
    }
    if (kind == TEXT && size == 0) { /* an image without alt-text */
        *to = (nn_span){ "", 0 };
        return NN_OK;
    }
    const char *why;
    const char *bytes = view_member(s, a, size, &why);
    if (!bytes) return refuse(s, NN_SHARD_MEMBER, path, why);
    *to = (nn_span){ bytes, size };
    if (kind == IMAGE) g->format = format;
    return NN_OK;
}

static nn_status scan_member(scan *s, struct archive *a, struct archive_entry *entry)
{
    const char *path = archive_entry_pathname_utf8(entry);
    if (!path) path = archive_entry_pathname(entry);
    if (!path || archive_entry_filetype(entry) == AE_IFDIR) return NN_OK;
    if (!strncmp(path, "./", 2)) path += 2;
    const char *base = base_name(path), *dot = strchr(base, '.'), *format = NULL;
    if (!safe_path(path))
        return fault(s, NN_SHARD_NAME, path, "is absolute or leaves the archive by '..'");
    if (!dot || dot == base) return NN_OK;
    member_kind kind = kind_of(dot + 1, &format);
    if (kind == OTHER) return NN_OK;
    if (strlen(path) >= MOST_NAME || !nn_utf8_valid(path, (int64_t)strlen(path)))
        return fault(s, NN_SHARD_NAME, path, "is no UTF-8 or longer than 1023 bytes");
    NN_TRY(open_group(s, path, dot - path));
    return take_member(s, a, entry, path, kind, format);
}

/* A tar closes with blocks of zeros; without them it was cut off between two members. */
static bool has_end_mark(const scan *s)
{
    enum { BLOCK = 512 };
    static const char zeros[BLOCK];
    return s->size >= BLOCK && !memcmp(s->data + s->size - BLOCK, zeros, BLOCK);
}

static nn_status scan_members(scan *s, struct archive *a)
{
    struct archive_entry *entry;
    int code;
    while ((code = archive_read_next_header(a, &entry)) == ARCHIVE_OK || code == ARCHIVE_WARN)
        NN_TRY(scan_member(s, a, entry));
    const char *text = "ends without an end mark";
    if (code != ARCHIVE_EOF) text = archive_error_string(a) ? archive_error_string(a) : "broken";
    if (code != ARCHIVE_EOF || !has_end_mark(s)) {
        char detail[256];
        snprintf(detail, sizeof(detail), "%s; from this sample on, the shard is lost", text);
        s->spoiled = true; /* members of the last sample may be missing */
        NN_TRY(fault(s, NN_SHARD_DAMAGED, s->group.key ? s->group.key : "", detail));
    }
    return close_group(s);
}

static int by_key(const void *x, const void *y)
{
    const nn_sample *a = *(const nn_sample *const *)x, *b = *(const nn_sample *const *)y;
    int order = strcmp(a->key, b->key);
    return order ? order : (a > b) - (a < b);
}

/* Of samples with equal keys in one shard the first stays. */
static nn_status drop_duplicates(scan *s, int64_t first)
{
    nn_shards *set = s->set;
    int64_t n = set->n - first;
    if (n < 2) return NN_OK;
    nn_sample *samples = set->samples + first;
    nn_sample **sorted = nn_alloc(n, sizeof(nn_sample *));
    NN_NEED(sorted);
    for (int64_t i = 0; i < n; i++) sorted[i] = samples + i;
    qsort(sorted, (size_t)n, sizeof(*sorted), by_key);
    nn_status status = NN_OK;
    for (int64_t i = 1, kept = 0; i < n && status == NN_OK; i++) {
        if (strcmp(sorted[i]->key, sorted[kept]->key) != 0) {
            kept = i;
            continue;
        }
        status = fault(s, NN_SHARD_DUPLICATE, sorted[i]->key, "an earlier sample has this key");
        sorted[i]->format = NULL; /* marks it */
    }
    nn_free(sorted);
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++)
        if (samples[i].format) samples[left++] = samples[i];
    set->n = first + left;
    return status;
}

static nn_status scan_shard(nn_shards *set, const nn_map *map, const char *name,
                            const nn_shard_limits *limits, nn_shard_report *report)
{
    nn_shard_limits l = limits ? *limits : (nn_shard_limits){ 0 };
    if (!l.image_bytes) l.image_bytes = 64 << 20;
    if (!l.text_bytes) l.text_bytes = 64 << 10;
    if (!l.json_bytes) l.json_bytes = 1 << 20;
    scan s = { set, report, l, NULL, (const char *)map->data, map->size, { 0 }, false };
    s.name = nn_arena_strdup(&set->arena, name);
    NN_NEED(s.name);
    if (!map->size) return fault(&s, NN_SHARD_DAMAGED, "", "the file is empty");

    struct archive *a = archive_read_new();
    if (!a) return nn_fail(NN_MEMORY, "out of memory for a tar reader");
    archive_read_support_format_tar(a);
    int64_t first = set->n;
    nn_status status =
        archive_read_open_memory(a, map->data, (size_t)map->size) == ARCHIVE_OK
            ? scan_members(&s, a)
            : fault(&s, NN_SHARD_DAMAGED, "", "is no uncompressed tar; unpack it with gunzip");
    archive_read_free(a);
    return status == NN_OK ? drop_duplicates(&s, first) : status;
}

static nn_status open_all(nn_shards *set, char **paths, int64_t n, const nn_shard_limits *limits,
                          nn_shard_report *report)
{
    set->maps = nn_alloc(n, sizeof(nn_map));
    NN_NEED(set->maps);
    for (int64_t i = 0; i < n; i++) {
        NN_TRY(nn_shards_pipe_command(paths[i]) ? nn_shards_pipe_map(paths[i], &set->maps[i])
                                                : nn_map_open(paths[i], &set->maps[i]));
        set->n_maps = i + 1;
        NN_TRY(scan_shard(set, &set->maps[i], paths[i], limits, report));
    }
    return NN_OK;
}

nn_status nn_shards_open(const char *spec, const nn_shard_limits *limits, nn_shard_report *report,
                         nn_shards **out)
{
    char **paths;
    int64_t n;
    NN_TRY(nn_shards_expand(spec, &paths, &n));
    nn_shards *set = nn_alloc(1, sizeof(*set));
    nn_status status = set ? open_all(set, paths, n, limits, report) : NN_MEMORY;
    nn_file_list_free(paths, n);
    if (status != NN_OK) {
        nn_shards_close(set);
        return status;
    }
    *out = set;
    return NN_OK;
}

nn_status nn_shards_open_memory(const void *tar, int64_t n, const char *name,
                                const nn_shard_limits *limits, nn_shard_report *report,
                                nn_shards **out)
{
    nn_shards *set = nn_alloc(1, sizeof(*set));
    NN_NEED(set);
    nn_status status = scan_shard(set, &(nn_map){ tar, n }, name, limits, report);
    if (status != NN_OK) {
        nn_shards_close(set);
        return status;
    }
    *out = set;
    return NN_OK;
}

void nn_shards_close(nn_shards *set)
{
    if (!set) return;
    for (int64_t i = 0; i < set->n_maps; i++) nn_map_close(&set->maps[i]);
    nn_free(set->maps);
    nn_free(set->samples);
    nn_arena_free(&set->arena);
    nn_free(set);
}

int64_t nn_shards_count(const nn_shards *set)
{
    return set->n;
}

const nn_sample *nn_shards_at(const nn_shards *set, int64_t i)
{
    NN_ASSERT(i >= 0 && i < set->n);
    return &set->samples[i];
}

uint64_t nn_shards_hash(const nn_shards *set, uint64_t start)
{
    for (int64_t i = 0; i < set->n; i++) start = nn_mix(start, set->samples[i].id);
    return start;
}

uint64_t nn_sample_content(const nn_sample *sample)
{
    return nn_hash(0, sample->image.data, sample->image.n);
}
