/* Pictures as files, with how they were made inside. */
#ifndef TOOLS_SAMPLE_OUTPUT_H
#define TOOLS_SAMPLE_OUTPUT_H

#include "tools/prompts.h"

typedef struct sample_info {
    const char *prompt, *negative, *scheduler, *model;
    int64_t steps, width, height;
    double guidance;
    uint64_t seed;
} sample_info;

/* image [height, width, 3] in [-1, 1] -> 8-bit PNG (round half to even) with a `parameters` text. A
 * value that is not finite is an error (NN_NUMERIC): no picture is written. */
nn_status sample_write_png(const char *path, const float *image,
                           const sample_info *info) NN_CHECKED;

/* DIR/samples.jsonl: for each picture the line of its prompt with "file" added. */
nn_status sample_write_list(const char *dir, const prompts *list, int64_t per_prompt) NN_CHECKED;

#endif
