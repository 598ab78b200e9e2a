/* What the files of checkpoints share. */
#ifndef ENGINE_CHECKPOINT_INTERNAL_H
#define ENGINE_CHECKPOINT_INTERNAL_H

#include "engine/checkpoint.h"

enum { CHECKPOINT_SECTIONS = 4 };

/* A flat buffer of the training state, and the prefix of its tensors' names. */
typedef struct checkpoint_section {
    const char *prefix;
    float *values; /* NULL = not there */
    float *part;   /* what of it is here, if others hold the rest: then `values` is the room where
                      the parts meet, one section at a time */
} checkpoint_section;

/* All that a file holds besides nn_checkpoint. */
typedef struct checkpoint_content {
    const nn_params *params;                          /* names, shapes, places in the buffers */
    checkpoint_section sections[CHECKPOINT_SECTIONS]; /* values, m, v, average */
    const nn_optimizer_peers *peers; /* those of the parts; NULL = there are none */
    bool on_host;                    /* the values can be written from where they are */
    int64_t updates;                 /* of the optimizer */
} checkpoint_content;

checkpoint_content checkpoint_content_of(const nn_optimizer *optimizer);

/* Write a file into the directory, which is made if it is not there. All ranks of an optimizer of
 * parts do so together; its sections are gathered also when writing fails. */
nn_status checkpoint_write(const char *directory, const nn_checkpoint *state,
                           const checkpoint_content *content) NN_CHECKED;

/* -- the directory -- */

/* Names of checkpoints, newest first. Owner: nn_file_list_free. */
nn_status checkpoint_list(const char *directory, char ***names, int64_t *n) NN_CHECKED;

/* Remove what killed runs left half-written. */
nn_status checkpoint_remove_leftovers(const char *directory) NN_CHECKED;

/* Of those up to the step `just_written`, remove the oldest ones beyond the newest `keep` (0 = keep
 * all) that can be read. */
nn_status checkpoint_remove_older(const char *directory, int keep, int64_t just_written) NN_CHECKED;

#endif
