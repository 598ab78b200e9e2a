/* recap-train diffusion: the UNet and the text encoder of Stable Diffusion on captioned pictures.
 *
 * Pictures become latents once, before the training, and are kept in a cache beside the output;
 * captions become ids when a sample is first read. What a sample trains on (caption column,
 * timestep, noise) is a function of (seed, sample, step), so that two arms that differ in captions
 * alone see the same noise. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/captions.h"
#include "data/loader.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "models/stable_diffusion.h"
#include "tools/latents.h"
#include "tools/train.h"
#include "tools/trainer.h"

static trainer_settings set = { TRAINER_DEFAULTS, .steps = 250000, .lr = 1e-5 };
static const char *model_dir, *data_spec, *latent_cache, *columns = "short=0.5,long=0.5";
static double prompt_dropout = 0.1, snr_gamma;
static bool from_scratch, recompute;
static int64_t resolution, snapshot_steps;
static int overlong = 1;
static const char *const overlong_names[] = { "truncate", "drop", NULL };

static const nn_option options[] = {
    { .name = "model",
      .text = &model_dir,
      .value = "DIR",
      .required = true,
      .incidental = true,
      .help = "diffusers folder to start from" },
    { .name = "from-scratch",
      .flag = &from_scratch,
      .help = "draw UNet and text encoder from the seed; the folder gives configurations, codec "
              "and tokenizer" },
    { .name = "train-data",
      .text = &data_spec,
      .value = "SHARDS",
      .required = true,
      .help = "webdataset shards" },
    { .name = "columns",
      .text = &columns,
      .value = "MIX",
      .help = "caption columns and their weights, drawn per sample: alt=1, short=0.5,long=0.5" },
    { .name = "prompt-dropout",
      .real = &prompt_dropout,
      .low = 0,
      .high = 1,
      .help = "share of samples that train on the empty prompt" },
    { .name = "overlong",
      .choice = &overlong,
      .choices = overlong_names,
      .help = "what happens to captions with too many tokens" },
    { .name = "snr-gamma",
      .real = &snr_gamma,
      .low = 0,
      .high = 1e6,
      .help = "min-SNR weighting of the loss (5 is usual); 0 = off" },
    { .name = "resolution",
      .integer = &resolution,
      .low = 0,
      .high = 4096,
      .help = "pictures are resized and cropped to this side; 0 = what the UNet was made for" },
    { .name = "latent-cache",
      .text = &latent_cache,
      .value = "FILE",
      .incidental = true,
      .help = "latents of the pictures, kept between runs; else OUTPUT/latents.cache" },
    { .name = "gradient-checkpointing",
      .flag = &recompute,
      .incidental = true,
      .help = "compute activations again instead of keeping them" },
    { .name = "snapshot-steps",
      .integer = &snapshot_steps,
      .incidental = true,
      .low = 0,
      .high = 1e9,
      .help = "updates between copies of the model in OUTPUT/snapshots; 0 = none" },
    TRAINER_OPTIONS(set),
    { 0 },
};

/* A sample as the loader keeps it. */
typedef struct item {
    const float *moments; /* borrowed from the cache */
    uint64_t id;
    unsigned present; /* bit k: column k of the mix has a caption that fits */
    int32_t *ids;     /* [columns, T] */
} item;

typedef struct job {
    nn_device *device;
    sd_model model;
    nn_caption_mix mix;
    nn_caption_counts counts;
    nn_shards *shards;
    nn_shard_report report;
    nn_cache *latents;
    nn_loader *loader;
    int64_t side, places, t_len; /* latent side, places of a latent, ids of a prompt */
    _Atomic int64_t n_overlong;
    int32_t *empty;                                      /* ids of the empty prompt */
    nn_tensor *latent, *target, *t, *weight, *ids;       /* inputs of the graph */
    float *x, *noise, *answer, *t_now, *weight_now, *x0; /* one batch */
    int32_t *ids_now;
} job;

static nn_status decode(void *ctx, const nn_sample *sample, void *slot)
{
    job *j = ctx;
    item *it = slot;
    nn_captions *captions;
    bool truncated;
    it->moments = nn_cache_find(j->latents, nn_sample_content(sample));
    if (!it->moments)
        return nn_fail(NN_NOT_FOUND, "%s: no latent, since the picture could not be read",
                       sample->key);
    NN_TRY(nn_captions_parse(sample, &captions));
    it->id = sample->id;
    it->ids = nn_alloc(j->mix.n * j->t_len, sizeof(*it->ids));
    nn_status status = it->ids ? NN_OK : NN_MEMORY;
    for (int k = 0; k < j->mix.n && status == NN_OK; k++) {
        const char *text = nn_captions_get(captions, j->mix.column[k]);
        if (!text) continue;
        status = sd_tokenize(&j->model, text, it->ids + k * j->t_len, &truncated);
        if (truncated) j->n_overlong++;
        if (!truncated || overlong_names[overlong][0] == 't') it->present |= 1u << k;
    }
    nn_captions_free(captions);
    if (status != NN_OK) nn_free(it->ids);
    return status;
}

