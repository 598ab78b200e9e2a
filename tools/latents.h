/* Latents of a corpus, computed once and kept in a file. */
#ifndef TOOLS_LATENTS_H
#define TOOLS_LATENTS_H

#include "data/cache.h"
#include "data/image.h"
#include "data/shards.h"
#include "models/stable_diffusion.h"

/* The picture as the codec takes it: shorter edge resized to `pixels` (Lanczos), the middle cut
 * out, [-1, 1]. out [pixels, pixels, 3]. */
nn_status latents_picture(const nn_image *image, int64_t pixels, float *out) NN_CHECKED;

/* Moments of every picture of the shards, from the cache file as far as it has them. Pictures
 * that cannot be read are reported and have none. save: what was computed goes to the file. Owner:
 * nn_cache_close. */
nn_status latents_of_shards(const sd_model *m, nn_device *device, const nn_shards *shards,
                            int64_t pixels, const char *path, bool save, nn_shard_report *report,
                            nn_cache **out) NN_CHECKED;

#endif
