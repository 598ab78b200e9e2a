/* The json member of a sample. */
#include "data/captions.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/caption_filter.h"
#include "data/json.h"
#include "engine/base/alloc.h"

struct nn_captions {
    json_t *root; /* an object with the object "captions" */
};

static json_t *columns_of(const nn_captions *c)
{
    return json_object_get(c->root, "captions");
}

static nn_status no_memory(void)
{
    (void)nn_fail(NN_MEMORY, "out of memory for captions");
    return NN_MEMORY;
}

/* Takes over root; NULL is one that memory was short for. */
static nn_status wrap(json_t *root, nn_captions **out)
{
    if (!root) return no_memory();
    nn_captions *c = nn_alloc(1, sizeof(*c));
    if (!c) {
        json_decref(root);
        return NN_MEMORY;
    }
    c->root = root;
    *out = c;
    return NN_OK;
}

/* text without the white space around it. */
static nn_status add_alt(nn_captions *c, const char *text, int64_t n, const char *key)
{
    if (!nn_utf8_valid(text, n) || memchr(text, 0, (size_t)n))
        return nn_fail(NN_FORMAT, "%s: the .txt member is no UTF-8 text", key);
    while (n && strchr(" \t\r\n", text[n - 1])) n--;
    while (n && strchr(" \t\r\n", *text)) text++, n--;
    if (!n) return NN_OK;
    if (json_object_set_new(columns_of(c), "alt", json_stringn(text, (size_t)n)) != 0)
        return no_memory();
    return NN_OK;
}

static nn_status check_columns(const json_t *columns, const char *key)
{
    const char *name;
    json_t *text;
    json_object_foreach(
        (json_t *)(uintptr_t)columns, name,
        text) if (!json_is_string(text) &&
                  !json_is_null(text)) return nn_fail(NN_FORMAT, "%s: caption '%s' is no string",
                                                      key, name);
    return NN_OK;
}

static nn_status complete(nn_captions *c, const nn_sample *s)
{
    json_t *columns = columns_of(c);
    if (!columns) {
        if (json_object_set_new(c->root, "captions", json_object()) != 0) return no_memory();
    } else if (!json_is_object(columns))
        return nn_fail(NN_FORMAT, "%s: \"captions\" is no object of strings", s->key);
    else
        NN_TRY(check_columns(columns, s->key));
    if (!nn_captions_get(c, "alt") && s->alt.n) NN_TRY(add_alt(c, s->alt.data, s->alt.n, s->key));
    const json_t *caption = json_object_get(c->root, "caption");
    if (!nn_captions_get(c, "alt") && json_is_string(caption))
        NN_TRY(
            add_alt(c, json_string_value(caption), (int64_t)json_string_length(caption), s->key));
    const char *name;
    json_t *text;
    json_object_foreach(columns_of(c), name, text) if (nn_captions_get(c, name)) return NN_OK;
    return nn_fail(NN_NOT_FOUND, "%s: no caption has text", s->key);
}

nn_status nn_captions_parse(const nn_sample *s, nn_captions **out)
{
    json_t *root;
    json_error_t error;
    if (s->json.n) {
        root = json_loadb(s->json.data, (size_t)s->json.n, JSON_REJECT_DUPLICATES, &error);
        if (!root && json_error_code(&error) == json_error_out_of_memory) return no_memory();
        if (!root)
            return nn_fail(NN_FORMAT, "%s: the .json member, line %d: %s", s->key, error.line,
                           error.text);
        if (!json_is_object(root)) {
            json_decref(root);
            return nn_fail(NN_FORMAT, "%s: the .json member is no object", s->key);
        }
    } else
        root = json_object();
    nn_captions *c = NULL;
    NN_TRY(wrap(root, &c));
    nn_status status = complete(c, s);
    if (status != NN_OK) {
        nn_captions_free(c);
        return status;
    }
    *out = c;
    return NN_OK;
}

nn_status nn_captions_create(nn_captions **out)
{
    return wrap(json_pack("{s:{}}", "captions"), out);
}

void nn_captions_free(nn_captions *c)
{
    if (!c) return;
    json_decref(c->root);
    nn_free(c);
}

const char *nn_captions_get(const nn_captions *c, const char *column)
{
    const char *text = json_string_value(json_object_get(columns_of(c), column));
    return text && *text ? text : NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void nn_captions_each(const nn_captions *c, nn_captions_visit *visit, void *ctx)
{
    enum { MOST = 64 };
    const char *names[MOST], *name;
    json_t *text;
    int n = 0;
    json_object_foreach(columns_of(c), name, text) if (n < MOST && nn_captions_get(c, name))
        names[n++] = name;
    qsort(names, (size_t)n, sizeof(*names), by_name);
    for (int i = 0; i < n; i++) visit(ctx, names[i], nn_captions_get(c, names[i]));
}

static json_t *info_json(const nn_caption_info *info)
{
    json_t *flags = json_array();
    for (unsigned bit = 1; bit <= info->flags; bit <<= 1)
        if (info->flags & bit) json_array_append_new(flags, json_string(nn_caption_flag_name(bit)));
    return json_pack("{s:I, s:f, s:s, s:o}", "tokens", (json_int_t)info->tokens, "logprob",
                     info->logprob, "model", info->model ? info->model : "", "flags", flags);
}

nn_status nn_captions_set(nn_captions *c, const char *column, const char *text,
                          const nn_caption_info *info)
{
    if (!nn_utf8_valid(text, (int64_t)strlen(text)))
        return nn_fail(NN_ARGUMENT, "caption '%s' is no UTF-8", column);
    if (info && !isfinite(info->logprob))
        return nn_fail(NN_NUMERIC, "caption '%s' has log-probability %g", column, info->logprob);
    if (json_object_set_new(columns_of(c), column, json_string(text)) != 0) return no_memory();
    if (!info) return NN_OK;
    json_t *all = json_object_get(c->root, "caption_info");
    if (!json_is_object(all)) {
        if (json_object_set_new(c->root, "caption_info", json_object()) != 0) return no_memory();
        all = json_object_get(c->root, "caption_info");
    }
    return json_object_set_new(all, column, info_json(info)) == 0 ? NN_OK : no_memory();
}

char *nn_captions_field(const nn_captions *c, const char *field)
{
    const json_t *value = json_object_get(c->root, field);
    nn_text out = { 0 };
    if (!value) return NULL;
    if (nn_json_write(&out, value, JSON_SORT_KEYS | JSON_ENCODE_ANY) == NN_OK) return out.text;
    nn_text_free(&out);
    return NULL;
}

nn_status nn_captions_set_field(nn_captions *c, const char *field, const char *json)
{
    json_error_t error;
    json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (!value) return nn_fail(NN_FORMAT, "field '%s': %s", field, error.text);
    return json_object_set_new(c->root, field, value) == 0 ? NN_OK : no_memory();
}

nn_status nn_captions_dump(const nn_captions *c, nn_text *out)
{
    return nn_json_write(out, c->root, JSON_SORT_KEYS);
}
