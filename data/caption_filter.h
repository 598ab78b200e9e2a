/* What is wrong with a caption that a captioner wrote. */
#ifndef DATA_CAPTION_FILTER_H
#define DATA_CAPTION_FILTER_H

#include "engine/base/status.h"

/* X(name, bit, word in caption_info.flags) */
#define NN_CAPTION_FLAG_LIST(X)                                                                    \
    X(LOOP, 1, "loop")                                                                             \
    X(BOILERPLATE, 2, "boilerplate")                                                               \
    X(TOO_SHORT, 4, "short")                                                                       \
    X(TOO_LONG, 8, "long")                                                                         \
    X(NOT_TEXT, 16, "not-text")

typedef enum nn_caption_flag {
#define X(name, bit, word) NN_CAPTION_##name = bit,
    NN_CAPTION_FLAG_LIST(X)
#undef X
} nn_caption_flag;

const char *nn_caption_flag_name(unsigned bit); /* "unknown" for others */

/* Bounds, inclusive; 0 = none. RECAP drops captions that CLIP's 77 positions cannot hold: 75 tokens
 * without the two marks. */
typedef struct nn_caption_rules {
    int64_t least_words, most_words, most_tokens;
} nn_caption_rules;

/* Set of nn_caption_flag. n_tokens as the text encoder counts them; ignored unless most_tokens. */
unsigned nn_caption_check(const char *text, int64_t n_tokens, const nn_caption_rules *rules);

/* Whether words repeat as a stuck decoder repeats them: one or two words three times in a row,
 * three or more twice in a row, or any four words three times anywhere. Case and punctuation do not
 * count; of a longer text the first 256 words do. */
bool nn_caption_loops(const char *text);

/* Whether a phrase of web boilerplate, or of a model speaking of itself, occurs. */
bool nn_caption_is_boilerplate(const char *text);

int64_t nn_caption_words(const char *text); /* runs between white space */

#endif
