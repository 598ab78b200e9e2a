/* recap-train captioner: BLIP's captioner on pictures whose captions come in several kinds, each
 * asked for by a fixed prefix. The loss counts the words of the caption only.
 *
 * Pictures are not mirrored, since captions say left and right. What a step trains on is a function
 * of (seed, step): a run that goes on needs no other position. */
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "tools/caption_corpus.h"
#include "tools/plan_losses.h"
#include "tools/train.h"
#include "tools/trainer_fit.h"

static trainer_settings set = { TRAINER_DEFAULTS, .steps = 300, .lr = 4e-5,
                                .validation_every = 100 };
static const char *model_dir, *config_dir, *data_spec, *columns = "short=0.5,long=0.5", *prefixes,
                                                       *tokenizer, *rehearsal_spec,
                                                       *rehearsal_columns = "alt=0.5,list=0.5";
static double dropout = 0.1, rehearsal_share = 0.25;
static bool from_scratch, freeze_vision;
static int64_t length = 40, most_words;
static int overlong;
static const char *const overlong_names[] = { "truncate", "drop", NULL };

static const nn_option options[] = {
    { .name = "model",
      .text = &model_dir,
      .value = "DIR",
      .incidental = true,
      .excludes = "config-dir",
      .help = "captioner to start from" },
    { .name = "config-dir",
      .text = &config_dir,
      .value = "DIR",
      .incidental = true,
      .help = "with --from-scratch: directory of config.json" },
    { .name = "from-scratch",
      .flag = &from_scratch,
      .excludes = "model",
      .help = "draw all weights from the seed" },
    { .name = "train-data",
      .text = &data_spec,
      .value = "SHARDS",
      .required = true,
      .help = "webdataset shards" },
    { .name = "columns",
      .text = &columns,
      .value = "MIX",
      .help = "caption columns and their weights, drawn per sample" },
    { .name = "prefixes",
      .text = &prefixes,
      .value = "LIST",
      .help =
          "what asks for each column: \"short=a short caption:;long=a detailed caption:\"; kept "
          "in the model" },
    { .name = "tokenizer",
      .text = &tokenizer,
      .value = "DIR",
      .incidental = true,
      .help = "with --from-scratch: directory of the tokenizer; else --config-dir" },
    { .name = "rehearsal",
      .text = &rehearsal_spec,
      .value = "SHARDS",
      .help = "earlier data that a part of each batch comes from" },
    { .name = "rehearsal-columns",
      .text = &rehearsal_columns,
      .value = "MIX",
      .help = "its caption columns" },
    { .name = "rehearsal-share",
      .real = &rehearsal_share,
      .low = 0,
      .high = 0.99,
      .help = "its share of each batch" },
    { .name = "dropout", .real = &dropout, .low = 0, .high = 0.9, .help = "of the text decoder" },
    { .name = "freeze-vision", .flag = &freeze_vision, .help = "train the text decoder only" },
    { .name = "max-caption-tokens",
      .integer = &length,
      .low = 4,
      .high = 512,
      .help = "ids of a caption with its prefix and both ends; all rows have as many" },
    { .name = "max-caption-words",
      .integer = &most_words,
      .low = 0,
      .high = 1000,
      .help = "words of a caption that are kept; 0 = all (BLIP: 30)" },
    { .name = "overlong",
      .choice = &overlong,
      .choices = overlong_names,
      .help = "what happens to captions with too many tokens" },
    TRAINER_VALIDATION_OPTIONS(set),
    TRAINER_MEMORY_OPTION(set),
    TRAINER_OPTIONS(set),
    { 0 },
};

typedef struct job {
    nn_device *device;
    captioner_folder model;
    captioner_config config; /* the model's, with this run's dropout */
    nn_params *trained;      /* what the optimizer sees: a copy with gradients */
    caption_corpus corpus, rehearsal, validation;
    int64_t n_rehearsed; /* samples of a batch */
    bool placed;         /* the corpora stand where the next pass begins */
    captioner_inputs trained_on, validated_on;
    float *pixels_now;
    int32_t *ids_now, *labels_now, *seen_now;
} job;

static nn_tensor *loss_of(const job *j, nn_graph *g, nn_params *params, captioner_inputs *in)
{
    return captioner_train_loss(&j->config, g, params, freeze_vision ? j->model.params : params,
                                set.ranks.batch, length, in);
}

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    return loss_of(j, g, params, &j->trained_on);
}

static nn_tensor *build_validation(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    return loss_of(j, g, params, &j->validated_on);
}

/* pass: number of the first of the passes that the ranks do together. */
static nn_status place(job *j, int64_t pass)
{
    if (j->placed) return NN_OK;
    int64_t n_own = set.ranks.batch - j->n_rehearsed;
    NN_TRY(caption_corpus_seek(&j->corpus, pass * n_own));
    if (j->n_rehearsed) NN_TRY(caption_corpus_seek(&j->rehearsal, pass * j->n_rehearsed));
    j->placed = true;
    return NN_OK;
}

