/* recap-relabel: shards in, shards out, with columns of captions added.
 *
 * A shard of the output is there completely or not at all and is a function of its input shard,
 * the captioners and the options: a run that was killed redoes the shard that it was in and comes
 * to the same bytes. */
#include "tools/relabel.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "tools/relabel_batch.h"

static captioning_settings set = { CAPTIONING_DEFAULTS, .batch = 64 };
static const char *input, *output, *model_dir, *base_dir, *columns = "short,long", *base_column,
                                                          *tokenizer;
static device_settings on = DEVICE_DEFAULTS;
static int64_t least_words = 2, most_words, most_tokens = 75, most_shards;
static bool drop_flagged, strict;

const nn_option relabel_options[] = {
    { .name = "input",
      .text = &input,
      .value = "SHARDS",
      .required = true,
      .help = "a tar, a directory of them, or a list in braces" },
    { .name = "output",
      .text = &output,
      .value = "DIR",
      .required = true,
      .help = "the shards appear there under their own names" },
    { .name = "model",
      .text = &model_dir,
      .value = "DIR",
      .required = true,
      .help = "captioner that writes --columns" },
    { .name = "columns",
      .text = &columns,
      .value = "LIST",
      .help = "kinds of captions it writes, by the model's own prefixes" },
    { .name = "base-model",
      .text = &base_dir,
      .value = "DIR",
      .help = "captioner that writes the column 'base': the one before its fine-tuning" },
    { .name = "base-column",
      .text = &base_column,
      .value = "NAME",
      .help = "kind of caption it writes; else its first one" },
    { .name = "tokenizer",
      .text = &tokenizer,
      .value = "PATH",
      .help = "CLIP tokenizer that counts tokens; else the captioner's own" },
    { .name = "least-words",
      .integer = &least_words,
      .low = 0,
      .high = 1000,
      .help = "captions with fewer words are flagged" },
    { .name = "most-words",
      .integer = &most_words,
      .low = 0,
      .high = 1000,
      .help = "captions with more words are flagged; 0 = no limit" },
    { .name = "most-tokens",
      .integer = &most_tokens,
      .low = 0,
      .high = 1000,
      .help = "captions with more tokens are flagged; 0 = no limit" },
    { .name = "drop-flagged",
      .flag = &drop_flagged,
      .help = "leave flagged captions out instead of marking them" },
    { .name = "max-shards",
      .integer = &most_shards,
      .low = 0,
      .high = 1e9,
      .help = "shards to do in this run; 0 = all" },
    { .name = "strict", .flag = &strict, .help = "stop at the first sample that cannot be read" },
    CAPTIONING_OPTIONS(set),
    DEVICE_OPTIONS(on),
    { 0 },
};

typedef struct job {
    nn_device *device;
    relabel_author author[RELABEL_AUTHORS];
    relabel_batch batch;
    nn_clip_bpe counter;
    char names[256]; /* --columns, cut into pieces */
    char **paths;    /* of the input */
    int64_t n_paths, n_done;
    nn_progress progress;
} job;

/* -- captioners -------------------------------------------------------------------------------- */

static nn_status add_column(relabel_author *a, const char *dir, const char *style, const char *name,
                            const char **prefix)
{
    if (a->n == CAPTIONING_PREFIXES)
        return nn_fail(NN_ARGUMENT, "--columns: more than %d", CAPTIONING_PREFIXES);
    prefix[a->n] = captioner_style(&a->model.styles, style);
    if (!prefix[a->n])
        return nn_fail(NN_ARGUMENT,
                       "%s: no prefix for '%s' in its config.json; it was not trained to write it",
                       dir, style);
    a->column[a->n++] = name;
    return NN_OK;
}

static nn_status open_author(job *j, relabel_author *a, const char *const *prefix)
{
    uint64_t hash;
    NN_TRY(nn_params_hash(a->model.params, &hash));
    snprintf(a->hash, sizeof(a->hash), "%016llx", (unsigned long long)hash);
    return captioning_open(&a->model, j->device, &set, prefix, a->n, &a->captioning);
}

static nn_status open_base(job *j)
{
    relabel_author *a = &j->author[0];
    const char *prefix = "";
    if (!base_dir) return NN_OK;
    NN_TRY(captioner_folder_open(base_dir, j->device, false, &a->model));
    const captioner_styles *s = &a->model.styles;
    if (base_column || s->n)
        NN_TRY(add_column(a, base_dir, base_column ? base_column : s->column[0], "base", &prefix));
    else {
        prefix = "a picture of";
        a->column[a->n++] = "base";
    }
    return open_author(j, a, &prefix);
}

