/* JSON by recursive descent into an arena. */
#include "data/plain/jansson.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "engine/base/str.h"

enum { MOST_DEPTH = 2048, FIRST_CAPACITY = 8, LONGEST_NUMBER = 1024 };

/* A value; in an object's or a list's `items` also its key and its place. */
struct json_t {
    json_type type;
    const char *key;
    union {
        struct {
            const char *bytes;
            size_t n;
        } string;
        json_int_t integer;
        double real;
        struct {
            json_t **items;
            int64_t n, capacity;
            int32_t
                *slots; /* objects: 2 * capacity places by hash of the key; item + 1, 0 = free */
        } list;
    } as;
    int64_t place;
};

typedef struct document {
    json_t root; /* first: json_decref is given its address */
    nn_arena arena;
} document;

typedef struct reader {
    const char *start, *at, *end;
    size_t flags;
    int depth;
    nn_arena *arena;
    json_error_t *error;
} reader;

/* -- errors */

static bool fail(reader *r, const char *fmt, ...) NN_PRINTF(2, 3);

static bool fail(reader *r, const char *fmt, ...)
{
    va_list args;
    json_error_t *e = r->error;
    if (!e || e->line) return false; /* the first one counts */
    e->line = 1;
    for (const char *p = r->start; p < r->at; p++) {
        bool begins = ((unsigned char)*p & 0xc0) != 0x80;
        e->line += *p == '\n';
        e->column = *p == '\n' ? 0 : e->column + begins;
    }
    e->position = (int)(r->at - r->start);
    va_start(args, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, args);
    va_end(args);
    return false;
}

static bool fail_memory(reader *r)
{
    return fail(r, "out of memory");
}

/* -- letters */

static char peek(const reader *r)
{
    return r->at < r->end ? *r->at : 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_space(reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at) r->at++;
}

static bool take(reader *r, char c)
{
    if (peek(r) != c || r->at == r->end) return false;
    r->at++;
    return true;
}

static bool read_word(reader *r, const char *word, json_type type, json_t *out)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return fail(r, "invalid token");
    r->at += n;
    out->type = type;
    return true;
}

/* -- strings */

static bool read_hex(reader *r, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = peek(r);
        int digit = is_digit(c)              ? c - '0'
                    : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                    : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                             : -1;
        if (digit < 0) return fail(r, "invalid escape");
        *code = 16 * *code + (uint32_t)digit;
    }
    return true;
}

/* After "\u": one code point, which may take two escapes. */
static bool read_code(reader *r, char **to)
{
    uint32_t code, low;
    if (!read_hex(r, &code)) return false;
    if (code == 0) return fail(r, "\\u0000 is not allowed");
    if (code >= 0xdc00 && code <= 0xdfff) return fail(r, "invalid Unicode '\\u%04X'", code);
    if (code >= 0xd800 && code <= 0xdbff) {
        if (!take(r, '\\') || !take(r, 'u')) return fail(r, "invalid Unicode '\\u%04X'", code);
        if (!read_hex(r, &low)) return false;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, "invalid Unicode '\\u%04X\\u%04X'", code, low);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *to += nn_utf8_encode(code, *to);
    return true;
}

static bool read_escape(reader *r, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char c = peek(r);
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        r->at++;
        *(*to)++ = into[found - from];
        return true;
    }
    return take(r, 'u') ? read_code(r, to) : fail(r, "invalid escape");
}

/* The closing quote, or NULL. */
static const char *find_quote(const reader *r)
{
    const char *p = r->at;
    while (p < r->end && *p != '"') p += *p == '\\' ? 2 : 1;
    return p < r->end ? p : NULL;
}

/* After the opening quote. What is decoded is never longer than what was written. */
static bool read_string(reader *r, const char **bytes, size_t *n)
{
    const char *quote = find_quote(r);
    if (!quote) return fail(r, "premature end of input");
    char *out = nn_arena_alloc(r->arena, quote - r->at + 1, 1), *to = out;
    if (!out) return fail_memory(r);
    while (*r->at != '"') {
        uint32_t code;
        int length = nn_utf8_decode(r->at, quote - r->at, &code);
        if (!length) return fail(r, "unable to decode byte 0x%x", (unsigned char)*r->at);
        if (code < 0x20) return fail(r, "control character 0x%x", code);
        if (code == '\\') {
            r->at++;
            if (!read_escape(r, &to)) return false;
            continue;
        }
        memcpy(to, r->at, (size_t)length);
        to += length;
        r->at += length;
    }
    r->at++;
    *bytes = out;
    *n = (size_t)(to - out);
    return true;
}

/* -- numbers */

static void skip_digits(reader *r)
{
    while (is_digit(peek(r))) r->at++;
}