/* The next sample to place i of the batch. */
static nn_status take(job *j, caption_corpus *from, int64_t i)
{
    const int64_t size = j->config.vision.image_size, at = i * length;
    return caption_corpus_next(from, j->pixels_now + i * 3 * size * size, j->ids_now + at,
                               j->labels_now + at, j->seen_now + at);
}

static nn_status write_batch(const job *j, nn_plan *plan, const captioner_inputs *in)
{
    NN_TRY(nn_plan_write(plan, in->pixels, j->pixels_now));
    NN_TRY(nn_plan_write(plan, in->ids, j->ids_now));
    NN_TRY(nn_plan_write(plan, in->labels, j->labels_now));
    return nn_plan_write(plan, in->seen, j->seen_now);
}

static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    job *j = ctx;
    NN_TRY(place(j, pass->number - set.ranks.rank));
    for (int64_t i = 0; i < set.ranks.batch; i++)
        NN_TRY(take(j, i < j->n_rehearsed ? &j->rehearsal : &j->corpus, i));
    return write_batch(j, plan, &j->trained_on);
}

static nn_status feed_validation(void *ctx, nn_plan *plan, int64_t pass)
{
    job *j = ctx;
    if (!pass) NN_TRY(caption_corpus_seek(&j->validation, 0));
    for (int64_t i = 0; i < set.ranks.batch; i++) NN_TRY(take(j, &j->validation, i));
    return write_batch(j, plan, &j->validated_on);
}

/* Values of every parameter of `to`, from the one of that name in `from`. */
static nn_status copy_values(const nn_params *from, nn_params *to)
{
    float *values = NULL;
    nn_status status = NN_OK;
    for (int64_t i = 0; i < to->n && status == NN_OK; i++) {
        const nn_param *source = nn_params_find(from, to->items[i]->name);
        if (!source) continue;
        values = nn_alloc(nn_view_elems(&source->view), sizeof(*values));
        status = values ? nn_params_read(from, source, values) : NN_MEMORY;
        if (status == NN_OK) status = nn_params_write(to, to->items[i], values);
        nn_free(values);
    }
    nn_params_touch(to);
    return status;
}

/* The parameters that are trained are those that the loss declares in their store. */
static nn_status make_trained(job *j)
{
    NN_TRY(trainer_make_params(build, j, j->device, &j->trained));
    return copy_values(j->model.params, j->trained);
}

static nn_status set_styles(captioner_styles *styles)
{
    static const char *const usual[] = { "short", "short=a short caption:", "long",
                                         "long=a detailed caption:" };
    nn_caption_mix mix;
    NN_TRY(nn_caption_mix_parse(columns, 0, &mix));
    for (int k = 0; k < mix.n; k++)
        for (int i = 0; i < NN_COUNT(usual); i += 2)
            if (strcmp(mix.column[k], usual[i]) == 0 && !captioner_style(styles, usual[i]))
                NN_TRY(captioner_styles_parse(usual[i + 1], styles));
    return prefixes ? captioner_styles_parse(prefixes, styles) : NN_OK;
}

static nn_status find_model(void)
{
    if (from_scratch ? config_dir != NULL : model_dir != NULL) return NN_OK;
    return nn_fail(NN_ARGUMENT, "give --model DIR to start from a captioner, or --from-scratch "
                                "with --config-dir DIR");
}

static nn_status open_model(job *j)
{
    if (from_scratch)
        NN_TRY(captioner_folder_draw(config_dir, tokenizer ? tokenizer : config_dir, j->device,
                                     (uint64_t)set.seed, &j->model));
    else
        NN_TRY(captioner_folder_open(model_dir, j->device, true, &j->model));
    if (length > j->model.config.text.max_positions)
        return nn_fail(NN_ARGUMENT, "--max-caption-tokens is %lld; the model has %lld positions",
                       (long long)length, (long long)j->model.config.text.max_positions);
    NN_TRY(set_styles(&j->model.styles));
    j->config = j->model.config;
    j->config.text.dropout = dropout;
    return make_trained(j);
}

/* Of --train-batch-size samples. */
static int64_t rehearsed(void)
{
    return (int64_t)(rehearsal_share * (double)set.batch + 0.5);
}

static nn_status uneven_rehearsal(int64_t n)
{
    return nn_fail(
        NN_ARGUMENT,
        "%d ranks do passes of %lld samples each, which cannot all have the same part of "
        "the %lld rehearsed samples among %lld; a --gradient-accumulation-steps that %d "
        "divides leaves passes as they are",
        set.ranks.n, (long long)set.ranks.batch, (long long)n, (long long)set.batch, set.ranks.n);
}

