/* recap-train diffusion: the UNet and the text encoder of Stable Diffusion on captioned pictures.
 */
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "tools/diffusion_corpus.h"
#include "tools/diffusion_pictures.h"
#include "tools/train.h"
#include "tools/trainer_fit.h"

static trainer_settings set = { TRAINER_DEFAULTS, .steps = 250000, .lr = 1e-5,
                                .validation_every = 500 };
static const char *model_dir, *data_spec, *latent_cache, *columns = "short=0.5,long=0.5";
static const char *validation_prompts;
static double prompt_dropout = 0.1, snr_gamma;
static bool from_scratch, recompute;
static int64_t resolution, snapshot_steps;
enum { DROP = 1 };
static int overlong = DROP;
static const char *const overlong_names[] = { "truncate", [DROP] = "drop", NULL };

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
    { .name = "validation-prompts",
      .text = &validation_prompts,
      .value = "FILE",
      .incidental = true,
      .help = "a prompt a line, 16 at most; what they give is drawn every --validation-steps "
              "updates, from seeds that stay, into OUTPUT/pictures" },
    { .name = "snapshot-steps",
      .integer = &snapshot_steps,
      .incidental = true,
      .low = 0,
      .high = 1e9,
      .help = "updates between copies of the model in OUTPUT/snapshots; 0 = none" },
    TRAINER_VALIDATION_OPTIONS(set),
    TRAINER_MEMORY_OPTION(set),
    TRAINER_OPTIONS(set),
    { 0 },
};

typedef struct job {
    nn_device *device;
    sd_model model;
    diffusion_corpus corpus, validation;
    diffusion_inputs inputs, validated;
    diffusion_pictures *pictures; /* with --validation-prompts */
} job;

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    (void)params;
    return diffusion_corpus_loss(&j->corpus, g, recompute, &j->inputs);
}

/* The turn of a sample is the number of --train-batch-size samples since the start that it belongs
 * to, however they are cut into passes. */
static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    job *j = ctx;
    for (int64_t i = 0; i < set.ranks.batch; i++)
        NN_TRY(diffusion_corpus_next(&j->corpus, i, (pass->first + i) / set.batch));
    return diffusion_corpus_write(&j->corpus, plan, &j->inputs);
}

static void tell(void *ctx, int64_t *epoch, int64_t *position)
{
    nn_loader_tell(((job *)ctx)->corpus.loader, epoch, position);
}

static nn_status seek(void *ctx, int64_t epoch, int64_t position)
{
    return diffusion_corpus_seek(&((job *)ctx)->corpus, epoch, position);
}

static nn_tensor *build_validation(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    (void)params;
    return diffusion_corpus_loss(&j->validation, g, false, &j->validated);
}

static nn_status feed_validation(void *ctx, nn_plan *plan, int64_t pass)
{
    job *j = ctx;
    if (!pass) NN_TRY(diffusion_corpus_seek(&j->validation, 0, 0));
    for (int64_t i = 0; i < set.ranks.batch; i++)
        NN_TRY(diffusion_corpus_next(&j->validation, i, 0));
    return diffusion_corpus_write(&j->validation, plan, &j->validated);
}

static nn_status draw(job *j, trainer *t, int64_t step)
{
    if (!j->pictures || !trainer_validates_after(&set, step)) return NN_OK;
    NN_TRY(trainer_swap_average(t));
    nn_status status = diffusion_pictures_draw(j->pictures, t);
    NN_TRY(trainer_swap_average(t));
    return status;
}

/* Training can do without it where there is no room. */
static nn_status save_snapshot(const job *j, const char *dir)
{
    const nn_status status = sd_model_save(&j->model, model_dir, dir);
    if (status != NN_IO) return status;
    nn_log(NN_LOG_WARN, "diffusion: %s is not complete: %s; training goes on", dir,
           nn_error_message());
    return NN_OK;
}

