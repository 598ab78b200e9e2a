/* --config FILE: options from a JSON object, for a run that is worth keeping. */
#include "tools/cli_internal.h"

#include <jansson.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"

/* A JSON scalar as the text that the command line would have. */
static char *scalar_text(nn_arena *arena, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return nn_arena_strdup(arena, json_string_value(value));
    case JSON_INTEGER:
        return nn_arena_format(arena, "%lld", (long long)json_integer_value(value));
    case JSON_REAL:
        return nn_arena_format(arena, "%.17g", json_real_value(value));
    case JSON_TRUE:
        return nn_arena_strdup(arena, "true");
    case JSON_FALSE:
        return nn_arena_strdup(arena, "false");
    default:
        (void)nn_fail(NN_ARGUMENT, "expected a string, a number, true or false");
        return NULL;
    }
}

static nn_status set_key(nn_options *o, const char *path, const char *key, const json_t *value,
                         bool quiet)
{
    int at;
    NN_TRY(nn_options_find(o, key, &at, NULL));
    const nn_option *option = o->items[at];
    char *text = scalar_text(&o->arena, value);
    if (!text) return nn_fail_prefix(NN_ARGUMENT, "'%s': ", key);
    nn_text line = { 0 };
    nn_status status = nn_text_add(&line, "%s: %s = ", path, key);
    if (status == NN_OK && o->given[at]) {
        status = nn_option_show(option, &line);
        if (status == NN_OK) status = nn_text_add(&line, " (command line, not %s)", text);
    } else if (status == NN_OK) {
        nn_text before = { 0 };
        status = nn_option_show(option, &before);
        if (status == NN_OK) status = nn_option_set(option, text);
        if (status == NN_OK)
            status =
                nn_text_add(&line, "%s (default %s)", text, before.length ? before.text : "none");
        o->given[at] = true;
        nn_text_free(&before);
    }
    if (status == NN_OK && !quiet) nn_cli_print(line.text);
    nn_text_free(&line);
    return status;
}

nn_status nn_options_load(nn_options *o, const char *path, bool quiet)
{
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, 1 << 20, &bytes, &n));
    json_error_t error;
    json_t *root = json_loadb(bytes, (size_t)n, JSON_REJECT_DUPLICATES, &error), *value;
    nn_free(bytes);
    if (!json_is_object(root)) {
        json_decref(root);
        return nn_fail(NN_ARGUMENT, "%s, line %d: %s; expected {\"option\": value, ...}", path,
                       root ? 1 : error.line, root ? "no object" : error.text);
    }
    const char *key;
    nn_status status = NN_OK;
    json_object_foreach(root, key, value)
    {
        status = set_key(o, path, key, value, quiet);
        if (status == NN_OK) continue;
        status = nn_fail_prefix(status, "%s: ", path);
        break;
    }
    json_decref(root);
    return status;
}