/* Passes over a number as the grammar has it. */
static bool scan_number(reader *r, bool *real)
{
    *real = false;
    (void)take(r, '-');
    if (!is_digit(peek(r))) return fail(r, "invalid token");
    bool zero = take(r, '0');
    if (zero && is_digit(peek(r))) return fail(r, "invalid token");
    skip_digits(r);
    if (take(r, '.')) {
        *real = true;
        if (!is_digit(peek(r))) return fail(r, "invalid token");
        skip_digits(r);
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        *real = true;
        r->at++;
        if (peek(r) == '+' || peek(r) == '-') r->at++;
        if (!is_digit(peek(r))) return fail(r, "invalid token");
        skip_digits(r);
    }
    return true;
}

static bool read_number(reader *r, json_t *out)
{
    char text[LONGEST_NUMBER];
    const char *start = r->at;
    bool real;
    if (!scan_number(r, &real)) return false;
    size_t n = (size_t)(r->at - start);
    if (n >= sizeof(text)) return fail(r, "a number of %zu digits", n);
    memcpy(text, start, n);
    text[n] = 0;
    errno = 0;
    out->type = real ? JSON_REAL : JSON_INTEGER;
    if (real)
        out->as.real = strtod(text, NULL);
    else
        out->as.integer = strtoll(text, NULL, 10);
    if (real && !isfinite(out->as.real)) return fail(r, "real number overflow");
    if (!real && errno == ERANGE) return fail(r, "too big integer");
    return true;
}

/* -- lists and objects */

static int64_t hash_place(const json_t *object, const char *key)
{
    return (int64_t)(nn_hash_text(key) % (uint64_t)(2 * object->as.list.capacity));
}

/* The slot of the key: where it is, or where it belongs. Half of the slots at least are free. */
static int64_t find_slot(const json_t *object, const char *key)
{
    int64_t size = 2 * object->as.list.capacity, at = hash_place(object, key);
    while (object->as.list.slots[at] &&
           strcmp(object->as.list.items[object->as.list.slots[at] - 1]->key, key) != 0)
        at = (at + 1) % size;
    return at;
}

static bool grow(reader *r, json_t *list)
{
    int64_t old = list->as.list.n, capacity = old ? 2 * old : FIRST_CAPACITY;
    json_t **items = nn_arena_alloc(r->arena, capacity, sizeof(*items));
    if (!items || capacity > INT32_MAX / 2) return fail_memory(r);
    if (old) memcpy(items, list->as.list.items, (size_t)old * sizeof(*items));
    list->as.list.items = items;
    list->as.list.capacity = capacity;
    if (list->type == JSON_ARRAY) return true;
    list->as.list.slots = nn_arena_alloc(r->arena, 2 * capacity, sizeof(int32_t));
    if (!list->as.list.slots) return fail_memory(r);
    for (int64_t i = 0; i < old; i++)
        list->as.list.slots[find_slot(list, items[i]->key)] = (int32_t)i + 1;
    return true;
}

static json_t *append(reader *r, json_t *list)
{
    if (list->as.list.n == list->as.list.capacity && !grow(r, list)) return NULL;
    json_t *item = nn_arena_alloc(r->arena, 1, sizeof(*item));
    if (!item) {
        fail_memory(r);
        return NULL;
    }
    item->place = list->as.list.n;
    list->as.list.items[list->as.list.n++] = item;
    return item;
}

static bool read_value(reader *r, json_t *out);

static bool read_array(reader *r, json_t *out)
{
    out->type = JSON_ARRAY;
    skip_space(r);
    if (take(r, ']')) return true;
    do {
        json_t *item = append(r, out);
        if (!item || !read_value(r, item)) return false;
        skip_space(r);
    } while (take(r, ','));
    return take(r, ']') || fail(r, "']' expected");
}

/* The place for a key's value: that of the same key before, or a new one. */
static json_t *place_of(reader *r, json_t *object, const char *key)
{
    if (object->as.list.capacity) {
        int32_t there = object->as.list.slots[find_slot(object, key)];
        if (there && (r->flags & JSON_REJECT_DUPLICATES)) {
            fail(r, "duplicate object key");
            return NULL;
        }
        if (there) return object->as.list.items[there - 1];
    }
    json_t *item = append(r, object);
    if (!item) return NULL;
    item->key = key;
    object->as.list.slots[find_slot(object, key)] = (int32_t)object->as.list.n;
    return item;
}

static bool read_member(reader *r, json_t *object)
{
    const char *key;
    size_t n;
    skip_space(r);
    if (!take(r, '"')) return fail(r, "string or '}' expected");
    if (!read_string(r, &key, &n)) return false;
    json_t *item = place_of(r, object, key);
    if (!item) return false;
    skip_space(r);
    if (!take(r, ':')) return fail(r, "':' expected");
    json_t value = { .key = item->key, .place = item->place };
    *item = value;
    return read_value(r, item);
}

