/* recap-train vae: the image codec, on pictures alone. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/stable_diffusion.h"
#include "tools/train.h"
#include "tools/train_images.h"
#include "tools/trainer.h"

enum { MEASURED = 256, MEASURE_BATCH = 16 };

static trainer_settings set = { TRAINER_DEFAULTS };
static const char *config_dir, *data;
static int64_t resolution = 512, crop, held_out = 64;
static double kl_weight = 1e-6;

static const nn_option options[] = {
    TRAINER_OPTIONS(set),
    { .name = "config-dir",
      .text = &config_dir,
      .value = "DIR",
      .required = true,
      .incidental = true,
      .help = "DIR/config.json describes the codec (diffusers AutoencoderKL)" },
    { .name = "train-data",
      .text = &data,
      .value = "SHARDS",
      .required = true,
      .help = "a tar, a directory of them, or a list in braces" },
    { .name = "resolution",
      .integer = &resolution,
      .low = 8,
      .high = 4096,
      .help = "pixels a side of the pictures; others are scaled and cut" },
    { .name = "crop",
      .integer = &crop,
      .low = 0,
      .high = 4096,
      .help = "train on squares of so many pixels, around objects where known; 0 = whole" },
    { .name = "held-out",
      .integer = &held_out,
      .low = 1,
      .high = 100000,
      .help = "samples at the end of the corpus that only measure" },
    { .name = "kl-weight",
      .real = &kl_weight,
      .low = 0,
      .high = 1,
      .help = "weight of the latents' divergence from the unit normal" },
    { 0 },
};

typedef struct run {
    vae_config c;
    nn_device *device;
    nn_params *params;
    train_images images;
    int64_t side, latent;     /* pixels a side of a training picture; elements of its latent */
    nn_tensor *image, *noise; /* inputs */
    float *pixels, *normal;   /* of one pass */
} run;

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    run *r = ctx;
    int64_t places = r->side / vae_stride(&r->c);
    r->image = nn_input(g, "image", NN_F32, NN_DIMS(set.ranks.batch, r->side, r->side, 3));
    r->noise = nn_input(g, "noise", NN_F32,
                        NN_DIMS(set.ranks.batch, places, places, r->c.latent_channels));
    return vae_loss(nn_root(g, params, ""), &r->c, r->image, r->noise, kl_weight);
}

static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    run *r = ctx;
    NN_TRY(train_images_skip(&r->images, pass->before));
    for (int64_t i = 0; i < set.ranks.batch; i++) {
        const train_image *image;
        int64_t number, x, y;
        nn_rng place = nn_rng_make((uint64_t)set.seed, "crop", (uint64_t)(pass->first + i));
        nn_rng noise = nn_rng_make((uint64_t)set.seed, "posterior", (uint64_t)(pass->first + i));
        NN_TRY(train_images_next(&r->images, &image, &number));
        train_crop_place(image, resolution, r->side, &place, &x, &y);
        train_crop_pixels(image, resolution, r->side, x, y, r->pixels + i * 3 * r->side * r->side);
        nn_rng_normal_fill(&noise, r->normal + i * r->latent, r->latent);
    }
    NN_TRY(nn_plan_write(plan, r->image, r->pixels));
    NN_TRY(nn_plan_write(plan, r->noise, r->normal));
    return train_images_skip(&r->images, pass->after);
}

/* -- measuring -------------------------------------------------------------------------------- */

typedef struct sums {
    int64_t latents, pixels; /* elements */
    double z, z2;            /* of latents: sum of means, of squares with the drawn part */
    double error;            /* squared, of 8-bit values */
} sums;

typedef struct ruler {
    sd_codec *codec;
    int64_t elems; /* of a picture */
    float *pixels, *moments, *latents;
    uint8_t *truth, *bytes;
} ruler;

static nn_status ruler_create(run *r, ruler *out)
{
    out->elems = 3 * resolution * resolution;
    NN_TRY(sd_codec_create(&r->c, r->params, r->device, MEASURE_BATCH, resolution, resolution,
                           &out->codec));
    int64_t latents = MEASURE_BATCH * sd_codec_latent_elems(out->codec);
    NN_NEED(out->pixels = nn_alloc(MEASURE_BATCH * out->elems, sizeof(float)));
    NN_NEED(out->moments = nn_alloc(2 * latents, sizeof(float)));
    NN_NEED(out->latents = nn_alloc(latents, sizeof(float)));
    NN_NEED(out->truth = nn_alloc(MEASURE_BATCH * out->elems, 1));
    NN_NEED(out->bytes = nn_alloc(MEASURE_BATCH * out->elems, 1));
    return NN_OK;
}

