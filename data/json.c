/* Checked access to jansson's values. */
#include "data/json.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "a list",       [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null"
    };
    return names[json_typeof(value)];
}

nn_status nn_json_parse(const char *bytes, int64_t n, const char *file, nn_json *json)
{
    *json = (nn_json){ 0 };
    json_error_t error;
    json_t *root = json_loadb(bytes, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return nn_fail(NN_FORMAT, "%s: line %d, column %d: %s", file, error.line, error.column,
                       error.text);
    nn_status status = NN_OK;
    if (!json_is_object(root))
        status = nn_fail(NN_FORMAT, "%s: is %s at the top, an object was expected", file,
                         type_name(root));
    else if (!(json->file = nn_strdup(file)))
        status = NN_MEMORY;
    if (status != NN_OK)
        json_decref(root);
    else
        json->node = root;
    return status;
}

nn_status nn_json_open(const char *path, int64_t most, nn_json *json)
{
    char *bytes;
    int64_t n;
    *json = (nn_json){ 0 };
    NN_TRY(nn_file_read(path, most, &bytes, &n));
    nn_status status = nn_json_parse(bytes, n, path, json);
    nn_free(bytes);
    return status;
}

nn_status nn_json_open_config(const char *dir, const char *name, nn_json *json)
{
    char *path = nn_format("%s/%s", dir, name);
    NN_NEED(path);
    nn_status status = nn_json_open(path, NN_JSON_CONFIG_BYTES, json);
    nn_free(path);
    return status;
}

void nn_json_close(nn_json *json)
{
    json_decref(json->node);
    nn_free(json->file);
    *json = (nn_json){ 0 };
}

/* The value under a key, or NULL when it is absent or null. */
static json_t *value_of(const nn_json *json, const char *key)
{
    json_t *value = json_object_get(json->node, key);
    return json_is_null(value) ? NULL : value;
}

bool nn_json_has(const nn_json *json, const char *key)
{
    return value_of(json, key) != NULL;
}

nn_status nn_json_need(const nn_json *json, const char *key)
{
    if (value_of(json, key)) return NN_OK;
    const char *nearest = NULL;
    int best = 4;
    for (void *it = json_object_iter(json->node); it; it = json_object_iter_next(json->node, it)) {
        int distance = nn_edit_distance(key, json_object_iter_key(it));
        if (distance >= best || distance == 0) continue;
        best = distance;
        nearest = json_object_iter_key(it);
    }
    const char *file = json->file ? json->file : "an absent object";
    return nearest ? nn_fail(NN_FORMAT, "%s: has no \"%s\"; \"%.80s\" is near", file, key, nearest)
                   : nn_fail(NN_FORMAT, "%s: has no \"%s\"", file, key);
}

static nn_status wrong_type(const nn_json *json, const char *key, const json_t *value,
                            const char *expected)
{
    return nn_fail(NN_FORMAT, "%s: \"%s\" is %s, %s was expected", json->file, key,
                   type_name(value), expected);
}

nn_status nn_json_int64(const nn_json *json, const char *key, int64_t *value)
{
    const json_t *found = value_of(json, key);
    if (!found) return NN_OK;
    if (!json_is_integer(found)) return wrong_type(json, key, found, "an integer");
    *value = json_integer_value(found);
    return NN_OK;
}

nn_status nn_json_int(const nn_json *json, const char *key, int *value)
{
    int64_t wide = *value;
    NN_TRY(nn_json_int64(json, key, &wide));
    if (wide < INT_MIN || wide > INT_MAX)
        return nn_fail(NN_FORMAT, "%s: \"%s\" is %lld, more than 32 bits", json->file, key,
                       (long long)wide);
    *value = (int)wide;
    return NN_OK;
}

nn_status nn_json_double(const nn_json *json, const char *key, double *value)
{
    const json_t *found = value_of(json, key);
    if (!found) return NN_OK;
    if (!json_is_number(found)) return wrong_type(json, key, found, "a number");
    *value = json_number_value(found);
    return NN_OK;
}

nn_status nn_json_bool(const nn_json *json, const char *key, bool *value)
{
    const json_t *found = value_of(json, key);
    if (!found) return NN_OK;
    if (!json_is_boolean(found)) return wrong_type(json, key, found, "true or false");
    *value = json_is_true(found);
    return NN_OK;
}

nn_status nn_json_string(const nn_json *json, const char *key, const char **value)
{
    const json_t *found = value_of(json, key);
    if (!found) return NN_OK;
    if (!json_is_string(found)) return wrong_type(json, key, found, "a string");
    *value = json_string_value(found);
    return NN_OK;
}

/* The list under a key and its length, checked; NULL when it is absent. */
static nn_status list_of(const nn_json *json, const char *key, int most, const json_t **list,
                         int *n)
{
    *list = value_of(json, key);
    if (!*list) return NN_OK;
    if (!json_is_array(*list)) return wrong_type(json, key, *list, "a list");
    if (json_array_size(*list) > (size_t)most)
        return nn_fail(NN_FORMAT, "%s: \"%s\" has %zu elements, at most %d are expected",
                       json->file, key, json_array_size(*list), most);
    *n = (int)json_array_size(*list);
    return NN_OK;
}

nn_status nn_json_ints(const nn_json *json, const char *key, int most, int64_t *values, int *n)
{
    const json_t *list;
    int found = 0;
    NN_TRY(list_of(json, key, most, &list, &found));
    for (int i = 0; i < found; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_integer(item)) return wrong_type(json, key, item, "a list of integers");
        values[i] = json_integer_value(item);
    }
    if (list) *n = found;
    return NN_OK;
}

