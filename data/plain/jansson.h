/* The part of jansson's interface that this project reads JSON with, for builds without the
 * library (make CPU=0). Only such a build has this folder on its include path; then <jansson.h> is
 * this file. Names, types and meaning are jansson's, with these limits: documents are read, not
 * made; a document lives until json_decref of its root, and its parts live as long; texts of more
 * than 2^31 bytes are refused. Functions have names of their own behind the macros, so that a test
 * can hold them against the library in one program. */
#ifndef DATA_PLAIN_JANSSON_H
#define DATA_PLAIN_JANSSON_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    JSON_INTEGER,
    JSON_REAL,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
} json_type;

typedef struct json_t json_t;
typedef long long json_int_t;

typedef struct json_error_t {
    int line, column; /* from 1; column in characters */
    int position;     /* bytes from the start */
    char source[80];  /* the file, or "<buffer>" */
    char text[160];
} json_error_t;

#define JSON_REJECT_DUPLICATES 0x1
#define JSON_DECODE_ANY        0x4

#define json_loadb             nn_plain_json_loadb
#define json_load_file         nn_plain_json_load_file
#define json_decref            nn_plain_json_decref
#define json_typeof            nn_plain_json_typeof
#define json_string_value      nn_plain_json_string_value
#define json_integer_value     nn_plain_json_integer_value
#define json_real_value        nn_plain_json_real_value
#define json_number_value      nn_plain_json_number_value
#define json_array_size        nn_plain_json_array_size
#define json_array_get         nn_plain_json_array_get
#define json_object_size       nn_plain_json_object_size
#define json_object_get        nn_plain_json_object_get
#define json_object_iter       nn_plain_json_object_iter
#define json_object_iter_next  nn_plain_json_object_iter_next
#define json_object_iter_key   nn_plain_json_object_iter_key
#define json_object_iter_value nn_plain_json_object_iter_value

/* Read a document of n bytes: UTF-8, an object or a list at the top (anything with
 * JSON_DECODE_ANY), at most 2048 levels deep. NULL with *error filled (NULL = not wanted). Owner:
 * json_decref. */
json_t *json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error);
json_t *json_load_file(const char *path, size_t flags, json_error_t *error);
void json_decref(json_t *root); /* NULL is legal; parts of a document are not */

/* What is asked of a value of another type, or of NULL, gives 0 or NULL. */
json_type json_typeof(const json_t *value); /* not of NULL */
const char *json_string_value(const json_t *value);
json_int_t json_integer_value(const json_t *value);
double json_real_value(const json_t *value);
double json_number_value(const json_t *value); /* of both kinds of number */
size_t json_array_size(const json_t *value);
json_t *json_array_get(const json_t *value, size_t index);
size_t json_object_size(const json_t *value);
json_t *json_object_get(const json_t *value, const char *key);

/* Members in the order of the text. */
void *json_object_iter(json_t *object);
void *json_object_iter_next(json_t *object, void *iterator);
const char *json_object_iter_key(void *iterator);
json_t *json_object_iter_value(void *iterator);

#define json_is_object(v)  ((v) && json_typeof(v) == JSON_OBJECT)
#define json_is_array(v)   ((v) && json_typeof(v) == JSON_ARRAY)
#define json_is_string(v)  ((v) && json_typeof(v) == JSON_STRING)
#define json_is_integer(v) ((v) && json_typeof(v) == JSON_INTEGER)
#define json_is_real(v)    ((v) && json_typeof(v) == JSON_REAL)
#define json_is_number(v)  (json_is_integer(v) || json_is_real(v))
#define json_is_true(v)    ((v) && json_typeof(v) == JSON_TRUE)
#define json_is_false(v)   ((v) && json_typeof(v) == JSON_FALSE)
#define json_is_boolean(v) (json_is_true(v) || json_is_false(v))
#define json_is_null(v)    ((v) && json_typeof(v) == JSON_NULL)

#define json_array_foreach(array, index, value)                                                    \
    for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index));      \
         index++)

#define json_object_foreach(object, key, value)                                                    \
    for (void *member_ = json_object_iter(object);                                                 \
         member_ &&                                                                                \
         (key = json_object_iter_key(member_), value = json_object_iter_value(member_), true);     \
         member_ = json_object_iter_next(object, member_))

#endif
