/* Texts as arrays of Unicode code points: what the tokenizers need of Unicode. */
#ifndef DATA_UNICODE_H
#define DATA_UNICODE_H

#include "engine/base/status.h"
#include "engine/base/str.h"

/* {0} is the empty text. Owner: nn_codes_free. */
typedef struct nn_codes {
    int32_t *code;
    int64_t n, capacity;
} nn_codes;

nn_status nn_codes_add(nn_codes *codes, int32_t code) NN_CHECKED;

/* Append n bytes of UTF-8. Each maximal invalid sequence becomes one U+FFFD (Unicode 3.9, as Python
 * does with errors="replace"). */
nn_status nn_codes_add_utf8(nn_codes *codes, const char *text, int64_t n) NN_CHECKED;
void nn_codes_free(nn_codes *codes);

/* Bring codes[from..n) to the composed (NFC) or decomposed (NFD) normal form. */
nn_status nn_codes_nfc(nn_codes *codes, int64_t from) NN_CHECKED;
nn_status nn_codes_nfd(nn_codes *codes, int64_t from) NN_CHECKED;

/* Append the lower case of one code point; U+0130 is the only one that yields two. */
nn_status nn_codes_add_lower(nn_codes *codes, int32_t code) NN_CHECKED;

/* The same repair of invalid UTF-8, appended to a text. */
nn_status nn_text_add_utf8(nn_text *out, const char *text, int64_t n) NN_CHECKED;

/* Unicode classes. The space is White_Space, as \s of a regular expression. */
bool nn_is_space(int32_t code);
bool nn_is_letter(int32_t code);          /* L* */
bool nn_is_number(int32_t code);          /* N* */
bool nn_is_punctuation(int32_t code);     /* P* */
bool nn_is_nonspacing_mark(int32_t code); /* Mn */
bool nn_is_space_separator(int32_t code); /* Zs */
bool nn_is_other(int32_t code);           /* Cc Cf Cs Co; unassigned ones are not */
bool nn_is_cjk_ideograph(int32_t code);   /* the eight blocks of BERT's BasicTokenizer */

#endif
