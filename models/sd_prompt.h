/* Prompts as Stable Diffusion's text encoder takes them: windows of 77 ids. */
#ifndef MODELS_SD_PROMPT_H
#define MODELS_SD_PROMPT_H

#include "models/stable_diffusion.h"

enum { SD_MAX_WINDOWS = 3 };

typedef struct sd_prompt_rules {
    bool weights; /* "(word:1.2)" is attention (data/prompt.h); otherwise it is text */
    int windows;  /* how many a prompt may fill: 1 .. SD_MAX_WINDOWS */
} sd_prompt_rules;

/* {0} is empty. Owner: sd_prompt_free. */
typedef struct sd_prompt {
    int n_windows;
    int64_t length; /* ids of a window: the encoder's positions */
    int32_t *ids;   /* [n_windows, length]: start, content, end, and ends up to the length */
    float *weight;  /* of each id, the same shape */
    bool weighted;  /* one of them is not 1 */
    char *cut;      /* what did not fit, as text; NULL = everything fits */
} sd_prompt;

/* The content is cut every length - 2 ids, and at a BREAK where windows is more than 1. */
nn_status sd_prompt_make(const sd_model *m, const char *text, const sd_prompt_rules *rules,
                         sd_prompt *out) NN_CHECKED;
void sd_prompt_free(sd_prompt *p);

/* Add empty windows up to n: a prompt and its negative need as many. */
nn_status sd_prompt_widen(const sd_model *m, sd_prompt *p, int n_windows) NN_CHECKED;

#endif
