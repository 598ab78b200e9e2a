/* A corpus of captioned pictures as a captioner trains on it: squares of the encoder's size, and
 * per caption column a row of ids with the column's prefix. */
#ifndef TOOLS_CAPTION_CORPUS_H
#define TOOLS_CAPTION_CORPUS_H

#include "data/captions.h"
#include "data/loader.h"
#include "models/captioner_folder.h"

/* How captions become rows. */
typedef struct caption_corpus_config {
    const char *shards, *columns; /* columns: a mix, "short=0.5,long=0.5" */
    int length;                   /* ids of a row, prefix included */
    int most_words;               /* words of a caption that are kept; 0 = all */
    nn_overlong overlong;
    uint64_t seed;     /* of the order and of the draw of columns */
    int rank, n_ranks; /* as the loader's; n_ranks 0 = 1 */
    int64_t block;
    const captioner_folder *model;
} caption_corpus_config;

typedef struct caption_corpus {
    caption_corpus_config config;
    nn_caption_mix mix;
    nn_caption_counts counts;
    const char *prefix[NN_MIX_COLUMNS]; /* of the mix's columns */
    nn_shards *shards;
    nn_shard_report report;
    nn_loader *loader;          /* after the first seek */
    _Atomic int64_t n_overlong; /* captions too long, of the samples decoded so far */
    _Atomic int64_t n_captions; /* that were looked at */
} caption_corpus;

/* The model must have a prefix for each column. What lies at `out` may not move while it is open.
 * Owner: caption_corpus_close. */
nn_status caption_corpus_open(const caption_corpus_config *config, caption_corpus *out) NN_CHECKED;

/* Reports what was drawn, what was too long and what could not be read; then frees. */
void caption_corpus_close(caption_corpus *corpus);

/* Go to item number `item` of the endless stream. The order is a function of the seed alone. */
nn_status caption_corpus_seek(caption_corpus *corpus, int64_t item) NN_CHECKED;

/* The next item as one row of a batch: pixels [S, S, 3] normalised, ids, labels and key mask (1 in
 * front of the padding) [length]. The column is a function of (seed, epoch, sample). */
nn_status caption_corpus_next(caption_corpus *corpus, float *pixels, int32_t *ids, int32_t *labels,
                              int32_t *seen) NN_CHECKED;

#endif