nn_status nn_json_doubles(const nn_json *json, const char *key, int most, double *values, int *n)
{
    const json_t *list;
    int found = 0;
    NN_TRY(list_of(json, key, most, &list, &found));
    for (int i = 0; i < found; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_number(item)) return wrong_type(json, key, item, "a list of numbers");
        values[i] = json_number_value(item);
    }
    if (list) *n = found;
    return NN_OK;
}

nn_status nn_json_strings(const nn_json *json, const char *key, int most, const char **values,
                          int *n)
{
    const json_t *list;
    int found = 0;
    NN_TRY(list_of(json, key, most, &list, &found));
    for (int i = 0; i < found; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_string(item)) return wrong_type(json, key, item, "a list of strings");
        values[i] = json_string_value(item);
    }
    if (list) *n = found;
    return NN_OK;
}

nn_status nn_json_child(const nn_json *json, const char *key, nn_json *child)
{
    json_t *found = value_of(json, key);
    *child = (nn_json){ 0 };
    if (!found) return NN_OK;
    if (!json_is_object(found)) return wrong_type(json, key, found, "an object");
    *child = (nn_json){ found, json->file };
    return NN_OK;
}

nn_status nn_json_unknown(const nn_json *json, const char *const known[], int n, nn_text *report)
{
    for (void *it = json_object_iter(json->node); it; it = json_object_iter_next(json->node, it)) {
        const char *key = json_object_iter_key(it), *nearest = NULL;
        int best = INT_MAX;
        for (int i = 0; i < n; i++) {
            int distance = nn_edit_distance(key, known[i]);
            if (strcmp(key, known[i]) == 0) distance = -1;
            if (distance >= best) continue;
            best = distance;
            nearest = known[i];
        }
        if (best == -1 || key[0] == '_') continue;
        if (nearest && best <= 3)
            NN_TRY(nn_text_add(report, "%s: unknown key \"%.80s\"; did you mean \"%s\"?\n",
                               json->file, key, nearest));
        else
            NN_TRY(nn_text_add(report, "%s: unknown key \"%.80s\"\n", json->file, key));
    }
    return NN_OK;
}

nn_status nn_json_write_string(nn_text *out, const char *text)
{
    NN_TRY(nn_text_add_bytes(out, "\"", 1));
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            NN_TRY(nn_text_add(out, "\\%c", *p));
        else if ((unsigned char)*p < 0x20)
            NN_TRY(nn_text_add(out, "\\u%04x", (unsigned)*p));
        else
            NN_TRY(nn_text_add_bytes(out, p, 1));
    }
    return nn_text_add_bytes(out, "\"", 1);
}

const char *nn_json_real(double value, char out[NN_JSON_REAL])
{
    NN_ASSERT(isfinite(value));
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, NN_JSON_REAL, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    size_t n = strlen(out);
    if (!strpbrk(out, ".e")) snprintf(out + n, NN_JSON_REAL - n, ".0");
    return out;
}
