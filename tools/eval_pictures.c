/* recap-eval pictures: scores pictures against the prompts that they were drawn for. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/captions.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/eval.h"

static const char *samples, *detector, *reference, *output;
static device_settings on = DEVICE_DEFAULTS;
static int64_t most_reference = 2000;

enum { MOST_PICTURE = 64 << 20, SEED = 1 };

const nn_option eval_pictures_options[] = {
    { .name = "samples",
      .text = &samples,
      .value = "DIR",
      .required = true,
      .help = "pictures, with samples.jsonl" },
    { .name = "detector",
      .text = &detector,
      .value = "DIR",
      .required = true,
      .help = "a trained detector" },
    { .name = "reference",
      .text = &reference,
      .value = "SHARDS",
      .help = "pictures that the Frechet distance is taken to" },
    { .name = "reference-count",
      .integer = &most_reference,
      .low = 2,
      .high = 1e9,
      .help = "pictures of these at most" },
    { .name = "output",
      .text = &output,
      .value = "FILE",
      .required = true,
      .help = "results are written there" },
    DEVICE_OPTIONS(on),
    { 0 },
};

/* -- pictures in DIR -------------------------------------------------------------------------- */

static nn_status read_picture(void *ctx, int64_t i, nn_image *image)
{
    const eval_set *set = ctx;
    char *bytes, *path = nn_format("%s/%s", samples, set->samples[i].file);
    int64_t n;
    NN_NEED(path);
    nn_status status = nn_file_read(path, MOST_PICTURE, &bytes, &n);
    if (status == NN_OK) {
        status = nn_image_decode(bytes, n, path, image);
        nn_free(bytes);
    }
    nn_free(path);
    return status;
}

static void score_picture(void *ctx, int64_t i, const nn_scene_detection *found, int n)
{
    eval_sample *s = &((eval_set *)ctx)->samples[i];
    s->score = nn_scene_score_picture(&s->answer, found, n);
}

/* -- reference pictures ----------------------------------------------------------------------- */

typedef struct corpus {
    const nn_shards *shards;
    double *exact, *one; /* of the pictures whose truth is in the corpus */
    int64_t n_known;
} corpus;

static nn_status read_reference(void *ctx, int64_t i, nn_image *image)
{
    const nn_sample *s = nn_shards_at(((corpus *)ctx)->shards, i);
    return nn_image_decode(s->image.data, s->image.n, s->key, image);
}

static bool truth_of(const nn_sample *s, nn_scene *scene)
{
    nn_captions *captions;
    if (nn_captions_parse(s, &captions) != NN_OK) return false;
    char *json = nn_captions_field(captions, "scene");
    nn_captions_free(captions);
    bool known = json && nn_scene_read_json(json, (int64_t)strlen(json), scene) == NN_OK;
    nn_free(json);
    return known;
}

static void score_reference(void *ctx, int64_t i, const nn_scene_detection *found, int n)
{
    corpus *c = ctx;
    nn_scene scene;
    if (!truth_of(nn_shards_at(c->shards, i), &scene)) return;
    c->exact[c->n_known] = nn_scene_score_picture(&scene, found, n).exact;
    c->one[c->n_known++] = 1;
}

/* Look at the reference, and prepare the distance to it. */
static nn_status look_at_corpus(eval_eye *eye, corpus *c, eval_set *set, metrics_frechet **out)
{
    int64_t n = nn_min(most_reference, nn_shards_count(c->shards));
    float *features = nn_alloc(n * eval_eye_width(eye), sizeof(*features));
    c->exact = nn_alloc(n, sizeof(*c->exact));
    c->one = nn_alloc(n, sizeof(*c->one));
    nn_status status = features && c->exact && c->one ? NN_OK : NN_MEMORY;
    if (status == NN_OK)
        status = eval_eye_look(eye, "reference", n, read_reference, score_reference, c, features);
    if (status == NN_OK) {
        set->ceiling =
            metrics_bootstrap((metrics_terms){ c->exact, c->one, c->n_known, false }, SEED);
        status = metrics_frechet_create(features, n, eval_eye_width(eye), out);
    }
    nn_free(features);
    nn_free(c->exact);
    nn_free(c->one);
    return status;
}

static nn_status look_at_reference(eval_eye *eye, eval_set *set, metrics_frechet **out)
{
    nn_shards *shards;
    nn_shard_report report = { 0 };
    nn_status status = nn_shards_open(reference, NULL, &report, &shards);
    nn_shard_report_free(&report);
    if (status != NN_OK) return status;
    corpus c = { .shards = shards };
    status = look_at_corpus(eye, &c, set, out);
    nn_shards_close(shards);
    return status;
}

/* The pictures of each split against the reference. */
static nn_status measure_distances(const metrics_frechet *f, eval_set *set, const float *features,
                                   int64_t width)
{
    float *part = nn_alloc(set->n * width, sizeof(*part));
    nn_status status = part ? NN_OK : NN_MEMORY;
    for (int split = 0; split < EVAL_SPLITS && status == NN_OK; split++) {
        int64_t n = 0;
        for (int64_t i = 0; i < set->n; i++)
            if (set->samples[i].split == split)
                memcpy(part + n++ * width, features + i * width, (size_t)width * sizeof(*part));
        eval_distance *d = &set->distance[split];
        if (n > 1) status = metrics_frechet_estimate(f, part, n, SEED, d->replicate, &d->estimate);
    }
    nn_free(part);
    return status;
}

static nn_status look(eval_eye *eye, eval_set *set)
{
    int64_t width = eval_eye_width(eye);
    metrics_frechet *f = NULL;
    float *features = nn_alloc(set->n * width, sizeof(*features));
    NN_NEED(features);
    nn_status status =
        eval_eye_look(eye, "pictures", set->n, read_picture, score_picture, set, features);
    if (status == NN_OK && reference) {
        status = look_at_reference(eye, set, &f);
        if (status == NN_OK) status = measure_distances(f, set, features, width);
    }
    metrics_frechet_destroy(f);
    nn_free(features);
    return status;
}

static void print_estimate(const char *name, const metrics_estimate *e)
{
    if (e->n && isfinite(e->value))
        printf("  %-12s %8.3f   %7.3f to %7.3f   n %lld\n", name, e->value, e->low, e->high,
               (long long)e->n);
}

static nn_status print_results(const eval_set *set)
{
    for (int split = 0; split < EVAL_SPLITS; split++) {
        printf("%s\n", eval_split_name(split));
        for (int k = 0; k < METRICS_KINDS; k++) {
            metrics_estimate e;
            NN_TRY(eval_figure(set, (metrics_kind)k, split, &e));
            print_estimate(metrics_name((metrics_kind)k), &e);
        }
        print_estimate("fd_detector", &set->distance[split].estimate);
    }
    return NN_OK;
}

nn_status eval_pictures(const nn_cli *cli)
{
    eval_set set;
    eval_eye *eye;
    (void)cli;
    NN_TRY(eval_read_samples(samples, &set));
    nn_status status = eval_eye_open(detector, &on, &eye);
    if (status == NN_OK) {
        status = look(eye, &set);
        eval_eye_close(eye);
    }
    if (status == NN_OK) status = eval_write(&set, output);
    if (status == NN_OK) status = print_results(&set);
    eval_free(&set);
    return status;
}
