/* Strings: a text that grows, and small helpers. */
#ifndef ENGINE_BASE_STR_H
#define ENGINE_BASE_STR_H

#include "engine/base/status.h"

/* {0} is the empty text. `text` is always terminated once something was added; owner: nn_text_free.
 */
typedef struct nn_text {
    char *text;
    int64_t length, capacity;
} nn_text;

nn_status nn_text_add(nn_text *t, const char *fmt, ...) NN_PRINTF(2, 3) NN_CHECKED;
nn_status nn_text_add_bytes(nn_text *t, const void *bytes, int64_t n) NN_CHECKED;
void nn_text_clear(nn_text *t); /* keeps the memory */
void nn_text_free(nn_text *t);

bool nn_starts_with(const char *text, const char *prefix);
bool nn_ends_with(const char *text, const char *suffix);

/* Number of edits between two words; used to suggest the nearest name. */
int nn_edit_distance(const char *a, const char *b);

/* Length of the valid UTF-8 sequence at text (1 to 4), or 0 if there is none within n bytes; *code
 * gets it. */
int nn_utf8_decode(const char *text, int64_t n, uint32_t *code);
int nn_utf8_encode(uint32_t code, char out[4]);
bool nn_utf8_valid(const char *text, int64_t n);

#endif