static void release(void *ctx, void *slot)
{
    (void)ctx;
    nn_free(((item *)slot)->ids);
}

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    int64_t n = set.ranks.batch, c = j->model.unet.in_channels;
    (void)params;
    j->latent = nn_input(g, "latent", NN_F32, NN_DIMS(n, j->side, j->side, c));
    j->target = nn_input(g, "target", NN_F32, NN_DIMS(n, j->side, j->side, c));
    j->t = nn_input(g, "t", NN_F32, NN_DIMS(n));
    j->ids = nn_input(g, "ids", NN_I32, NN_DIMS(n, j->t_len));
    j->weight = snr_gamma > 0 ? nn_input(g, "weight", NN_F32, NN_DIMS(n)) : NULL;
    nn_tensor *context = sd_text(&j->model, g, j->ids, recompute);
    nn_tensor *predicted = sd_unet(&j->model, g, j->latent, j->t, context, recompute);
    return nn_mse(g, predicted, j->target, j->weight);
}

/* Noise, timestep and caption of one place in the batch. turn: the number of --train-batch-size
 * samples since the start that it belongs to, however they are cut into passes. */
static nn_status prepare(job *j, int64_t i, int64_t turn)
{
    const nn_noise_schedule *s = &j->model.noise;
    int64_t elems = j->places * j->model.vae.latent_channels, at = i * elems;
    nn_loader_item next;
    NN_TRY(nn_loader_next(j->loader, &next));
    const item *it = next.slot;
    uint64_t draw = nn_mix(it->id, (uint64_t)turn);
    nn_rng rng = nn_rng_make((uint64_t)set.seed, "latent", draw);
    nn_rng_normal_fill(&rng, j->noise + at, elems);
    sd_latent(&j->model.vae, j->places, it->moments, j->noise + at, j->x0 + at);
    rng = nn_rng_make((uint64_t)set.seed, "noise", draw);
    nn_rng_normal_fill(&rng, j->noise + at, elems);
    int t = nn_noise_schedule_draw(s, (uint64_t)set.seed, it->id, (uint64_t)turn);
    nn_noise_schedule_add(s, t, elems, j->x0 + at, j->noise + at, j->x + at);
    nn_noise_schedule_target(s, t, elems, j->x0 + at, j->noise + at, j->answer + at);
    j->t_now[i] = (float)t;
    j->weight_now[i] = (float)nn_noise_schedule_weight(s, t, snr_gamma);
    int column =
        nn_caption_draw(&j->mix, it->present, (uint64_t)set.seed, next.epoch, it->id, &j->counts);
    memcpy(j->ids_now + i * j->t_len,
           column == NN_CAPTION_EMPTY ? j->empty : it->ids + column * j->t_len,
           (size_t)j->t_len * sizeof(int32_t));
    return NN_OK;
}

static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    job *j = ctx;
    for (int64_t i = 0; i < set.ranks.batch; i++)
        NN_TRY(prepare(j, i, (pass->first + i) / set.batch));
    NN_TRY(nn_plan_write(plan, j->latent, j->x));
    NN_TRY(nn_plan_write(plan, j->target, j->answer));
    NN_TRY(nn_plan_write(plan, j->t, j->t_now));
    if (j->weight) NN_TRY(nn_plan_write(plan, j->weight, j->weight_now));
    return nn_plan_write(plan, j->ids, j->ids_now);
}

static void tell(void *ctx, int64_t *epoch, int64_t *position)
{
    nn_loader_tell(((job *)ctx)->loader, epoch, position);
}

static nn_status seek(void *ctx, int64_t epoch, int64_t position)
{
    job *j = ctx;
    nn_loader_config config = { .threads = 1,
                                .seed = (uint64_t)set.seed,
                                .keep = true,
                                .rank = set.ranks.rank,
                                .n_ranks = set.ranks.n,
                                .block = set.ranks.batch,
                                .slot_bytes = sizeof(item),
                                .decode = decode,
                                .release = release,
                                .ctx = j };
    NN_ASSERT(!j->loader);
    return nn_loader_open(j->shards, &config, epoch, position, &j->report, &j->loader);
}

static nn_status after(void *ctx, trainer *t, int64_t step)
{
    job *j = ctx;
    if (!snapshot_steps || step % snapshot_steps) return NN_OK;
    char *dir = nn_format("%s/snapshots/%08lld", set.output, (long long)step);
    NN_NEED(dir);
    nn_status status = trainer_swap_average(t);
    if (status == NN_OK && !set.ranks.rank) status = sd_model_save(&j->model, model_dir, dir);
    if (status == NN_OK) status = trainer_swap_average(t);
    nn_free(dir);
    return status;
}