static void ruler_destroy(ruler *m)
{
    sd_codec_destroy(m->codec);
    nn_free(m->pixels);
    nn_free(m->moments);
    nn_free(m->latents);
    nn_free(m->truth);
    nn_free(m->bytes);
}

static void add_latents(const vae_config *c, const float *moments, int64_t places, sums *out)
{
    int64_t l = c->latent_channels;
    for (int64_t p = 0; p < places; p++)
        for (int64_t k = 0; k < l; k++) {
            double mean = moments[p * 2 * l + k];
            out->z += mean;
            out->z2 += mean * mean + (double)expf(moments[p * 2 * l + l + k]);
        }
    out->latents += places * l;
}

static nn_status measure_batch(run *r, ruler *m, int64_t first, int64_t n, sums *out)
{
    for (int64_t i = 0; i < n; i++) {
        train_image image;
        NN_TRY(train_images_read(&r->images, first + i, &image));
        memcpy(m->truth + i * m->elems, image.rgb, (size_t)m->elems);
        train_crop_pixels(&image, resolution, resolution, 0, 0, m->pixels + i * m->elems);
        train_image_free(&image);
    }
    int64_t places = n * sd_codec_latent_elems(m->codec) / r->c.latent_channels;
    NN_TRY(sd_codec_encode(m->codec, n, m->pixels, m->moments));
    add_latents(&r->c, m->moments, places, out);
    sd_latent(&r->c, places, m->moments, NULL, m->latents);
    NN_TRY(sd_codec_decode(m->codec, n, m->latents, m->pixels));
    train_bytes(m->pixels, n * m->elems, m->bytes);
    out->error += train_squared_error(m->truth, m->bytes, n * m->elems);
    out->pixels += n * m->elems;
    return NN_OK;
}

/* Whole pictures first .. first + n - 1 of the corpus through the codec and back. */
static nn_status measure(run *r, int64_t first, int64_t n, sums *out)
{
    ruler m = { 0 };
    *out = (sums){ 0 };
    nn_status status = ruler_create(r, &m);
    for (int64_t i = 0; i < n && status == NN_OK; i += MEASURE_BATCH)
        status = measure_batch(r, &m, first + i, nn_min(MEASURE_BATCH, n - i), out);
    ruler_destroy(&m);
    return status;
}

static double deviation(const sums *s)
{
    double mean = s->z / (double)s->latents;
    return sqrt(s->z2 / (double)s->latents - mean * mean);
}

/* -- results ---------------------------------------------------------------------------------- */

static nn_status write_json(const char *name, const json_t *root)
{
    nn_text text = { 0 };
    char *path = nn_format("%s/%s", set.output, name);
    size_t how = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    nn_status status = path ? nn_json_write(&text, root, how) : NN_MEMORY;
    if (status == NN_OK) status = nn_text_add(&text, "\n");
    if (status == NN_OK) status = nn_file_write(path, text.text, text.length);
    nn_text_free(&text);
    nn_free(path);
    return status;
}

/* The configuration that training began with, with the factor that was measured. */
static nn_status write_config(double scaling_factor)
{
    nn_json json;
    NN_TRY(nn_json_open_config(config_dir, "config.json", &json));
    json_object_set_new(json.node, "scaling_factor", json_real(scaling_factor));
    nn_status status = write_json("config.json", json.node);
    nn_json_close(&json);
    return status;
}

static nn_status write_metrics(double psnr, double deviation_of_latents)
{
    const nn_field fields[] = { { "psnr", psnr },
                                { "held_out", (double)held_out },
                                { "latent_std", deviation_of_latents } };
    json_t *root = json_object();
    for (int i = 0; i < NN_COUNT(fields); i++)
        json_object_set_new(root, fields[i].name, json_real(fields[i].value));
    nn_status status = write_json("metrics.json", root);
    json_decref(root);
    nn_cli_log("vae", fields, NN_COUNT(fields));
    printf("%.2f dB on %" PRId64 " held-out pictures; latents scaled by %.4f\n", psnr, held_out,
           1 / deviation_of_latents);
    return status;
}

static nn_status finish(run *r)
{
    sums train, test;
    NN_TRY(measure(r, 0, nn_min(MEASURED, r->images.n_train), &train));
    NN_TRY(measure(r, r->images.n_train, held_out, &test));
    char *path = nn_format("%s/diffusion_pytorch_model.safetensors", set.output);
    NN_NEED(path);
    nn_status status = nn_params_save(r->params, path, NULL, 0, NN_F32);
    nn_free(path);
    NN_TRY(status);
    NN_TRY(write_config(1 / deviation(&train)));
    return write_metrics(train_psnr(test.error / (double)test.pixels), deviation(&train));
}

