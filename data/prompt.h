/* The attention syntax of prompts: which words count how much.
 *
 *     (words)        1.1 times          [words]     1 / 1.1 times
 *     (words:1.3)    1.3 times          \( \) \[ \] \\   the character itself
 *     BREAK          the words behind it begin a new window of the text encoder
 *
 * Brackets nest and multiply; one that is not closed holds to the end; one that is not opened, and
 * a colon without a number and a closing bracket, are text. Source: AUTOMATIC1111's web UI,
 * modules/prompt_parser.py, parse_prompt_attention. */
#ifndef DATA_PROMPT_H
#define DATA_PROMPT_H

#include "engine/base/str.h"

enum {
    NN_PROMPT_MAX_DEPTH = 64,   /* brackets inside each other */
    NN_PROMPT_MAX_WEIGHT = 1000 /* of a word, either way */
};

typedef struct nn_prompt_part {
    nn_text text; /* text.text is NULL when it is empty */
    double weight;
    bool new_window; /* BREAK stood in front of it */
} nn_prompt_part;

/* {0} is empty. Owner: nn_prompt_free. */
typedef struct nn_prompt {
    nn_prompt_part *parts;
    int64_t n, capacity;
} nn_prompt;

/* Neighbours have different weights or a BREAK between them. NN_ARGUMENT: deeper
 * brackets or larger weights than the limits. */
nn_status nn_prompt_parse(const char *text, nn_prompt *out) NN_CHECKED;
void nn_prompt_free(nn_prompt *p);

#endif
