/* recap-train detector: the judge, on scenes whose truth is known and on what the codec makes of
 * them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "models/detector.h"
#include "tools/train.h"
#include "tools/train_images.h"
#include "tools/train_rebuild.h"
#include "tools/trainer.h"

enum { LOOK_BATCH = 20 };

static trainer_settings set = { TRAINER_DEFAULTS };
static const char *data, *codec;
static int64_t resolution = 64, objects = NN_SCENE_OBJECTS, width = 64, blocks = 3, held_out = 500;
static double reconstructed = 0.5;

static const nn_option options[] = {
    TRAINER_OPTIONS(set),
    { .name = "train-data",
      .text = &data,
      .value = "SHARDS",
      .required = true,
      .help = "scenes: a tar, a directory of them, or a list in braces" },
    { .name = "resolution",
      .integer = &resolution,
      .low = 16,
      .high = 512,
      .help = "pixels a side of the scenes" },
    { .name = "objects",
      .integer = &objects,
      .low = 1,
      .high = NN_SCENE_OBJECTS,
      .help = "kinds of objects" },
    { .name = "width",
      .integer = &width,
      .low = 16,
      .high = 1024,
      .help = "channels, a multiple of 16" },
    { .name = "blocks", .integer = &blocks, .low = 0, .high = 64, .help = "residual blocks" },
    { .name = "codec",
      .text = &codec,
      .value = "DIR",
      .incidental = true,
      .help = "a trained codec, so that its reconstructions are familiar" },
    { .name = "reconstructed",
      .real = &reconstructed,
      .low = 0,
      .high = 1,
      .help = "share of the samples that went through the codec" },
    { .name = "held-out",
      .integer = &held_out,
      .low = 1,
      .high = 100000,
      .help = "samples at the end of the corpus that only measure" },
    { 0 },
};

typedef struct run {
    detector_config c;
    nn_device *device;
    nn_params *params;
    train_images images;
    rebuilt rebuilt;
    nn_tensor *pixels, *targets; /* inputs */
    float *batch, *heat;         /* of one pass, or of one look */
} run;

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    run *r = ctx;
    int64_t k = detector_cells(&r->c);
    r->pixels = nn_input(g, "pixels", NN_F32, NN_DIMS(set.ranks.batch, r->c.size, r->c.size, 3));
    r->targets = nn_input(g, "targets", NN_F32, NN_DIMS(set.ranks.batch, k, k, r->c.n_objects));
    return detector_loss(nn_root(g, params, ""), &r->c, r->pixels, r->targets);
}

static int64_t picture_pixels(const run *r)
{
    return (int64_t)r->c.size * r->c.size;
}

static int64_t heat_elems(const run *r)
{
    return detector_cells(&r->c) * detector_cells(&r->c) * r->c.n_objects;
}

static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    run *r = ctx;
    NN_TRY(train_images_skip(&r->images, pass->before));
    for (int64_t i = 0; i < set.ranks.batch; i++) {
        const train_image *image;
        int64_t number;
        NN_TRY(train_images_next(&r->images, &image, &number));
        const uint8_t *other = rebuilt_at(&r->rebuilt, number);
        detector_pixels(other ? other : image->rgb, picture_pixels(r),
                        r->batch + 3 * i * picture_pixels(r));
        detector_target(&r->c, &image->scene, r->heat + i * heat_elems(r));
    }
    NN_TRY(nn_plan_write(plan, r->pixels, r->batch));
    NN_TRY(nn_plan_write(plan, r->targets, r->heat));
    return train_images_skip(&r->images, pass->after);
}

/* -- measuring -------------------------------------------------------------------------------- */

/* Scenes first .. first + n - 1 of the corpus as they are, or where `rebuilt` has them, from
 * there. */
static nn_status look(run *r, detector_session *session, int64_t first, int64_t n,
                      const rebuilt *from, int64_t *exact)
{
    nn_scene scenes[LOOK_BATCH];
    for (int64_t i = 0; i < n; i++) {
        train_image image;
        NN_TRY(train_images_read(&r->images, first + i, &image));
        const uint8_t *other = from ? rebuilt_at(from, first + i) : NULL;
        detector_pixels(other ? other : image.rgb, picture_pixels(r),
                        r->batch + 3 * i * picture_pixels(r));
        scenes[i] = image.scene;
        train_image_free(&image);
    }
    NN_TRY(detector_session_look(session, r->batch, r->heat, NULL));
    for (int64_t i = 0; i < n; i++) {
        nn_scene_detection found[DETECTOR_MOST];
        int n_found = detector_peaks(&r->c, r->heat + i * heat_elems(r), found);
        *exact += detector_is_exact(&scenes[i], found, n_found);
    }
    return NN_OK;
}

/* Share of the held-out scenes that are found exactly. */
static nn_status measure(run *r, const rebuilt *from, double *rate)
{
    detector_session *session;
    int64_t exact = 0;
    NN_TRY(detector_session_create(&r->c, r->params, r->device, LOOK_BATCH, &session));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < held_out && status == NN_OK; i += LOOK_BATCH)
        status =
            look(r, session, r->images.n_train + i, nn_min(LOOK_BATCH, held_out - i), from, &exact);
    detector_session_destroy(session);
    *rate = (double)exact / (double)held_out;
    return status;
}

