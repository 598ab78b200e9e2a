/* Corpora of pictures: decoding to one size, the part held out, crops, PSNR. */
#include "tools/train_images.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "data/captions.h"
#include "data/image.h"
#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "models/detector.h"

enum { MOST_KEPT_BYTES = 1 << 30 };

void train_image_free(train_image *image)
{
    nn_free(image->rgb);
    *image = (train_image){ 0 };
}

/* Scale the shorter side to `size` and take the middle. */
static nn_status fit(nn_image *image, int64_t size)
{
    int64_t width, height;
    nn_image scaled, middle;
    if (image->width == size && image->height == size) return NN_OK;
    nn_resize_shortest_edge(image->width, image->height, size, &width, &height);
    NN_TRY(nn_image_resize(image, width, height, NN_RESIZE_LANCZOS, NN_RESIZE_PILLOW_13, &scaled));
    nn_status status = nn_image_crop_center(&scaled, size, size, &middle);
    nn_image_free(&scaled);
    NN_TRY(status);
    nn_image_free(image);
    *image = middle;
    return NN_OK;
}

static nn_status read_scene(const nn_sample *sample, nn_scene *scene)
{
    nn_captions *captions;
    NN_TRY(nn_captions_parse(sample, &captions));
    char *json = nn_captions_field(captions, "scene");
    nn_captions_free(captions);
    if (!json) return nn_fail(NN_NOT_FOUND, "%s: its json has no \"scene\"", sample->key);
    nn_status status = nn_scene_read_json(json, (int64_t)strlen(json), scene);
    nn_free(json);
    return status;
}

/* The truth, where there is one of this size. */
static nn_status decode_scene(const train_corpus *corpus, const nn_sample *sample, train_image *out)
{
    nn_status status = read_scene(sample, &out->scene);
    if (status == NN_OK && out->scene.size != corpus->size)
        status = nn_fail(NN_FORMAT, "%s: a scene of %d pixels, expected %" PRId64, sample->key,
                         out->scene.size, corpus->size);
    out->has_scene = status == NN_OK;
    return corpus->needs_scene || status == NN_MEMORY ? status : NN_OK;
}

static nn_status decode(void *ctx, const nn_sample *sample, void *slot)
{
    const train_corpus *corpus = ctx;
    train_image *out = slot;
    nn_image image;
    NN_TRY(decode_scene(corpus, sample, out));
    NN_TRY(nn_image_decode(sample->image.data, sample->image.n, sample->key, &image));
    nn_status status = fit(&image, corpus->size);
    if (status == NN_OK)
        out->rgb = image.rgb;
    else
        nn_image_free(&image);
    return status;
}

static void release(void *ctx, void *slot)
{
    (void)ctx;
    train_image_free(slot);
}

nn_status train_images_open(const train_corpus *corpus, train_images *out)
{
    *out = (train_images){ .corpus = *corpus };
    NN_TRY(nn_shards_open(corpus->shards, NULL, &out->report, &out->shards));
    int64_t n = nn_shards_count(out->shards);
    out->n_train = n - corpus->held_out;
    if (out->n_train >= 1) return NN_OK;
    train_images_close(out);
    return nn_fail(NN_ARGUMENT,
                   "%s: %" PRId64 " samples, of which %" PRId64
                   " are held out: none is left to train on; lower --held-out",
                   corpus->shards, n, corpus->held_out);
}

void train_images_close(train_images *images)
{
    int64_t faults = nn_shard_report_total(&images->report);
    nn_loader_close(images->loader);
    nn_shards_close(images->shards);
    if (faults)
        nn_log(NN_LOG_WARN,
               "%s: %" PRId64 " samples cannot be used; recap-data check lists them\n%s",
               images->corpus.shards, faults, images->report.lines.text);
    nn_shard_report_free(&images->report);
    *images = (train_images){ 0 };
}

