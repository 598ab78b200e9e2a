/* Checkpoints of training: everything that a run needs to go on as if it had never stopped.
 *
 * One safetensors file DIR/step-00000300.safetensors: the parameters under their own names, so that
 * it is a weight file too; the moments as "adamw.m.<name>" and "adamw.v.<name>"; the moving average
 * as "ema.<name>"; and the rest as metadata. It is written beside its place and put there by a
 * rename, so that a crash leaves the older ones as they were. One run writes to a directory.
 *
 * An optimizer of a part has peers, over which a checkpoint gets and gives all parts: m, v and the
 * average, in this order. The file is that of one optimizer of all. */
#ifndef ENGINE_CHECKPOINT_H
#define ENGINE_CHECKPOINT_H

#include "engine/optim.h"

typedef struct nn_checkpoint {
    int64_t step;            /* steps of training done; names the file */
    int64_t epoch, position; /* where the data goes on */
    uint64_t seed;
    char *config; /* text of the configuration; owner of a loaded one: nn_free */
} nn_checkpoint;

/* Write a checkpoint, then remove the oldest ones beyond the newest `keep` (0 = keep all) that can
 * be read. What was just written is never removed; nor is anything when writing fails. The
 * directory is made if it is not there. When old ones cannot be removed, the log says so. */
nn_status nn_checkpoint_save(const char *directory, int keep, const nn_checkpoint *state,
                             const nn_optimizer *optimizer) NN_CHECKED;

/* Load one file into the optimizer and its store, which must have the same parameters. On failure
 * both are as they were: a tensor that is missing (NN_NOT_FOUND) or of another shape (NN_SHAPE) is
 * named. */
nn_status nn_checkpoint_load(const char *path, nn_checkpoint *state,
                             nn_optimizer *optimizer) NN_CHECKED;

/* Load the newest checkpoint of a directory that can be read; damaged ones are passed over with a
 * warning in the log. *found is false when there is none or no directory. When there are some and
 * none can be read, that is the last one's error: starting again from nothing is not ours to
 * decide.
 */
nn_status nn_checkpoint_resume(const char *directory, nn_checkpoint *state, nn_optimizer *optimizer,
                               bool *found) NN_CHECKED;

#endif