static nn_status measure_rebuilt(run *r, double *rate)
{
    rebuilt all = { 0 };
    nn_status status = rebuilt_open(codec, &r->images, r->device, r->images.n_train, held_out, 1,
                                    (uint64_t)set.seed, &all);
    if (status == NN_OK) status = measure(r, &all, rate);
    rebuilt_close(&all);
    return status;
}

/* -- results ---------------------------------------------------------------------------------- */

static nn_status write_text(const char *name, const nn_text *text)
{
    char *path = nn_format("%s/%s", set.output, name);
    NN_NEED(path);
    nn_status status = nn_file_write(path, text->text, text->length);
    nn_free(path);
    return status;
}

static nn_status write_metrics(nn_field *fields, int n)
{
    nn_text text = { 0 };
    nn_status status = nn_text_add(&text, "{");
    for (int i = 0; i < n && status == NN_OK; i++)
        status =
            nn_text_add(&text, "%s\n  \"%s\": %.9g", i ? "," : "", fields[i].name, fields[i].value);
    if (status == NN_OK) status = nn_text_add(&text, "\n}\n");
    if (status == NN_OK) status = write_text("metrics.json", &text);
    nn_text_free(&text);
    nn_cli_log("detector", fields, n);
    for (int i = 1; i < n; i++)
        printf("%s: %.1f %% of %" PRId64 " held-out scenes\n", fields[i].name,
               100 * fields[i].value, held_out);
    return status;
}

static nn_status save(run *r)
{
    nn_text text = { 0 };
    char *path = nn_format("%s/model.safetensors", set.output);
    NN_NEED(path);
    nn_status status = nn_params_save(r->params, path, NULL, 0, NN_F32);
    nn_free(path);
    if (status == NN_OK) status = detector_config_write(&r->c, &text);
    if (status == NN_OK) status = write_text("config.json", &text);
    nn_text_free(&text);
    return status;
}

static nn_status finish(run *r)
{
    nn_field fields[] = { { "held_out", (double)held_out },
                          { "exact_real", 0 },
                          { "exact_reconstructed", 0 } };
    NN_TRY(save(r));
    NN_TRY(measure(r, NULL, &fields[1].value));
    if (codec) NN_TRY(measure_rebuilt(r, &fields[2].value));
    return write_metrics(fields, codec ? 3 : 2);
}

/* -- the run ---------------------------------------------------------------------------------- */

static nn_status train_judge(run *r)
{
    static const char *const files[] = { "config.json", "diffusion_pytorch_model.safetensors",
                                         NULL };
    trainer t = { .what = "detector",
                  .set = set,
                  .options = options,
                  .n_samples = nn_shards_count(r->images.shards),
                  .device = r->device,
                  .params = r->params,
                  .ctx = r,
                  .build = build,
                  .feed = feed,
                  .stream = train_images_stream(&r->images) };
    if (codec) NN_TRY(trainer_hash_files(codec, files, &t.start));
    NN_TRY(trainer_hash_params(r->params, &t.start));
    t.data = nn_shards_hash(r->images.shards, 0);
    return trainer_run(&t);
}

static nn_status work(void *ctx, nn_device *device)
{
    run *r = ctx;
    const train_corpus corpus = { .shards = data,
                                  .size = resolution,
                                  .held_out = held_out,
                                  .needs_scene = true,
                                  .seed = (uint64_t)set.seed };
    int64_t most = nn_max(set.ranks.batch, LOOK_BATCH);
    r->device = device;
    NN_TRY(train_images_open(&corpus, &r->images));
    NN_NEED(r->batch = nn_alloc(most * 3 * picture_pixels(r), sizeof(float)));
    NN_NEED(r->heat = nn_alloc(most * heat_elems(r), sizeof(float)));
    if (codec && reconstructed > 0)
        NN_TRY(rebuilt_open(codec, &r->images, device, 0, r->images.n_train, reconstructed,
                            (uint64_t)set.seed, &r->rebuilt));
    NN_TRY(trainer_make_params(build, r, device, &r->params));
    NN_TRY(nn_params_init(r->params, (uint64_t)set.seed));
    NN_TRY(train_judge(r));
    return set.ranks.rank ? NN_OK : finish(r);
}

static void close_run(void *ctx)
{
    run *r = ctx;
    nn_params_destroy(r->params);
    rebuilt_close(&r->rebuilt);
    nn_free(r->batch);
    nn_free(r->heat);
    train_images_close(&r->images);
}

/* The options as the file that they become, so that they meet the same checks. */
static nn_status make_config(detector_config *c)
{
    nn_text text = { 0 };
    nn_json json;
    *c = detector_config_default((int)objects, (int)resolution);
    c->width = (int)width;
    c->n_blocks = (int)blocks;
    nn_status status = detector_config_write(c, &text);
    if (status == NN_OK) status = nn_json_parse(text.text, text.length, "the options", &json);
    nn_text_free(&text);
    NN_TRY(status);
    status = detector_config_parse(&json, c);
    nn_json_close(&json);
    return status;
}

static nn_status train(const nn_cli *cli)
{
    run r = { 0 };
    (void)cli;
    NN_TRY(make_config(&r.c));
    return trainer_command(&set, &r, work, close_run);
}

const nn_command train_detector_command = {
    .name = "detector",
    .summary = "train the judge that finds objects in scenes",
    .example = "recap-train detector --config tools/demo/train_detector.json --train-data "
               "out/demo/corpus --codec out/demo/vae --output-dir out/demo/detector",
    .options = options,
    .run = train,
    .ranks = true,
};