static nn_status open_tuned(job *j)
{
    relabel_author *a = &j->author[1];
    const char *prefix[CAPTIONING_PREFIXES];
    char *save;
    NN_TRY(captioner_folder_open(model_dir, j->device, false, &a->model));
    if (strlen(columns) >= sizeof(j->names))
        return nn_fail(NN_ARGUMENT, "--columns: longer than %zu characters", sizeof(j->names) - 1);
    snprintf(j->names, sizeof(j->names), "%s", columns);
    for (char *name = strtok_r(j->names, ",", &save); name; name = strtok_r(NULL, ",", &save))
        NN_TRY(add_column(a, model_dir, name, name, prefix));
    if (!a->n) return nn_fail(NN_ARGUMENT, "--columns names none");
    return open_author(j, a, prefix);
}

/* -- shards ------------------------------------------------------------------------------------ */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What a killed run left of this shard. */
static nn_status remove_parts(const char *path)
{
    char **names, *part = nn_format("%s.part", base_name(path));
    int64_t n;
    NN_NEED(part);
    nn_status status = nn_file_list(output, &names, &n);
    for (int64_t i = 0; status == NN_OK && i < n; i++) {
        char *left = nn_starts_with(names[i], part) ? nn_format("%s/%s", output, names[i]) : NULL;
        if (left) status = nn_file_remove(left);
        nn_free(left);
    }
    if (status == NN_OK) nn_file_list_free(names, n);
    nn_free(part);
    return status;
}

static nn_status relabel_samples(job *j, const nn_shards *shards, nn_shard_report *report,
                                 nn_shard_writer *w)
{
    int64_t count = nn_shards_count(shards);
    for (int64_t at = 0; at < count; at += set.batch) {
        if (nn_cli_interrupted())
            return nn_fail(NN_INTERRUPTED,
                           "interrupted; finished shards are in %s, and the same command goes on "
                           "with the next",
                           output);
        int n = (int)nn_min(set.batch, count - at);
        NN_TRY(relabel_batch_run(&j->batch, shards, at, n, report, w));
        nn_field fields[] = { { "captions", (double)j->batch.counts.captions },
                              { "failed", (double)j->batch.counts.failed } };
        nn_progress_step(&j->progress, j->progress.done + n, fields, NN_COUNT(fields));
    }
    return NN_OK;
}

/* The listing of faults is there before its shard, so that a finished shard has its listing. */
static nn_status write_shard(job *j, const nn_shards *shards, nn_shard_report *report,
                             const char *to)
{
    nn_shard_writer *w;
    char *errors = nn_format("%s.errors.jsonl", to);
    NN_NEED(errors);
    nn_status status = nn_shard_writer_open_file(to, &w);
    if (status == NN_OK) {
        status = relabel_samples(j, shards, report, w);
        if (status == NN_OK) status = nn_shard_report_save(report, errors);
        if (status == NN_OK)
            status = nn_shard_writer_close(w);
        else
            nn_shard_writer_abort(w);
    }
    nn_free(errors);
    return status;
}

static nn_status relabel_shard(job *j, const char *from, const char *to)
{
    nn_shards *shards;
    nn_shard_report report = { .strict = strict };
    NN_TRY(remove_parts(to));
    nn_status status = nn_shards_open(from, NULL, &report, &shards);
    if (status == NN_OK) {
        status = write_shard(j, shards, &report, to);
        nn_shards_close(shards);
    }
    nn_shard_report_free(&report);
    return status;
}