static nn_status reserve(job *j)
{
    int64_t n = set.ranks.batch * j->places * j->model.vae.latent_channels;
    float *block = nn_alloc(4 * n + 2 * set.ranks.batch, sizeof(float));
    NN_NEED(block);
    j->x = block;
    j->noise = block + n;
    j->answer = block + 2 * n;
    j->x0 = block + 3 * n;
    j->t_now = block + 4 * n;
    j->weight_now = j->t_now + set.ranks.batch;
    j->ids_now = nn_alloc((set.ranks.batch + 1) * j->t_len, sizeof(int32_t));
    NN_NEED(j->ids_now);
    j->empty = j->ids_now + set.ranks.batch * j->t_len;
    bool truncated;
    return sd_tokenize(&j->model, "", j->empty, &truncated);
}

static nn_status open_latents(job *j, int64_t pixels)
{
    char *path = latent_cache ? nn_strdup(latent_cache) : nn_format("%s/latents.cache", set.output);
    NN_NEED(path);
    nn_status status = latents_of_shards(&j->model, j->device, j->shards, pixels, path,
                                         set.ranks.rank == 0, &j->report, &j->latents);
    nn_free(path);
    return status;
}

static nn_status open_data(job *j)
{
    int64_t stride = vae_stride(&j->model.vae);
    int64_t pixels = resolution ? resolution : j->model.unet.sample_size * stride;
    j->side = pixels / stride;
    j->places = j->side * j->side;
    j->t_len = j->model.text.max_positions;
    NN_TRY(nn_caption_mix_parse(columns, prompt_dropout, &j->mix));
    NN_TRY(nn_shards_open(data_spec, NULL, &j->report, &j->shards));
    if (nn_shards_count(j->shards) < 1)
        return nn_fail(NN_NOT_FOUND, "%s: no sample that can be read", data_spec);
    NN_TRY(open_latents(j, pixels));
    return reserve(j);
}

static void log_columns(const job *j)
{
    for (int k = 0; k < j->mix.n; k++)
        nn_log(NN_LOG_INFO, "captions drawn from %s: %lld", j->mix.column[k],
               (long long)j->counts.drawn[k]);
    nn_log(NN_LOG_INFO,
           "empty prompts: %lld by dropout, %lld for want of a caption; %lld captions too long",
           (long long)j->counts.dropped, (long long)j->counts.missing, (long long)j->n_overlong);
}

/* Everything of the model that a batch and the loss depend on. */
static nn_status hash_start(const job *j, uint64_t *hash)
{
    static const char *const files[] = {
        "unet/config.json",         "text_encoder/config.json",
        "vae/config.json",          "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",     "tokenizer/merges.txt",
        "tokenizer/tokenizer.json", NULL
    };
    NN_TRY(trainer_hash_params(j->model.params, hash));
    NN_TRY(trainer_hash_params(j->model.vae_params, hash));
    return trainer_hash_files(model_dir, files, hash);
}

static nn_status train(job *j)
{
    trainer t = { .what = "diffusion",
                  .set = set,
                  .options = options,
                  .n_samples = nn_shards_count(j->shards),
                  .device = j->device,
                  .params = j->model.params,
                  .ctx = j,
                  .build = build,
                  .feed = feed,
                  .stream = { j, tell, seek },
                  .after = after };
    NN_TRY(hash_start(j, &t.start));
    t.data = nn_shards_hash(j->shards, 0);
    NN_TRY(trainer_run(&t));
    log_columns(j);
    return set.ranks.rank ? NN_OK : sd_model_save(&j->model, model_dir, set.output);
}

static nn_status work(void *ctx, nn_device *device)
{
    job *j = ctx;
    j->device = device;
    NN_TRY(sd_model_open(model_dir, device, from_scratch ? SD_SCRATCH : SD_LOAD, (uint64_t)set.seed,
                         true, &j->model));
    if (j->model.unet.in_channels != j->model.vae.latent_channels)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: the UNet takes %lld channels, the codec has %lld; only UNets that draw "
                       "from noise alone can be trained",
                       model_dir, (long long)j->model.unet.in_channels,
                       (long long)j->model.vae.latent_channels);
    NN_TRY(open_data(j));
    return train(j);
}

static void close_job(void *ctx)
{
    job *j = ctx;
    nn_loader_close(j->loader);
    nn_cache_close(j->latents);
    nn_shards_close(j->shards);
    nn_shard_report_free(&j->report);
    nn_free(j->x);
    nn_free(j->ids_now);
    sd_model_close(&j->model);
}

static nn_status run(const nn_cli *cli)
{
    job j = { 0 };
    (void)cli;
    return trainer_command(&set, &j, work, close_job);
}

const nn_command train_diffusion_command = {
    .name = "diffusion",
    .summary =
        "UNet and text encoder of Stable Diffusion, on captioned pictures; the codec is frozen.",
    .example = "recap-train diffusion --model sd14 --train-data 'laion-{00000..00099}.tar' "
               "--columns short=0.5,long=0.5 --output-dir mix",
    .options = options,
    .run = run,
    .ranks = true,
};
