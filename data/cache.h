/* Vectors that are computed once per image, such as a frozen VAE's latents, kept in one file.
 *
 * Keyed by the hash of the image's encoded bytes (nn_sample_content); the file belongs to one codec
 * (a hash of its weights and of the preprocessing) and one shape, and is refused by any other.
 *
 * File, little-endian: "NNCACHE1", u64 codec, i64 dims[4], i64 count, u64 FNV-1a of all that
 * follows; then u64 key[count] in the order of adding, f32 vector[count][elements]. */
#ifndef DATA_CACHE_H
#define DATA_CACHE_H

#include "engine/base/status.h"

enum { NN_CACHE_RANK = 4 };

typedef struct nn_cache nn_cache;

/* An empty cache. dims: outermost first, 1 for what is unused. Owner: nn_cache_close. */
nn_status nn_cache_create(uint64_t codec, const int64_t dims[NN_CACHE_RANK],
                          nn_cache **out) NN_CHECKED;

/* Read a file. NN_FORMAT when it is damaged or belongs to another codec or shape. */
nn_status nn_cache_load(const char *path, uint64_t codec, const int64_t dims[NN_CACHE_RANK],
                        nn_cache **out) NN_CHECKED;
void nn_cache_close(nn_cache *cache);

/* The vector of a key, or NULL; valid until the next add. Not while another thread adds. */
const float *nn_cache_find(const nn_cache *cache, uint64_t key);
nn_status nn_cache_add(nn_cache *cache, uint64_t key, const float *vector) NN_CHECKED; /* copies */

int64_t nn_cache_count(const nn_cache *cache);
nn_status nn_cache_save(const nn_cache *cache, const char *path) NN_CHECKED; /* all or nothing */

#endif
