/* Prompts of a run: one, or a file of them. */
#ifndef TOOLS_PROMPTS_H
#define TOOLS_PROMPTS_H

#include "engine/base/status.h"

typedef struct prompt_line {
    char *text;
    char *negative; /* NULL = what the run says */
    char *json;     /* the whole line where it was JSON, NULL otherwise */
    bool has_seed;
    uint64_t seed;
} prompt_line;

typedef struct prompts {
    prompt_line *lines;
    int64_t n, capacity;
} prompts;

nn_status prompts_one(const char *text, prompts *out) NN_CHECKED;

/* A text file with a prompt a line, or a file of JSON objects (*.jsonl) with "prompt" and maybe
 * "negative_prompt" and "seed". Empty lines are passed over. Owner: prompts_free. */
nn_status prompts_read(const char *path, prompts *out) NN_CHECKED;
void prompts_free(prompts *p);

#endif