static nn_status after(void *ctx, trainer *t, int64_t step)
{
    job *j = ctx;
    NN_TRY(draw(j, t, step));
    if (!snapshot_steps || step % snapshot_steps) return NN_OK;
    char *dir = nn_format("%s/snapshots/%08lld", set.output, (long long)step);
    NN_NEED(dir);
    nn_status status = trainer_swap_average(t);
    if (status == NN_OK && !set.ranks.rank) status = save_snapshot(j, dir);
    if (status == NN_OK) status = trainer_swap_average(t);
    nn_free(dir);
    return status;
}

static nn_status open_corpus(const job *j, const diffusion_corpus_config *config, const char *cache,
                             diffusion_corpus *out)
{
    diffusion_corpus_config c = *config;
    char *path = cache ? nn_strdup(cache) : nn_format("%s/latents.cache", set.output);
    if (path && config->in_order) {
        char *own = nn_format("%s.validation", path);
        nn_free(path);
        path = own;
    }
    NN_NEED(path);
    c.latent_cache = path;
    c.resolution = resolution;
    c.seed = (uint64_t)set.seed;
    c.columns = columns;
    c.drop_overlong = overlong == DROP;
    c.ranks = &set.ranks;
    c.model = &j->model;
    c.device = j->device;
    const nn_status status = diffusion_corpus_open(&c, out);
    nn_free(path);
    return status;
}

static nn_status open_data(job *j)
{
    const diffusion_corpus_config trained = { .shards = data_spec,
                                              .prompt_dropout = prompt_dropout,
                                              .snr_gamma = snr_gamma };
    const diffusion_corpus_config validated = { .shards = set.validation_data, .in_order = true };
    NN_TRY(open_corpus(j, &trained, latent_cache, &j->corpus));
    if (set.validation_data) NN_TRY(open_corpus(j, &validated, latent_cache, &j->validation));
    if (!validation_prompts) return NN_OK;
    return diffusion_pictures_open(&j->model, j->device, validation_prompts, j->corpus.side,
                                   (uint64_t)set.seed, &set.ranks, &j->pictures);
}

static void log_columns(const diffusion_corpus *c)
{
    for (int k = 0; k < c->mix.n; k++)
        nn_log(NN_LOG_INFO, "captions drawn from %s: %lld", c->mix.column[k],
               (long long)c->counts.drawn[k]);
    nn_log(NN_LOG_INFO,
           "empty prompts: %lld by dropout, %lld for want of a caption; %lld captions too long",
           (long long)c->counts.dropped, (long long)c->counts.missing, (long long)c->n_overlong);
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
                  .n_samples = nn_shards_count(j->corpus.shards),
                  .device = j->device,
                  .params = j->model.params,
                  .ctx = j,
                  .build = build,
                  .feed = feed,
                  .stream = { j, tell, seek },
                  .after = after };
    if (set.validation_data)
        t.validation = (trainer_validation){ nn_shards_count(j->validation.shards),
                                             build_validation, feed_validation };
    NN_TRY(hash_start(j, &t.start));
    t.data = nn_shards_hash(j->corpus.shards, 0);
    NN_TRY(trainer_run(&t));
    log_columns(&j->corpus);
    return set.ranks.rank ? NN_OK : sd_model_save(&j->model, model_dir, set.output);
}

/* The networks are not there yet: their configurations are enough. */
static nn_status fit(nn_device *device)
{
    sd_model m = { 0 };
    nn_status status = sd_model_configure(model_dir, model_dir, &m);
    if (status == NN_OK) {
        const int64_t side = resolution ? resolution / vae_stride(&m.vae) : m.unet.sample_size;
        diffusion_plan p = { &m, side, snr_gamma > 0 };
        plan_task task = diffusion_task(&p, set.ema_decay > 0);
        task.validates = set.validation_data != NULL;
        status = trainer_fit(&set, &task, device, &recompute);
    }
    sd_model_close(&m);
    return status;
}

static nn_status work(void *ctx, nn_device *device)
{
    job *j = ctx;
    j->device = device;
    if (set.memory) NN_TRY(fit(device));
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
    diffusion_pictures_close(j->pictures);
    diffusion_corpus_close(&j->validation);
    diffusion_corpus_close(&j->corpus);
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