/* -- the run ---------------------------------------------------------------------------------- */

static int64_t crop_side(void)
{
    return crop ? crop : resolution;
}

static nn_status read_config(vae_config *c)
{
    nn_json json;
    NN_TRY(nn_json_open_config(config_dir, "config.json", &json));
    nn_status status = vae_config_parse(&json, c);
    nn_json_close(&json);
    NN_TRY(status);
    if (c->in_channels != 3 || c->out_channels != 3)
        return nn_fail(NN_UNSUPPORTED, "%s/config.json: %lld channels in, %lld out, expected 3",
                       config_dir, (long long)c->in_channels, (long long)c->out_channels);
    int64_t stride = vae_stride(c), side = crop_side();
    if (resolution % stride || side % stride || side > resolution)
        return nn_fail(NN_ARGUMENT,
                       "--resolution %" PRId64 " and --crop %" PRId64
                       ": both must be multiples of the codec's stride %" PRId64
                       ", and the crop not the larger",
                       resolution, crop, stride);
    return NN_OK;
}

/* Multiply a parameter's values. */
static nn_status scale_param(nn_params *params, nn_param *p, float factor)
{
    int64_t n = nn_view_elems(&p->view);
    float *values = nn_alloc(n, sizeof(*values));
    NN_NEED(values);
    nn_status status = nn_params_read(params, p, values);
    for (int64_t i = 0; i < n; i++) values[i] *= factor;
    if (status == NN_OK) status = nn_params_write(params, p, values);
    nn_free(values);
    return status;
}

/* Training starts from a nearly linear codec: what ends a residual branch is zero, and the
 * convolutions outside the branches keep the variance (the layers' own start divides it by three).
 * The same number of updates then gives 4 dB more. */
static nn_status start_linear(nn_params *params)
{
    for (int64_t i = 0; i < params->n; i++) {
        nn_param *p = params->items[i];
        bool last =
            nn_ends_with(p->name, ".conv2.weight") || nn_ends_with(p->name, ".to_out.0.weight");
        bool inner = nn_ends_with(p->name, ".conv1.weight") || strstr(p->name, ".to_");
        if (p->view.rank < 2 || (inner && !last)) continue;
        NN_TRY(scale_param(params, p, last ? 0 : sqrtf(3)));
    }
    return NN_OK;
}

static nn_status train_codec(run *r)
{
    static const char *const files[] = { "config.json", NULL };
    trainer t = { .what = "vae",
                  .set = set,
                  .options = options,
                  .n_samples = nn_shards_count(r->images.shards),
                  .device = r->device,
                  .params = r->params,
                  .ctx = r,
                  .build = build,
                  .feed = feed,
                  .stream = train_images_stream(&r->images) };
    NN_TRY(trainer_hash_files(config_dir, files, &t.start));
    NN_TRY(trainer_hash_params(r->params, &t.start));
    t.data = nn_shards_hash(r->images.shards, 0);
    return trainer_run(&t);
}

static nn_status work(void *ctx, nn_device *device)
{
    run *r = ctx;
    const train_corpus corpus = {
        .shards = data, .size = resolution, .held_out = held_out, .seed = (uint64_t)set.seed
    };
    int64_t places = crop_side() / vae_stride(&r->c);
    r->device = device;
    r->side = crop_side();
    r->latent = places * places * r->c.latent_channels;
    NN_TRY(train_images_open(&corpus, &r->images));
    NN_NEED(r->pixels = nn_alloc(set.ranks.batch * 3 * r->side * r->side, sizeof(float)));
    NN_NEED(r->normal = nn_alloc(set.ranks.batch * r->latent, sizeof(float)));
    NN_TRY(trainer_make_params(build, r, device, &r->params));
    NN_TRY(nn_params_init(r->params, (uint64_t)set.seed));
    NN_TRY(start_linear(r->params));
    NN_TRY(train_codec(r));
    return set.ranks.rank ? NN_OK : finish(r);
}

static void close_run(void *ctx)
{
    run *r = ctx;
    nn_params_destroy(r->params);
    nn_free(r->pixels);
    nn_free(r->normal);
    train_images_close(&r->images);
}

static nn_status train(const nn_cli *cli)
{
    run r = { 0 };
    (void)cli;
    NN_TRY(read_config(&r.c));
    return trainer_command(&set, &r, work, close_run);
}

const nn_command train_vae_command = {
    .name = "vae",
    .summary = "train the image codec",
    .example = "recap-train vae --config tools/demo/train_vae.json --config-dir tools/demo/vae "
               "--train-data out/demo/corpus --output-dir out/demo/vae",
    .options = options,
    .run = train,
    .ranks = true,
};
