/* A hash table from content to vector, and its file. */
#include "data/cache.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"

typedef struct header {
    char magic[8];
    uint64_t codec;
    int64_t dims[NN_CACHE_RANK];
    int64_t count;
    uint64_t checksum;
} header;
_Static_assert(sizeof(header) == 64, "the header has no padding");

static const char magic[8] = { 'N', 'N', 'C', 'A', 'C', 'H', 'E', '1' };

struct nn_cache {
    uint64_t codec;
    int64_t dims[NN_CACHE_RANK];
    int64_t elements; /* of one vector */
    uint64_t *keys;
    float *vectors;
    int64_t count, capacity;
    int64_t *table; /* entry + 1, 0 = free; open addressing, at most half full */
    int64_t table_size;
};

nn_status nn_cache_create(uint64_t codec, const int64_t dims[NN_CACHE_RANK], nn_cache **out)
{
    int64_t elements = 1;
    for (int i = 0; i < NN_CACHE_RANK; i++)
        if (dims[i] < 1 || __builtin_mul_overflow(elements, dims[i], &elements) ||
            elements > INT32_MAX)
            return nn_fail(NN_SHAPE, "a cached vector of %lld x %lld x %lld x %lld",
                           (long long)dims[0], (long long)dims[1], (long long)dims[2],
                           (long long)dims[3]);
    nn_cache *c = nn_alloc(1, sizeof(*c));
    NN_NEED(c);
    c->codec = codec;
    memcpy(c->dims, dims, sizeof(c->dims));
    c->elements = elements;
    *out = c;
    return NN_OK;
}

void nn_cache_close(nn_cache *c)
{
    if (!c) return;
    nn_free(c->keys);
    nn_free(c->vectors);
    nn_free(c->table);
    nn_free(c);
}

/* Where the key stands in the table, or where it would. */
static int64_t seat_of(const nn_cache *c, uint64_t key)
{
    int64_t mask = c->table_size - 1, at = (int64_t)nn_mix(key, 0) & mask;
    while (c->table[at] && c->keys[c->table[at] - 1] != key) at = (at + 1) & mask;
    return at;
}

static nn_status reserve(nn_cache *c, int64_t count)
{
    if (count <= c->capacity) return NN_OK;
    int64_t room = 64;
    while (room < count) room *= 2;
    uint64_t *keys = nn_realloc(c->keys, room, sizeof(*keys));
    NN_NEED(keys);
    c->keys = keys;
    float *vectors = nn_realloc(c->vectors, room, (size_t)c->elements * sizeof(*vectors));
    NN_NEED(vectors);
    c->vectors = vectors;
    int64_t *table = nn_alloc(2 * room, sizeof(*table));
    NN_NEED(table);
    nn_free(c->table);
    c->table = table;
    c->table_size = 2 * room;
    c->capacity = room;
    for (int64_t i = 0; i < c->count; i++) c->table[seat_of(c, c->keys[i])] = i + 1;
    return NN_OK;
}

const float *nn_cache_find(const nn_cache *c, uint64_t key)
{
    int64_t entry = c->count ? c->table[seat_of(c, key)] : 0;
    return entry ? c->vectors + (entry - 1) * c->elements : NULL;
}

nn_status nn_cache_add(nn_cache *c, uint64_t key, const float *vector)
{
    NN_TRY(reserve(c, c->count + 1));
    int64_t seat = seat_of(c, key), entry = c->table[seat];
    if (!entry) {
        entry = c->table[seat] = ++c->count;
        c->keys[entry - 1] = key;
    }
    memcpy(c->vectors + (entry - 1) * c->elements, vector, (size_t)c->elements * sizeof(*vector));
    return NN_OK;
}

int64_t nn_cache_count(const nn_cache *c)
{
    return c->count;
}

/* The file's parts are laid one after the other: a sum over both is a sum over their bytes. */
static uint64_t sum_of(const void *keys, const void *vectors, int64_t count, int64_t elements)
{
    uint64_t h = nn_hash(0, keys, count * (int64_t)sizeof(uint64_t));
    return nn_hash(h, vectors, count * elements * (int64_t)sizeof(float));
}

