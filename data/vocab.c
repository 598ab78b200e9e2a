/* Open addressing with linear probing, at most half full; strings live in the arena. */
#include "data/vocab.h"

#include <jansson.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

/* The slot that holds the token, or the free one where it belongs. */
static int64_t probe(const nn_vocab *v, const char *token, int64_t n)
{
    int64_t i = (int64_t)(nn_hash(0, token, n) & (uint64_t)(v->n_slots - 1));
    while (v->slot[i] >= 0) {
        const char *other = v->token[v->slot[i]];
        if (strncmp(other, token, (size_t)n) == 0 && !other[n]) break;
        i = (i + 1) & (v->n_slots - 1);
    }
    return i;
}

static nn_status grow_table(nn_vocab *v)
{
    if (2 * (int64_t)(v->n_tokens + 1) <= v->n_slots) return NN_OK;
    int64_t n_slots = v->n_slots ? 2 * v->n_slots : 256;
    int32_t *slot = nn_alloc(n_slots, sizeof(*slot));
    NN_NEED(slot);
    memset(slot, 0xff, (size_t)n_slots * sizeof(*slot));
    nn_free(v->slot);
    v->slot = slot;
    v->n_slots = n_slots;
    for (int32_t id = 0; id < v->n; id++)
        if (v->token[id]) v->slot[probe(v, v->token[id], (int64_t)strlen(v->token[id]))] = id;
    return NN_OK;
}

static nn_status grow_ids(nn_vocab *v, int32_t id)
{
    if (id < v->capacity) return NN_OK;
    int64_t capacity = nn_max(2 * v->capacity, (int64_t)id + 1);
    const char **token = nn_realloc(v->token, capacity, sizeof(*token));
    NN_NEED(token);
    memset(token + v->capacity, 0, (size_t)(capacity - v->capacity) * sizeof(*token));
    v->token = token;
    v->capacity = capacity;
    return NN_OK;
}

nn_status nn_vocab_add(nn_vocab *v, const char *token, int64_t n, int32_t id)
{
    if (n < 1 || memchr(token, 0, (size_t)n))
        return nn_fail(NN_FORMAT, "token %d is empty or holds a zero byte", id);
    if (id < 0 || id >= NN_VOCAB_MOST)
        return nn_fail(NN_FORMAT, "token '%.*s' has id %d, 0 to %d are possible",
                       (int)nn_min(n, 80), token, id, NN_VOCAB_MOST - 1);
    if (nn_vocab_token(v, id))
        return nn_fail(NN_FORMAT, "tokens '%s' and '%.*s' both have id %d", v->token[id],
                       (int)nn_min(n, 80), token, id);
    NN_TRY(grow_table(v));
    NN_TRY(grow_ids(v, id));
    int64_t i = probe(v, token, n);
    if (v->slot[i] >= 0)
        return nn_fail(NN_FORMAT, "token '%.*s' has two ids, %d and %d", (int)nn_min(n, 80), token,
                       v->slot[i], id);
    char *copy = nn_arena_alloc(&v->arena, n + 1, 1);
    NN_NEED(copy);
    memcpy(copy, token, (size_t)n);
    v->token[id] = copy;
    v->slot[i] = id;
    v->n_tokens++;
    v->n = (int32_t)nn_max(v->n, (int64_t)id + 1);
    return NN_OK;
}

void nn_vocab_free(nn_vocab *v)
{
    nn_arena_free(&v->arena);
    nn_free(v->token);
    nn_free(v->slot);
    *v = (nn_vocab){ 0 };
}

int32_t nn_vocab_find(const nn_vocab *v, const char *token, int64_t n)
{
    return v->n_slots ? v->slot[probe(v, token, n)] : -1;
}

int32_t nn_vocab_find_text(const nn_vocab *v, const char *token)
{
    return nn_vocab_find(v, token, (int64_t)strlen(token));
}

const char *nn_vocab_token(const nn_vocab *v, int32_t id)
{
    return id >= 0 && id < v->n ? v->token[id] : NULL;
}

static nn_status add_entry(nn_vocab *v, const char *token, const json_t *id, const char *file)
{
    if (!token || !json_is_integer(id))
        return nn_fail(NN_FORMAT, "%s: the id of token '%.80s' is no integer", file,
                       token ? token : "");
    json_int_t value = json_integer_value(id);
    if (value < 0 || value >= NN_VOCAB_MOST)
        return nn_fail(NN_FORMAT, "%s: token '%.80s' has id %lld, 0 to %d are possible", file,
                       token, (long long)value, NN_VOCAB_MOST - 1);
    nn_status status = nn_vocab_add(v, token, (int64_t)strlen(token), (int32_t)value);
    return status == NN_OK ? status : nn_fail_prefix(status, "%s: ", file);
}

nn_status nn_vocab_add_json(nn_vocab *v, const struct json_t *object, const char *file)
{
    if (!json_is_object(object))
        return nn_fail(NN_FORMAT, "%s: the vocabulary is no object of tokens and ids", file);
    json_t *map = (json_t *)(uintptr_t)object; /* jansson's iterators take no const */
    for (void *it = json_object_iter(map); it; it = json_object_iter_next(map, it))
        NN_TRY(add_entry(v, json_object_iter_key(it), json_object_iter_value(it), file));
    return NN_OK;
}

nn_status nn_vocab_add_added(nn_vocab *v, const struct json_t *list, const char *file)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *token = json_string_value(json_object_get(entry, "content"));
        const json_t *id = json_object_get(entry, "id");
        int32_t known = token && *token ? nn_vocab_find_text(v, token) : -1;
        if (known >= 0 && json_is_integer(id) && json_integer_value(id) == known) continue;
        NN_TRY(add_entry(v, token, id, file));
    }
    return NN_OK;
}