static bool read_object(reader *r, json_t *out)
{
    out->type = JSON_OBJECT;
    skip_space(r);
    if (take(r, '}')) return true;
    do {
        if (!read_member(r, out)) return false;
        skip_space(r);
    } while (take(r, ','));
    return take(r, '}') || fail(r, "'}' expected");
}

static bool read_nested(reader *r, json_t *out)
{
    if (++r->depth > MOST_DEPTH) return fail(r, "maximum parsing depth reached");
    bool ok = take(r, '{') ? read_object(r, out) : take(r, '[') && read_array(r, out);
    r->depth--;
    return ok;
}

static bool read_value(reader *r, json_t *out)
{
    skip_space(r);
    switch (peek(r)) {
    case '{':
    case '[':
        return read_nested(r, out);
    case '"':
        r->at++;
        out->type = JSON_STRING;
        return read_string(r, &out->as.string.bytes, &out->as.string.n);
    case 't':
        return read_word(r, "true", JSON_TRUE, out);
    case 'f':
        return read_word(r, "false", JSON_FALSE, out);
    case 'n':
        return read_word(r, "null", JSON_NULL, out);
    default:
        return r->at == r->end ? fail(r, "premature end of input") : read_number(r, out);
    }
}

static bool read_document(reader *r, json_t *root)
{
    skip_space(r);
    bool any = r->flags & JSON_DECODE_ANY;
    if (!any && peek(r) != '{' && peek(r) != '[') return fail(r, "'[' or '{' expected");
    if (!read_value(r, root)) return false;
    skip_space(r);
    return r->at == r->end || fail(r, "end of file expected");
}

json_t *json_loadb(const char *bytes, size_t n, size_t flags, json_error_t *error)
{
    if (error) *error = (json_error_t){ .source = "<buffer>" };
    document *d = nn_alloc(1, sizeof(*d));
    if (!d) return NULL;
    reader r = { bytes, bytes, bytes + n, flags, 0, &d->arena, error };
    if (n <= INT32_MAX ? read_document(&r, &d->root) : fail(&r, "too long")) return &d->root;
    json_decref(&d->root);
    return NULL;
}

json_t *json_load_file(const char *path, size_t flags, json_error_t *error)
{
    char *bytes;
    int64_t n;
    json_t *root = NULL;
    if (nn_file_read(path, INT32_MAX, &bytes, &n) == NN_OK) {
        root = json_loadb(bytes, (size_t)n, flags, error);
        nn_free(bytes);
    } else if (error) {
        *error = (json_error_t){ 0 };
        snprintf(error->text, sizeof(error->text), "%s", nn_error_message());
    }
    if (error) snprintf(error->source, sizeof(error->source), "%s", path);
    return root;
}

void json_decref(json_t *root)
{
    document *d = (document *)root;
    if (!d) return;
    nn_arena_free(&d->arena);
    nn_free(d);
}

/* -- what is in it */

json_type json_typeof(const json_t *value)
{
    return value->type;
}

const char *json_string_value(const json_t *value)
{
    return json_is_string(value) ? value->as.string.bytes : NULL;
}

json_int_t json_integer_value(const json_t *value)
{
    return json_is_integer(value) ? value->as.integer : 0;
}

double json_real_value(const json_t *value)
{
    return json_is_real(value) ? value->as.real : 0;
}

double json_number_value(const json_t *value)
{
    return json_is_integer(value) ? (double)value->as.integer : json_real_value(value);
}

size_t json_array_size(const json_t *value)
{
    return json_is_array(value) ? (size_t)value->as.list.n : 0;
}

json_t *json_array_get(const json_t *value, size_t index)
{
    return index < json_array_size(value) ? value->as.list.items[index] : NULL;
}

size_t json_object_size(const json_t *value)
{
    return json_is_object(value) ? (size_t)value->as.list.n : 0;
}

json_t *json_object_get(const json_t *value, const char *key)
{
    if (!key || json_object_size(value) == 0) return NULL;
    int32_t there = value->as.list.slots[find_slot(value, key)];
    return there ? value->as.list.items[there - 1] : NULL;
}

void *json_object_iter(json_t *object)
{
    return json_object_size(object) ? object->as.list.items[0] : NULL;
}

void *json_object_iter_next(json_t *object, void *iterator)
{
    int64_t next = iterator ? ((json_t *)iterator)->place + 1 : 0;
    return next < (int64_t)json_object_size(object) ? object->as.list.items[next] : NULL;
}

const char *json_object_iter_key(void *iterator)
{
    return iterator ? ((json_t *)iterator)->key : NULL;
}

json_t *json_object_iter_value(void *iterator)
{
    return iterator;
}
