/* Latents of a corpus, computed once and kept in a file. */
#include "tools/latents.h"

#include <math.h>
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "tools/cli.h"

enum { BATCH = 16 };
static const double SAVE_S = 600; /* between copies of the file */

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

/* Latents in the making. In a round each rank makes BATCH of them and tells all. */
typedef struct work {
    sd_codec *codec;
    nn_cache *cache;
    const trainer_ranks *ranks;
    const nn_shards *shards;
    nn_shard_report *report;
    const char *path;
    int64_t *todo, n_todo;   /* numbers of the samples that a rank has no latent of */
    int64_t pixels, moments; /* moments: of one picture */
    int64_t record, n_told;  /* floats of one told latent, and of a rank's round */
    int64_t n_saved;         /* latents in the file */
    float *images, *encoded; /* of this rank's round */
    float *told, *heard;     /* this rank's round and all of them: how many, whether the rank was
                                interrupted; of each latent the bits of its key, and moments */
} work;

/* The pictures of this rank's round that can be read, at most BATCH from todo[first] on. */
static nn_status decode_round(work *w, int64_t first, uint64_t *keys, int64_t *n)
{
    *n = 0;
    for (int64_t i = first; i < nn_min(first + BATCH, w->n_todo); i++) {
        const nn_sample *sample = nn_shards_at(w->shards, w->todo[i]);
        nn_image image = { 0 };
        nn_status status =
            nn_image_decode(sample->image.data, sample->image.n, sample->key, &image);
        if (status == NN_OK)
            status = latents_picture(&image, w->pixels, w->images + *n * w->pixels * w->pixels * 3);
        nn_image_free(&image);
        if (status == NN_MEMORY) return status;
        if (status == NN_OK)
            keys[(*n)++] = nn_sample_content(sample);
        else
            NN_TRY(nn_shard_report_add(w->report, NN_SHARD_CONTENT, sample->shard, sample->key,
                                       nn_error_message()));
    }
    return NN_OK;
}

static bool is_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* What the codec makes of them, to w->told. */
static nn_status encode_round(work *w, int64_t first)
{
    uint64_t keys[BATCH];
    int64_t n;
    NN_TRY(decode_round(w, first, keys, &n));
    if (n) NN_TRY(sd_codec_encode(w->codec, n, w->images, w->encoded));
    w->told[0] = (float)n;
    w->told[1] = nn_cli_interrupted();
    for (int64_t i = 0; i < n; i++) {
        float *record = w->told + 2 + i * w->record;
        const float *moments = w->encoded + i * w->moments;
        if (!is_finite(moments, w->moments))
            return nn_fail(NN_NUMERIC, "the codec makes latents that are not finite; its weights "
                                       "are damaged, or too large for what it computes in");
        memcpy(record, &keys[i], sizeof(keys[i]));
        memcpy(record + 2, moments, (size_t)w->moments * sizeof(*moments));
    }
    return NN_OK;
}

/* One round, from todo[first] on. */
static nn_status run_round(work *w, int64_t first, bool *stop)
{
    const trainer_ranks *r = w->ranks;
    NN_TRY(encode_round(w, first + r->rank * BATCH));
    if (r->n > 1) NN_TRY(nn_comm_all_gather(r->comm, NN_F32, w->n_told, w->told, w->heard));
    for (int k = 0; k < r->n; k++) {
        const float *heard = (r->n > 1 ? w->heard : w->told) + k * w->n_told;
        for (int64_t i = 0; i < (int64_t)heard[0]; i++) {
            uint64_t key;
            memcpy(&key, heard + 2 + i * w->record, sizeof(key));
            NN_TRY(nn_cache_add(w->cache, key, heard + 2 + i * w->record + 2));
        }
        *stop = *stop || heard[1] != 0;
    }
    return NN_OK;
}

/* The first rank keeps what there is. */
static nn_status save(work *w)
{
    const int64_t n = nn_cache_count(w->cache);
    if (w->ranks->rank || n == w->n_saved) return NN_OK;
    NN_TRY(nn_cache_save(w->cache, w->path));
    w->n_saved = n;
    return NN_OK;
}