static nn_status open_data(job *j)
{
    caption_corpus_config c = { .shards = data_spec,
                                .columns = columns,
                                .length = (int)length,
                                .most_words = (int)most_words,
                                .overlong = overlong ? NN_OVERLONG_DROP : NN_OVERLONG_TRUNCATE,
                                .seed = (uint64_t)set.seed,
                                .rank = set.ranks.rank,
                                .n_ranks = set.ranks.n,
                                .model = &j->model };
    if (rehearsal_spec) {
        const int64_t all = rehearsed();
        if (all * set.ranks.batch % set.batch) return uneven_rehearsal(all);
        j->n_rehearsed = all * set.ranks.batch / set.batch;
    }
    c.block = nn_max(set.ranks.batch - j->n_rehearsed, 1);
    NN_TRY(caption_corpus_open(&c, &j->corpus));
    if (rehearsal_spec) {
        c.shards = rehearsal_spec;
        c.columns = rehearsal_columns;
        c.block = nn_max(j->n_rehearsed, 1);
        NN_TRY(caption_corpus_open(&c, &j->rehearsal));
    }
    if (set.validation_data) {
        c.shards = set.validation_data;
        c.columns = columns;
        c.block = set.ranks.batch;
        NN_TRY(caption_corpus_open(&c, &j->validation));
    }
    int64_t size = j->config.vision.image_size, n = set.ranks.batch * length;
    j->pixels_now = nn_alloc(set.ranks.batch * size * size * 3, sizeof(float));
    NN_NEED(j->pixels_now);
    j->ids_now = nn_alloc(3 * n, sizeof(int32_t));
    NN_NEED(j->ids_now);
    j->labels_now = j->ids_now + n;
    j->seen_now = j->ids_now + 2 * n;
    return NN_OK;
}

/* Everything of the model that the rows and the loss depend on. */
static nn_status hash_start(const job *j, uint64_t *hash)
{
    static const char *const config[] = { "config.json", NULL };
    static const char *const words[] = {
        "vocab.txt", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", NULL
    };
    NN_TRY(trainer_hash_params(j->model.params, hash));
    NN_TRY(trainer_hash_files(from_scratch ? config_dir : model_dir, config, hash));
    return trainer_hash_files(j->model.tokenizer, words, hash);
}

static nn_status train(job *j)
{
    trainer t = { .what = "captioner",
                  .set = set,
                  .options = options,
                  .n_samples = nn_shards_count(j->corpus.shards),
                  .device = j->device,
                  .params = j->trained,
                  .ctx = j,
                  .build = build,
                  .feed = feed };
    if (set.validation_data)
        t.validation = (trainer_validation){ nn_shards_count(j->validation.shards),
                                             build_validation, feed_validation };
    if (rehearsal_spec) t.n_samples += nn_shards_count(j->rehearsal.shards);
    NN_TRY(hash_start(j, &t.start));
    t.data = nn_shards_hash(j->corpus.shards, 0);
    if (rehearsal_spec) t.data = nn_shards_hash(j->rehearsal.shards, t.data);
    NN_TRY(trainer_run(&t));
    if (set.ranks.rank) return NN_OK;
    NN_TRY(copy_values(j->trained, j->model.params));
    return captioner_folder_save(&j->model, set.output);
}

/* As captioner_folder_open or _draw configures it, whose vocabulary is the tokenizer's. */
static nn_status configure(captioner_config *out)
{
    nn_json json;
    caption_words words = { 0 };
    NN_TRY(nn_json_open_config(from_scratch ? config_dir : model_dir, "config.json", &json));
    nn_status status = captioner_config_parse(&json, out);
    nn_json_close(&json);
    out->text.dropout = dropout;
    if (status != NN_OK || !from_scratch) return status;
    NN_TRY(caption_words_open(tokenizer ? tokenizer : config_dir, &words));
    out->text.vocab_size = words.n;
    caption_words_close(&words);
    return NN_OK;
}

/* Parts of a pass are rehearsed: the least number of samples of which a whole number is. */
static int64_t granule(void)
{
    int64_t n = 1;
    while (rehearsal_spec && n < set.batch && rehearsed() * n % set.batch) n++;
    return n;
}

static nn_status fit(nn_device *device)
{
    captioner_config config;
    bool recompute = false;
    NN_TRY(configure(&config));
    captioner_plan p = { &config, length, freeze_vision };
    plan_task task = captioner_task(&p, set.ema_decay > 0);
    task.granule = granule();
    task.validates = set.validation_data != NULL;
    return trainer_fit(&set, &task, device, &recompute);
}

static nn_status work(void *ctx, nn_device *device)
{
    job *j = ctx;
    j->device = device;
    NN_TRY(find_model());
    if (set.memory) NN_TRY(fit(device));
    NN_TRY(open_model(j));
    NN_TRY(open_data(j));
    return train(j);
}

static void close_job(void *ctx)
{
    job *j = ctx;
    caption_corpus_close(&j->corpus);
    caption_corpus_close(&j->rehearsal);
    caption_corpus_close(&j->validation);
    nn_free(j->pixels_now);
    nn_free(j->ids_now);
    nn_params_destroy(j->trained);
    captioner_folder_close(&j->model);
}

static nn_status run(const nn_cli *cli)
{
    job j = { 0 };
    (void)cli;
    return trainer_command(&set, &j, work, close_job);
}

const nn_command train_captioner_command = {
    .name = "captioner",
    .summary = "BLIP's captioner, on pictures with several kinds of captions.",
    .example = "recap-train captioner --model blip --train-data humans-000000.tar --columns "
               "short=0.5,long=0.5 --output-dir captioner",
    .options = options,
    .run = run,
    .ranks = true,
};