nn_status nn_cache_save(const nn_cache *c, const char *path)
{
    header h = { .codec = c->codec, .count = c->count };
    memcpy(h.magic, magic, sizeof(magic));
    memcpy(h.dims, c->dims, sizeof(h.dims));
    h.checksum = sum_of(c->keys, c->vectors, c->count, c->elements);
    nn_writer w;
    nn_status status = nn_writer_open(path, &w);
    if (status == NN_OK) status = nn_writer_add(&w, &h, sizeof(h));
    if (status == NN_OK) status = nn_writer_add(&w, c->keys, c->count * (int64_t)sizeof(*c->keys));
    if (status == NN_OK)
        status =
            nn_writer_add(&w, c->vectors, c->count * c->elements * (int64_t)sizeof(*c->vectors));
    if (status == NN_OK) return nn_writer_commit(&w);
    nn_writer_abort(&w);
    return status;
}

static nn_status check_header(const nn_cache *c, const nn_map *map, header *h, const char *path)
{
    if (map->size < (int64_t)sizeof(*h) || memcmp(map->data, magic, sizeof(magic)) != 0)
        return nn_fail(NN_FORMAT, "%s: is no cache file", path);
    memcpy(h, map->data, sizeof(*h));
    if (h->codec != c->codec)
        return nn_fail(NN_FORMAT,
                       "%s: was made by codec %016llx, this one is %016llx; delete the file", path,
                       (unsigned long long)h->codec, (unsigned long long)c->codec);
    if (memcmp(h->dims, c->dims, sizeof(h->dims)) != 0)
        return nn_fail(NN_FORMAT,
                       "%s: holds %lld x %lld x %lld x %lld, expected %lld x %lld x %lld x %lld; "
                       "delete the file",
                       path, (long long)h->dims[0], (long long)h->dims[1], (long long)h->dims[2],
                       (long long)h->dims[3], (long long)c->dims[0], (long long)c->dims[1],
                       (long long)c->dims[2], (long long)c->dims[3]);
    int64_t entry = (int64_t)sizeof(uint64_t) + c->elements * (int64_t)sizeof(float);
    int64_t body = map->size - (int64_t)sizeof(*h);
    if (h->count < 0 || h->count > body / entry || h->count * entry != body)
        return nn_fail(NN_FORMAT, "%s: has %lld bytes for %lld entries of %lld; delete the file",
                       path, (long long)body, (long long)h->count, (long long)entry);
    return NN_OK;
}

static nn_status take_entries(nn_cache *c, const nn_map *map, const char *path)
{
    header h;
    NN_TRY(check_header(c, map, &h, path));
    const unsigned char *keys = map->data + sizeof(h);
    const unsigned char *vectors = keys + h.count * (int64_t)sizeof(uint64_t);
    if (sum_of(keys, vectors, h.count, c->elements) != h.checksum)
        return nn_fail(NN_FORMAT, "%s: the checksum does not fit; delete the file", path);
    NN_TRY(reserve(c, h.count));
    for (int64_t i = 0; i < h.count; i++) {
        uint64_t key;
        memcpy(&key, keys + i * (int64_t)sizeof(key), sizeof(key));
        size_t bytes = (size_t)c->elements * sizeof(float);
        int64_t before = c->count, seat = seat_of(c, key);
        if (c->table[seat])
            return nn_fail(NN_FORMAT, "%s: a key occurs twice; delete the file", path);
        c->table[seat] = ++c->count;
        c->keys[before] = key;
        memcpy(c->vectors + before * c->elements, vectors + (size_t)i * bytes, bytes);
    }
    return NN_OK;
}

nn_status nn_cache_load(const char *path, uint64_t codec, const int64_t dims[NN_CACHE_RANK],
                        nn_cache **out)
{
    nn_cache *c;
    nn_map map;
    NN_TRY(nn_cache_create(codec, dims, &c));
    nn_status status = nn_map_open(path, &map);
    if (status == NN_OK) {
        status = take_entries(c, &map, path);
        nn_map_close(&map);
    }
    if (status != NN_OK) {
        nn_cache_close(c);
        return status;
    }
    *out = c;
    return NN_OK;
}
