/* Relabelling, a batch at a time: pictures and captions in, samples with more columns out. */
#ifndef TOOLS_RELABEL_BATCH_H
#define TOOLS_RELABEL_BATCH_H

#include "data/caption_filter.h"
#include "data/captions.h"
#include "tools/captioning.h"

/* A captioner and the columns it writes. */
typedef struct relabel_author {
    captioner_folder model;
    captioning *captioning; /* NULL = this author does not take part */
    char hash[20];          /* of the weights */
    int n;
    const char *column[CAPTIONING_PREFIXES]; /* in the order of its prefixes */
} relabel_author;

enum { RELABEL_AUTHORS = 2 };

typedef struct relabel_counts {
    int64_t samples, captions, failed, dropped;
    int64_t flagged[5]; /* by bit of nn_caption_flag */
} relabel_counts;

typedef struct relabel_batch {
    relabel_author *author; /* [RELABEL_AUTHORS] */
    nn_pool *pool;
    nn_caption_rules rules;
    const nn_clip_bpe *counter; /* tokens are counted with it; NULL = the captioner's own */
    bool drop_flagged;
    int64_t size; /* samples at most */
    relabel_counts counts;
    /* of the batch at hand */
    int n;
    const nn_sample **sample;
    nn_image *picture;      /* empty where it cannot be read */
    nn_captions **captions; /* NULL there */
    nn_text *error;         /* why */
    uint64_t *id;
    caption *caption;
} relabel_batch;

nn_status relabel_batch_init(relabel_batch *b, int64_t size) NN_CHECKED; /* the fields above stay */
void relabel_batch_deinit(relabel_batch *b);

/* Caption samples [first, first + n) of the shards and append them to w, in order. A sample that
 * cannot be read is copied as it is and reported. */
nn_status relabel_batch_run(relabel_batch *b, const nn_shards *shards, int64_t first, int n,
                            nn_shard_report *report, nn_shard_writer *w) NN_CHECKED;

#endif