nn_status train_images_next(train_images *images, const train_image **image, int64_t *number)
{
    int64_t n = nn_shards_count(images->shards);
    for (int64_t tries = 0; tries < 2 * n; tries++) {
        nn_loader_item item;
        NN_TRY(nn_loader_next(images->loader, &item));
        if (item.number >= images->n_train) continue;
        *image = item.slot;
        *number = item.number;
        return NN_OK;
    }
    return nn_fail(NN_FORMAT, "%s: no sample can be read but those held out",
                   images->corpus.shards);
}

nn_status train_images_skip(train_images *images, int64_t n)
{
    const train_image *image;
    int64_t number;
    for (int64_t i = 0; i < n; i++) NN_TRY(train_images_next(images, &image, &number));
    return NN_OK;
}

void train_images_tell(const train_images *images, int64_t *epoch, int64_t *position)
{
    nn_loader_tell(images->loader, epoch, position);
}

nn_status train_images_seek(train_images *images, int64_t epoch, int64_t position)
{
    const train_corpus *c = &images->corpus;
    int64_t bytes = 3 * c->size * c->size + (int64_t)sizeof(train_image);
    nn_loader_config config = {
        .keep = nn_shards_count(images->shards) <= MOST_KEPT_BYTES / bytes,
        .queue = 64,
        .seed = c->seed,
        .slot_bytes = sizeof(train_image),
        .decode = decode,
        .release = release,
        .ctx = &images->corpus,
    };
    nn_loader_close(images->loader);
    images->loader = NULL;
    return nn_loader_open(images->shards, &config, epoch, position, &images->report,
                          &images->loader);
}

static void tell(void *ctx, int64_t *epoch, int64_t *position)
{
    train_images_tell(ctx, epoch, position);
}

static nn_status seek(void *ctx, int64_t epoch, int64_t position)
{
    return train_images_seek(ctx, epoch, position);
}

trainer_stream train_images_stream(train_images *images)
{
    return (trainer_stream){ images, tell, seek };
}

nn_status train_images_read(const train_images *images, int64_t i, train_image *out)
{
    train_corpus corpus = images->corpus;
    *out = (train_image){ 0 };
    return decode(&corpus, nn_shards_at(images->shards, i), out);
}

/* A corner that keeps the crop inside. */
static int64_t inside(int64_t at, int64_t size, int64_t crop)
{
    return nn_max(0, nn_min(at, size - crop));
}

void train_crop_place(const train_image *image, int64_t size, int64_t crop, nn_rng *rng, int64_t *x,
                      int64_t *y)
{
    uint64_t places = (uint64_t)(size - crop) + 1;
    *x = (int64_t)nn_rng_below(rng, places);
    *y = (int64_t)nn_rng_below(rng, places);
    if (!image->has_scene || !image->scene.n_items) return;
    int64_t far = crop / 4;
    const nn_scene_item *it = &image->scene.item[nn_rng_below(rng, (uint64_t)image->scene.n_items)];
    int64_t dx = (int64_t)nn_rng_below(rng, 2 * (uint64_t)far + 1) - far;
    int64_t dy = (int64_t)nn_rng_below(rng, 2 * (uint64_t)far + 1) - far;
    *x = inside(it->x + it->size / 2 - crop / 2 + dx, size, crop);
    *y = inside(it->y + it->size / 2 - crop / 2 + dy, size, crop);
}

void train_crop_pixels(const train_image *image, int64_t size, int64_t crop, int64_t x, int64_t y,
                       float *out)
{
    for (int64_t row = 0; row < crop; row++)
        detector_pixels(image->rgb + 3 * ((y + row) * size + x), crop, out + 3 * row * crop);
}

void train_bytes(const float *pixels, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)fminf(fmaxf(127.5f * (pixels[i] + 1) + 0.5f, 0), 255);
}

double train_squared_error(const uint8_t *a, const uint8_t *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int d = a[i] - b[i];
        sum += (double)(d * d);
    }
    return sum;
}

double train_psnr(double mean_squared_error)
{
    return fmin(10 * log10(255.0 * 255.0 / mean_squared_error), 99);
}
