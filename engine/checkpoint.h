/* Checkpoints of training: everything that a run needs to go on as if it had never stopped.
 *
 * One safetensors file DIR/step-00000300.safetensors: the parameters under their own names, so that
 * it is a weight file too; the moments as "adamw.m.<name>" and "adamw.v.<name>"; the moving average
 * as "ema.<name>"; the rest as metadata; and checksums of it all, so that damage is found. It is
 * written beside its place, flushed and put there by a rename, so that whenever the process dies
 * there is the whole file or none, and the older ones are as they were. One run writes to a
 * directory.
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
 * be read; those of later steps are left alone and do not count. When writing fails nothing is
 * removed, and no part of a file stays behind; NN_IO says how much room there is. The directory is
 * made if it is not there. When old ones cannot be removed, the log says so. */
nn_status nn_checkpoint_save(const char *directory, int keep, const nn_checkpoint *state,
                             const nn_optimizer *optimizer) NN_CHECKED;

/* Bytes of the tensors of a checkpoint, with the padding that they have in memory. */
int64_t nn_checkpoint_bytes(const nn_optimizer *optimizer);

/* Load one file into the optimizer and its store, which must have the same parameters. On failure
 * both are as they were: a tensor that is missing (NN_NOT_FOUND) or of another shape (NN_SHAPE) is
 * named, and so is what is damaged (NN_FORMAT). */
nn_status nn_checkpoint_load(const char *path, nn_checkpoint *state,
                             nn_optimizer *optimizer) NN_CHECKED;

/* Load the newest checkpoint of a directory that can be loaded; damaged ones and those of another
 * model are passed over with a warning in the log. *found is false when there is none or no
 * directory. When there are some and none can be loaded, that is the last one's error: starting
 * again from nothing is not ours to decide. */
nn_status nn_checkpoint_resume(const char *directory, nn_checkpoint *state, nn_optimizer *optimizer,
                               bool *found) NN_CHECKED;

/* -- saving while training goes on -- */

/* Writes checkpoints from a copy of the training state, of nn_checkpoint_bytes in host memory, by a
 * thread. One at a time: start, then wait. */
typedef struct nn_saver nn_saver;

/* What became of a save. */
typedef struct nn_saved {
    nn_status status;
    char message[1024]; /* the error's */
    int64_t step;
    double seconds; /* in which the thread wrote it */
} nn_saved;

/* Takes the memory. keep: as for nn_checkpoint_save. The optimizer is borrowed. Owner:
 * nn_saver_destroy, which waits. */
nn_status nn_saver_create(const char *directory, int keep, const nn_optimizer *optimizer,
                          nn_saver **out) NN_CHECKED;
void nn_saver_destroy(nn_saver *s);

/* Copy the state as it is now and begin to write it: when this returns, training may go on. No
 * other save may be under way. Errors are those of copying; of writing, nn_saver_wait tells. */
nn_status nn_saver_start(nn_saver *s, const nn_checkpoint *state) NN_CHECKED;

/* Whether a save was started and nobody has waited for it yet; whether it has ended by now. */
bool nn_saver_is_busy(const nn_saver *s);
bool nn_saver_is_done(const nn_saver *s);

/* Wait for the save that was started. */
void nn_saver_wait(nn_saver *s, nn_saved *out);

#endif
