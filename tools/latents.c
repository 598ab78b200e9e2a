/* Latents of a corpus, computed once and kept in a file. */
#include "tools/latents.h"

#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "tools/cli.h"

enum { BATCH = 16 };

nn_status latents_picture(const nn_image *image, int64_t pixels, float *out)
{
    static const float half[3] = { 0.5f, 0.5f, 0.5f };
    nn_image resized = { 0 }, middle = { 0 };
    int64_t width, height;
    if (image->width == pixels && image->height == pixels) {
        nn_image_to_tensor(image, out, half, half);
        return NN_OK;
    }
    nn_resize_shortest_edge(image->width, image->height, pixels, &width, &height);
    NN_TRY(nn_image_resize(image, width, height, NN_RESIZE_LANCZOS, NN_RESIZE_PILLOW_13, &resized));
    nn_status status = nn_image_crop_center(&resized, pixels, pixels, &middle);
    if (status == NN_OK) nn_image_to_tensor(&middle, out, half, half);
    nn_image_free(&resized);
    nn_image_free(&middle);
    return status;
}

typedef struct batch {
    sd_codec *codec;
    nn_cache *cache;
    int64_t n, pixels, moments; /* moments: of one picture */
    uint64_t key[BATCH];
    float *images, *out;
} batch;

static nn_status flush(batch *b)
{
    if (!b->n) return NN_OK;
    NN_TRY(sd_codec_encode(b->codec, b->n, b->images, b->out));
    for (int64_t i = 0; i < b->n; i++)
        NN_TRY(nn_cache_add(b->cache, b->key[i], b->out + i * b->moments));
    b->n = 0;
    return NN_OK;
}

static nn_status add(batch *b, const nn_sample *sample, nn_shard_report *report)
{
    nn_image image = { 0 };
    uint64_t key = nn_sample_content(sample);
    if (nn_cache_find(b->cache, key)) return NN_OK;
    nn_status status = nn_image_decode(sample->image.data, sample->image.n, sample->key, &image);
    if (status == NN_MEMORY) return status;
    if (status != NN_OK)
        return nn_shard_report_add(report, NN_SHARD_CONTENT, sample->shard, sample->key,
                                   nn_error_message());
    status = latents_picture(&image, b->pixels, b->images + b->n * b->pixels * b->pixels * 3);
    nn_image_free(&image);
    NN_TRY(status);
    b->key[b->n++] = key;
    return b->n == BATCH ? flush(b) : NN_OK;
}

static nn_status encode_all(batch *b, const nn_shards *shards, nn_shard_report *report)
{
    int64_t n = nn_shards_count(shards);
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "latents", "picture", 0, n);
    for (int64_t i = 0; i < n && status == NN_OK && !nn_cli_interrupted(); i++) {
        status = add(b, nn_shards_at(shards, i), report);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    NN_TRY(status);
    if (nn_cli_interrupted())
        return nn_fail(NN_INTERRUPTED, "interrupted before the training began");
    return flush(b);
}

static nn_status open_batch(batch *b, const sd_model *m, nn_device *device, int64_t pixels,
                            const char *path)
{
    int64_t side = pixels / vae_stride(&m->vae), l = 2 * m->vae.latent_channels;
    int64_t dims[NN_CACHE_RANK] = { 1, side, side, l };
    uint64_t codec;
    NN_TRY(nn_params_hash(m->vae_params, &codec));
    codec = nn_mix(codec, (uint64_t)pixels);
    b->pixels = pixels;
    b->moments = side * side * l;
    if (nn_file_exists(path) && nn_cache_load(path, codec, dims, &b->cache) != NN_OK)
        nn_log(NN_LOG_WARN, "%s; the latents are computed again", nn_error_message());
    if (!b->cache) NN_TRY(nn_cache_create(codec, dims, &b->cache));
    NN_TRY(sd_codec_create(&m->vae, m->vae_params, device, BATCH, pixels, pixels, &b->codec));
    b->images = nn_alloc(BATCH * (pixels * pixels * 3 + b->moments), sizeof(float));
    NN_NEED(b->images);
    b->out = b->images + BATCH * pixels * pixels * 3;
    return NN_OK;
}

nn_status latents_of_shards(const sd_model *m, nn_device *device, const nn_shards *shards,
                            int64_t pixels, const char *path, bool save, nn_shard_report *report,
                            nn_cache **out)
{
    batch b = { 0 };
    nn_status status = open_batch(&b, m, device, pixels, path);
    int64_t had = b.cache ? nn_cache_count(b.cache) : 0;
    if (status == NN_OK) status = encode_all(&b, shards, report);
    if (status == NN_OK && save && nn_cache_count(b.cache) > had)
        status = nn_cache_save(b.cache, path);
    sd_codec_destroy(b.codec);
    nn_free(b.images);
    if (status != NN_OK) {
        nn_cache_close(b.cache);
        return status;
    }
    *out = b.cache;
    return NN_OK;
}
