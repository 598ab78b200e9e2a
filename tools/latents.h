/* Latents of a corpus, computed once and kept in a file. */
#ifndef TOOLS_LATENTS_H
#define TOOLS_LATENTS_H

#include "data/cache.h"
#include "data/image.h"
#include "data/shards.h"
#include "models/stable_diffusion.h"
#include "tools/trainer.h"

/* The picture as the codec takes it: shorter edge resized to `pixels` (Lanczos), the middle cut
 * out, [-1, 1]. out [pixels, pixels, 3]. */
nn_status latents_picture(const nn_image *image, int64_t pixels, float *out) NN_CHECKED;

/* Moments of every picture of the shards, from the cache file as far as it has them; the ranks
 * compute the others together, and the first one keeps them in the file, also now and then on the
 * way. Pictures that cannot be read are reported, each by one rank, and have none. Owner:
 * nn_cache_close. Errors: NN_INTERRUPTED, when what was computed is in the file; NN_NUMERIC for
 * latents that are not finite. */
nn_status latents_of_shards(const sd_model *m, nn_device *device, const nn_shards *shards,
                            int64_t pixels, const char *path, const trainer_ranks *ranks,
                            nn_shard_report *report, nn_cache **out) NN_CHECKED;

#endif
