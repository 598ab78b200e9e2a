/* A corpus of captioned pictures as the UNet trains on it: noised latents, timesteps and prompts.
 *
 * Pictures become latents once and are kept in a cache; captions become ids when a sample is first
 * read. What a sample trains on (caption column, timestep, noise) is a function of (seed, sample,
 * turn), so that two runs that differ in captions alone see the same noise. */
#ifndef TOOLS_DIFFUSION_CORPUS_H
#define TOOLS_DIFFUSION_CORPUS_H

#include "data/captions.h"
#include "data/loader.h"
#include "tools/latents.h"
#include "tools/plan_losses.h"

/* Texts are read while the corpus is opened, and not kept. */
typedef struct diffusion_corpus_config {
    const char *shards, *columns; /* columns: a mix, "short=0.5,long=0.5" */
    const char *latent_cache;     /* file */
    double prompt_dropout;        /* share of samples with the empty prompt */
    double snr_gamma;             /* of the loss's weights; 0 = all are 1 */
    bool drop_overlong;           /* captions with too many tokens are left out, not cut */
    int64_t resolution;           /* of the pictures; 0 = what the UNet was made for */
    uint64_t seed;                /* of order, columns, timesteps and noise */
    bool in_order;                /* the corpus's own order in every epoch */
    const trainer_ranks *ranks;
    const sd_model *model;
    nn_device *device;
} diffusion_corpus_config;

typedef struct diffusion_corpus {
    diffusion_corpus_config config;
    nn_caption_mix mix;
    nn_caption_counts counts;
    nn_shards *shards;
    nn_shard_report report;
    nn_cache *latents;
    nn_loader *loader;           /* after the first seek */
    int64_t side, places, t_len; /* latent side, places of a latent, ids of a prompt */
    _Atomic int64_t n_overlong;
    int32_t *empty;                              /* ids of the empty prompt */
    float *x, *noise, *answer, *t, *weight, *x0; /* one batch */
    int32_t *ids;
} diffusion_corpus;

/* What lies at `out` may not move while it is open. Owner: diffusion_corpus_close, also after an
 * error. */
nn_status diffusion_corpus_open(const diffusion_corpus_config *config,
                                diffusion_corpus *out) NN_CHECKED;
void diffusion_corpus_close(diffusion_corpus *corpus); /* {0} is fine */

/* Go to a place of the stream that the loader told, or to its start (0, 0). */
nn_status diffusion_corpus_seek(diffusion_corpus *corpus, int64_t epoch,
                                int64_t position) NN_CHECKED;

/* The next sample, to place i of the batch. turn: what its noise and timestep are a function of,
 * beside seed and sample. */
nn_status diffusion_corpus_next(diffusion_corpus *corpus, int64_t i, int64_t turn) NN_CHECKED;

/* The batch to the inputs. */
nn_status diffusion_corpus_write(const diffusion_corpus *corpus, nn_plan *plan,
                                 const diffusion_inputs *inputs) NN_CHECKED;

/* The loss of a batch: a scalar, the mean over its samples. */
nn_tensor *diffusion_corpus_loss(const diffusion_corpus *corpus, nn_graph *g, bool recompute,
                                 diffusion_inputs *inputs);

#endif
