/* The captions of a sample, and which of them a step trains on.
 *
 * The .json member of a shard:
 *
 *     { "captions": { "alt": "...", "base": "...", "short": "...", "long": "..." },
 *       "caption_info": { "short": { "tokens": 9, "logprob": -4.2, "model": "4f1c...",
 *                                    "flags": ["loop"] } },
 *       "scene": { ... } }
 *
 * A column is one name under "captions". Without "alt" the .txt member fills it, and without that
 * the "caption" of img2dataset's json. Fields that are not named here are kept as they are. */
#ifndef DATA_CAPTIONS_H
#define DATA_CAPTIONS_H

#include "data/shards.h"

typedef struct nn_captions nn_captions;

/* NN_FORMAT when the json or the text is malformed; NN_NOT_FOUND when no column is there at all.
 * Owner: nn_captions_free. */
nn_status nn_captions_parse(const nn_sample *sample, nn_captions **out) NN_CHECKED;
nn_status nn_captions_create(nn_captions **out) NN_CHECKED; /* without columns */
void nn_captions_free(nn_captions *captions);

/* Borrowed text of a column; NULL where it is missing or empty. */
const char *nn_captions_get(const nn_captions *captions, const char *column);

/* Calls visit for each column with text, in order of names; at most 64. */
typedef void nn_captions_visit(void *ctx, const char *column, const char *text);
void nn_captions_each(const nn_captions *captions, nn_captions_visit *visit, void *ctx);

/* What the relabeller knows about a caption that it wrote. */
typedef struct nn_caption_info {
    int64_t tokens;
    double logprob;    /* of the whole caption, natural logarithm */
    const char *model; /* hash of the captioner's weights */
    unsigned flags;    /* of data/caption_filter.h */
} nn_caption_info;

/* Set a column; info may be NULL. The text is copied and must be UTF-8. */
nn_status nn_captions_set(nn_captions *captions, const char *column, const char *text,
                          const nn_caption_info *info) NN_CHECKED;

/* A field beside "captions" ("scene") as JSON text. get: NULL where there is none or memory is
 * short; owner nn_free. */
char *nn_captions_field(const nn_captions *captions, const char *field);
nn_status nn_captions_set_field(nn_captions *captions, const char *field,
                                const char *json) NN_CHECKED;

/* The json member, keys sorted: equal captions give equal bytes. Appends. */
nn_status nn_captions_dump(const nn_captions *captions, nn_text *out) NN_CHECKED;

enum { NN_MIX_COLUMNS = 8, NN_MIX_NAME = 32, NN_CAPTION_EMPTY = -1 };

/* Which columns are drawn, and how often. */
typedef struct nn_caption_mix {
    int n;
    char column[NN_MIX_COLUMNS][NN_MIX_NAME];
    double weight[NN_MIX_COLUMNS]; /* sums to 1; 0 = drawn only where another is missing */
    double dropout;                /* share of samples that train on the empty text */
} nn_caption_mix;

/* "short=0.5,long=0.5"; "alt" alone is "alt=1". NN_ARGUMENT otherwise. */
nn_status nn_caption_mix_parse(const char *text, double dropout, nn_caption_mix *mix) NN_CHECKED;

typedef struct nn_caption_counts {
    int64_t drawn[NN_MIX_COLUMNS];
    int64_t dropped;  /* empty by dropout */
    int64_t fallback; /* another column, because the drawn one was missing */
    int64_t missing;  /* empty, because all were missing */
} nn_caption_counts;

/* The column (0 .. n-1) that a sample trains on in an epoch, or NN_CAPTION_EMPTY. present: bit i =
 * column i has text. A missing column gives way to the next of the mix, cyclically. A function of
 * (seed, epoch, id) alone. counts may be NULL. */
int nn_caption_draw(const nn_caption_mix *mix, unsigned present, uint64_t seed, int64_t epoch,
                    uint64_t id, nn_caption_counts *counts);

/* The same for a parsed sample; gives the text, "" where it is empty. */
const char *nn_caption_draw_text(const nn_caption_mix *mix, const nn_captions *captions,
                                 uint64_t seed, int64_t epoch, uint64_t id,
                                 nn_caption_counts *counts);

#endif