static char *output_path(const char *from)
{
    return nn_format("%s/%s", output, base_name(from));
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Samples of the shards that this run will do. */
static nn_status count_samples(const job *j, int64_t *total)
{
    *total = 0;
    for (int64_t i = 0, left = most_shards; i < j->n_paths; i++) {
        nn_shards *shards;
        nn_shard_report report = { 0 };
        char *to = output_path(j->paths[i]);
        NN_NEED(to);
        bool done = nn_file_exists(to);
        bool same = same_file(to, j->paths[i]);
        nn_free(to);
        if (same)
            return nn_fail(NN_ARGUMENT, "%s is an input; give another --output than its directory",
                           j->paths[i]);
        if (done || (most_shards && left-- <= 0)) continue;
        nn_status status = nn_shards_open(j->paths[i], NULL, &report, &shards);
        nn_shard_report_free(&report);
        NN_TRY(status);
        *total += nn_shards_count(shards);
        nn_shards_close(shards);
    }
    return NN_OK;
}

static nn_status relabel_shards(job *j)
{
    nn_status status = NN_OK;
    for (int64_t i = 0; i < j->n_paths && status == NN_OK; i++) {
        char *to = output_path(j->paths[i]);
        NN_NEED(to);
        if (nn_file_exists(to)) {
            nn_log(NN_LOG_INFO, "%s is there already", to);
        } else if (!most_shards || j->n_done < most_shards) {
            status = relabel_shard(j, j->paths[i], to);
            j->n_done++;
        }
        nn_free(to);
    }
    return status;
}

/* -- the whole --------------------------------------------------------------------------------- */

/* What decides the captions; the output of another configuration is not gone on with. */
static nn_status describe(const job *j, nn_text *out)
{
    const char *texts[] = { columns, j->author[0].hash, j->author[1].hash,
                            base_column ? base_column : "", tokenizer ? tokenizer : "" };
    NN_TRY(nn_text_add(out, "{\"columns\": [\""));
    for (int i = 0; i < NN_COUNT(texts); i++)
        NN_TRY(nn_text_add(out, "%s%s", i ? "\", \"" : "", texts[i]));
    return nn_text_add(
        out,
        "\"],\n \"method\": \"%s\", \"batch\": %lld, \"beams\": %lld, \"tokens\": [%lld, %lld], "
        "\"length_penalty\": %g, \"length_rule\": \"%s\", \"repetition_penalty\": %g, "
        "\"temperature\": %g, \"top_k\": %lld, "
        "\"top_p\": %g, \"seed\": %lld,\n \"rules\": [%lld, %lld, %lld], \"drop_flagged\": %s}\n",
        captioning_methods[set.method], (long long)set.batch, (long long)set.beams,
        (long long)set.least_tokens, (long long)set.most_tokens, set.length_penalty,
        captioning_length_rules[set.length_rule], set.repetition_penalty, set.temperature,
        (long long)set.top_k, set.top_p, (long long)set.seed, (long long)least_words,
        (long long)most_words, (long long)most_tokens, drop_flagged ? "true" : "false");
}

static nn_status claim_output(const job *j)
{
    nn_text now = { 0 };
    char *before = NULL, *path = nn_format("%s/relabel.json", output);
    int64_t n;
    NN_NEED(path);
    nn_status status = nn_file_make_dir(output);
    if (status == NN_OK) status = describe(j, &now);
    if (status == NN_OK && nn_file_exists(path)) {
        status = nn_file_read(path, 1 << 20, &before, &n);
        if (status == NN_OK && strcmp(before, now.text) != 0)
            status = nn_fail(NN_ARGUMENT,
                             "%s holds captions of other captioners or options (%s); remove it or "
                             "give another --output",
                             output, path);
    } else if (status == NN_OK) {
        status = nn_file_write(path, now.text, now.length);
    }
    nn_free(before);
    nn_free(path);
    nn_text_free(&now);
    return status;
}

static void report(const job *j)
{
    const relabel_counts *c = &j->batch.counts;
    printf("%lld samples, %lld captions, %lld pictures failed\n", (long long)c->samples,
           (long long)c->captions, (long long)c->failed);
    for (int bit = 0; bit < NN_COUNT(c->flagged); bit++)
        if (c->flagged[bit])
            printf("  flagged %-12s %lld\n", nn_caption_flag_name(1u << bit),
                   (long long)c->flagged[bit]);
}

static nn_status prepare(job *j)
{
    NN_TRY(device_open(&on, &j->device));
    if (tokenizer) NN_TRY(nn_clip_bpe_open(tokenizer, &j->counter));
    NN_TRY(open_base(j));
    NN_TRY(open_tuned(j));
    NN_TRY(nn_shards_expand(input, &j->paths, &j->n_paths));
    j->batch.author = j->author;
    j->batch.pool = j->device->pool;
    j->batch.rules = (nn_caption_rules){ least_words, most_words, most_tokens };
    j->batch.counter = tokenizer ? &j->counter : NULL;
    j->batch.drop_flagged = drop_flagged;
    return relabel_batch_init(&j->batch, set.batch);
}

static nn_status work(job *j)
{
    int64_t total;
    NN_TRY(prepare(j));
    NN_TRY(count_samples(j, &total));
    NN_TRY(claim_output(j));
    nn_progress_start(&j->progress, "relabel", "sample", 0, total);
    nn_status status = relabel_shards(j);
    nn_progress_stop(&j->progress);
    if (status == NN_OK) report(j);
    return status;
}

nn_status relabel(const nn_cli *cli)
{
    job j = { 0 };
    (void)cli;
    nn_status status = work(&j);
    relabel_batch_deinit(&j.batch);
    nn_file_list_free(j.paths, j.n_paths);
    for (int i = 0; i < RELABEL_AUTHORS; i++) {
        captioning_close(j.author[i].captioning);
        captioner_folder_close(&j.author[i].model);
    }
    if (tokenizer) nn_clip_bpe_close(&j.counter);
    nn_device_close(j.device);
    return status;
}
