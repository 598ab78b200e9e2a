/* Brings samples to the trainer, decoded by threads, in an order that threads cannot change.
 *
 * The stream of items is infinite: epoch 0 in a random order, then epoch 1 in another, ... Item
 * number epoch * count + position is a function of (seed, corpus) alone; with R ranks and blocks of
 * B items, rank r gets the blocks r, r + R, r + 2R, ... counted from where the loader was opened. A
 * sample that cannot be
 * decoded is reported once, and wherever it comes up, the next one of the corpus that can be stands
 * in for it: so every position has an item, on every rank. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include "data/shards.h"

/* Turns a sample into an item: fills the zeroed slot. Called by several threads. NN_FORMAT,
 * NN_UNSUPPORTED and NN_NOT_FOUND mean that this sample is bad; any other error ends the run. After
 * an error the slot owns nothing. */
typedef nn_status nn_loader_decode(void *ctx, const nn_sample *sample, void *slot);
typedef void nn_loader_release(void *ctx, void *slot); /* frees what decode put there */

typedef struct nn_loader_config {
    int threads;       /* 0 = 2 */
    int64_t queue;     /* items decoded ahead; 0 = 4 a thread */
    uint64_t seed;     /* of the order */
    bool in_order;     /* the corpus's own order in every epoch */
    bool keep;         /* decode the whole corpus once and hold it in memory */
    int rank, n_ranks; /* n_ranks 0 = 1 */
    int64_t block;     /* items in a row that one rank takes; 0 = 1 */
    size_t slot_bytes;
    nn_loader_decode *decode;
    nn_loader_release *release; /* may be NULL */
    void *ctx;
} nn_loader_config;

typedef struct nn_loader_item {
    const nn_sample *sample;
    const void *slot;        /* valid until the next call */
    int64_t number;          /* of the sample in the corpus */
    int64_t epoch, position; /* of the item in the stream */
} nn_loader_item;

typedef struct nn_loader nn_loader;

/* Start at (epoch, position): 0, 0, or what nn_loader_tell gave. shards and report outlive the
 * loader; nobody else touches the report meanwhile. Owner: nn_loader_close. */
nn_status nn_loader_open(const nn_shards *shards, const nn_loader_config *config, int64_t epoch,
                         int64_t position, nn_shard_report *report, nn_loader **out) NN_CHECKED;
void nn_loader_close(nn_loader *loader);

nn_status nn_loader_next(nn_loader *loader, nn_loader_item *item) NN_CHECKED;

/* Where to open a loader so that it goes on after the items taken so far (by all ranks alike, and
 * whole blocks). */
void nn_loader_tell(const nn_loader *loader, int64_t *epoch, int64_t *position);

#endif