static nn_status run_rounds(work *w)
{
    const int64_t step = BATCH * w->ranks->n;
    nn_progress progress;
    nn_status status = NN_OK;
    bool stop = false;
    double saved = nn_clock_seconds();
    nn_progress_start(&progress, "latents", "picture", 0, w->n_todo);
    for (int64_t i = 0; i < w->n_todo && status == NN_OK && !stop; i += step) {
        status = run_round(w, i, &stop);
        nn_progress_step(&progress, nn_min(i + step, w->n_todo), NULL, 0);
        if (status != NN_OK || nn_clock_seconds() - saved < SAVE_S) continue;
        status = save(w);
        saved = nn_clock_seconds();
    }
    nn_progress_stop(&progress);
    NN_TRY(status);
    if (!stop) return NN_OK;
    NN_TRY(save(w));
    return nn_fail(NN_INTERRUPTED,
                   "interrupted before the training began; %lld latents are in %s, and the same "
                   "command goes on",
                   (long long)nn_cache_count(w->cache), w->path);
}

/* The samples without a latent on any rank: the same on all, whatever files they have. */
static nn_status list_todo(work *w)
{
    const int64_t n = nn_shards_count(w->shards);
    float *missing = nn_alloc(n, sizeof(*missing));
    NN_NEED(missing);
    for (int64_t i = 0; i < n; i++)
        missing[i] = !nn_cache_find(w->cache, nn_sample_content(nn_shards_at(w->shards, i)));
    nn_status status = NN_OK;
    if (w->ranks->n > 1) status = nn_comm_all_reduce(w->ranks->comm, NN_F32, n, missing);
    for (int64_t i = 0; i < n && status == NN_OK; i++)
        if (missing[i] != 0) w->todo[w->n_todo++] = i;
    nn_free(missing);
    return status;
}

static nn_status open_cache(work *w, const sd_model *m)
{
    const int64_t side = w->pixels / vae_stride(&m->vae), l = 2 * m->vae.latent_channels;
    const int64_t dims[NN_CACHE_RANK] = { 1, side, side, l };
    uint64_t codec;
    NN_TRY(nn_params_hash(m->vae_params, &codec));
    codec = nn_mix(codec, (uint64_t)w->pixels);
    w->moments = side * side * l;
    if (nn_file_exists(w->path) && nn_cache_load(w->path, codec, dims, &w->cache) != NN_OK)
        nn_log(NN_LOG_WARN, "%s; the latents are computed again", nn_error_message());
    if (!w->cache) NN_TRY(nn_cache_create(codec, dims, &w->cache));
    w->n_saved = nn_cache_count(w->cache);
    return NN_OK;
}

static nn_status reserve(work *w)
{
    const int64_t pixels = w->pixels * w->pixels * 3;
    w->record = 2 + w->moments;
    w->n_told = 2 + BATCH * w->record;
    w->images = nn_alloc(BATCH * (pixels + w->moments), sizeof(float));
    NN_NEED(w->images);
    w->encoded = w->images + BATCH * pixels;
    w->told = nn_alloc((w->ranks->n + 1) * w->n_told, sizeof(float));
    NN_NEED(w->told);
    w->heard = w->told + w->n_told;
    return NN_OK;
}

static nn_status run(work *w, const sd_model *m, nn_device *device)
{
    NN_TRY(open_cache(w, m));
    NN_NEED(w->todo = nn_alloc(nn_shards_count(w->shards), sizeof(*w->todo)));
    NN_TRY(list_todo(w));
    if (!w->n_todo) return NN_OK;
    NN_TRY(reserve(w));
    NN_TRY(sd_codec_create(&m->vae, m->vae_params, device, BATCH, w->pixels, w->pixels, &w->codec));
    NN_TRY(run_rounds(w));
    return save(w);
}

nn_status latents_of_shards(const sd_model *m, nn_device *device, const nn_shards *shards,
                            int64_t pixels, const char *path, const trainer_ranks *ranks,
                            nn_shard_report *report, nn_cache **out)
{
    work w = { .ranks = ranks, .shards = shards, .report = report, .path = path, .pixels = pixels };
    const nn_status status = run(&w, m, device);
    sd_codec_destroy(w.codec);
    nn_free(w.images);
    nn_free(w.told);
    nn_free(w.todo);
    if (status != NN_OK) {
        nn_cache_close(w.cache);
        return status;
    }
    *out = w.cache;
    return NN_OK;
}
