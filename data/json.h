/* Configuration files in JSON, with errors that name the file and the key.
 *
 * A getter leaves *value alone when the key is absent or null, so a caller fills its structure with
 * the defaults of the format and lets the file override them. */
#ifndef DATA_JSON_H
#define DATA_JSON_H

#include "engine/base/status.h"
#include "engine/base/str.h"

struct json_t; /* jansson's */

/* Most bytes of a configuration and of a tokenizer file. */
enum { NN_JSON_CONFIG_BYTES = 1 << 20, NN_JSON_TOKENIZER_BYTES = 64 << 20 };

/* A JSON object. One that was opened owns its document; one from nn_json_child borrows. */
typedef struct nn_json {
    struct json_t *node; /* NULL: an absent object, all of whose keys are absent */
    char *file;          /* for messages */
} nn_json;

/* Read a file of at most `most` bytes whose top level is an object. A key that occurs twice is an
 * error. Owner: nn_json_close. */
nn_status nn_json_open(const char *path, int64_t most, nn_json *json) NN_CHECKED;

/* The configuration DIR/NAME. Owner: nn_json_close. */
nn_status nn_json_open_config(const char *dir, const char *name, nn_json *json) NN_CHECKED;

/* The same for n bytes at hand; `file` names them in messages. */
nn_status nn_json_parse(const char *bytes, int64_t n, const char *file, nn_json *json) NN_CHECKED;
void nn_json_close(nn_json *json);

/* There, and not null. */
bool nn_json_has(const nn_json *json, const char *key);

/* NN_FORMAT with the name nearest to it when the key is absent or null. */
nn_status nn_json_need(const nn_json *json, const char *key) NN_CHECKED;

nn_status nn_json_int(const nn_json *json, const char *key, int *value) NN_CHECKED;
nn_status nn_json_int64(const nn_json *json, const char *key, int64_t *value) NN_CHECKED;
nn_status nn_json_double(const nn_json *json, const char *key, double *value) NN_CHECKED;
nn_status nn_json_bool(const nn_json *json, const char *key, bool *value) NN_CHECKED;

/* The strings stay the document's. */
nn_status nn_json_string(const nn_json *json, const char *key, const char **value) NN_CHECKED;

/* Lists of at most `most` elements; *n gets the number found. */
nn_status nn_json_ints(const nn_json *json, const char *key, int most, int64_t *values,
                       int *n) NN_CHECKED;
nn_status nn_json_doubles(const nn_json *json, const char *key, int most, double *values,
                          int *n) NN_CHECKED;
nn_status nn_json_strings(const nn_json *json, const char *key, int most, const char **values,
                          int *n) NN_CHECKED;

/* The object under a key, borrowed; absent gives an object without keys. */
nn_status nn_json_child(const nn_json *json, const char *key, nn_json *child) NN_CHECKED;

/* Add to `report` one line per key that is not among the n known ones, with the known name nearest
 * to it when it is close. Keys that begin with "_" are remarks and are left out. */
nn_status nn_json_unknown(const nn_json *json, const char *const known[], int n,
                          nn_text *report) NN_CHECKED;

/* Append a value as JSON; flags are jansson's. */
nn_status nn_json_write(nn_text *out, const struct json_t *value, size_t flags) NN_CHECKED;

/* Append a string as JSON, in quotes and with escapes. */
nn_status nn_json_write_string(nn_text *out, const char *text) NN_CHECKED;

/* A finite number as JSON, in as few digits as give it back exactly. It has a point or an exponent:
 * readers that tell integers from floats refuse 0 where 0.0 is meant. Returns out. */
enum { NN_JSON_REAL = 32 };
const char *nn_json_real(double value, char out[NN_JSON_REAL]);

#endif
