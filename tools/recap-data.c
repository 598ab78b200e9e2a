/* recap-data: makes, counts and checks corpora of captioned images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/caption_filter.h"
#include "data/captions.h"
#include "data/image.h"
#include "data/shards.h"
#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "tools/cli.h"

static const char *output, *errors;
static int64_t per_shard = 10000;
static bool strict;

enum { MOST_FILE = 64 << 20, MOST_TEXT = 64 << 10, MOST_JSON = 1 << 20, MOST_COLUMNS = 16 };

static nn_status interrupted(const char *saved)
{
    return nn_fail(NN_INTERRUPTED, "interrupted; %s", saved);
}

/* Whether image and captions of a sample can be read; what cannot is reported. size may be NULL.
 * The captions are the caller's. */
static nn_status read_sample(const nn_sample *s, nn_shard_report *report, nn_image *size,
                             nn_captions **captions)
{
    nn_image image = { 0 };
    *captions = NULL;
    nn_status status = nn_captions_parse(s, captions);
    if (status == NN_OK) status = nn_image_decode(s->image.data, s->image.n, s->key, &image);
    if (status == NN_OK) {
        if (size) *size = (nn_image){ .width = image.width, .height = image.height };
        nn_image_free(&image);
        return NN_OK;
    }
    nn_captions_free(*captions);
    *captions = NULL;
    if (status == NN_MEMORY) return status;
    return nn_shard_report_add(report, NN_SHARD_CONTENT, s->shard, s->key, nn_error_message());
}

/* The faults on stdout, or in the file of --errors. */
static nn_status list_faults(const nn_shard_report *report)
{
    if (errors) return nn_shard_report_save(report, errors);
    if (report->lines.length) fputs(report->lines.text, stdout);
    return NN_OK;
}

static void print_faults(const nn_shard_report *report)
{
    for (int i = 0; i < NN_SHARD_FAULTS; i++)
        if (report->count[i])
            fprintf(stderr, "  %-14s %lld\n", nn_shard_fault_word((nn_shard_fault)i),
                    (long long)report->count[i]);
}

/* import */

typedef struct import {
    const char *directory;
    nn_shard_writer *writer;
    nn_shard_report report;
    char key[256]; /* of the image before: two files, one key */
    int64_t written;
} import;

static const char *image_format(const char *name)
{
    static const char *const formats[] = { "png", "jpg", "jpeg", "webp" };
    const char *dot = strrchr(name, '.');
    for (int i = 0; dot && i < NN_COUNT(formats); i++)
        if (!strcasecmp(dot + 1, formats[i])) return formats[i];
    return NULL;
}

/* The file beside the image with this suffix; a span without data where there is none. */
static nn_status read_beside(const import *im, const char *name, const char *suffix, int64_t most,
                             nn_span *out)
{
    char *bytes = NULL, *path = *suffix ? nn_format("%s/%s.%s", im->directory, im->key, suffix)
                                        : nn_format("%s/%s", im->directory, name);
    NN_NEED(path);
    nn_status status = NN_OK;
    if (!*suffix || nn_file_exists(path)) status = nn_file_read(path, most, &bytes, &out->n);
    out->data = bytes;
    nn_free(path);
    return status;
}

static void free_span(nn_span span)
{
    nn_free((char *)(uintptr_t)span.data);
}

/* Take the sample if it can be read back; what cannot is reported. */
static nn_status store(import *im, const nn_sample *s)
{
    nn_captions *captions;
    if (!s->alt.data && !s->json.data)
        return nn_shard_report_add(&im->report, NN_SHARD_NO_CAPTION, im->directory, s->key,
                                   "has neither a .txt nor a .json file");
    NN_TRY(read_sample(s, &im->report, NULL, &captions));
    if (!captions) return NN_OK;
    nn_captions_free(captions);
    NN_TRY(nn_shard_writer_add(im->writer, s));
    im->written++;
    return NN_OK;
}

static nn_status import_file(import *im, const char *name)
{
    nn_sample s = { .key = im->key, .shard = im->directory, .format = image_format(name) };
    if (!s.format) return NN_OK;
    char key[sizeof(im->key)];
    int n = snprintf(key, sizeof(key), "%.*s", (int)(strrchr(name, '.') - name), name);
    if (n >= (int)sizeof(key) || !nn_shard_key_valid(key))
        return nn_shard_report_add(&im->report, NN_SHARD_NAME, im->directory, name,
                                   "the name has a second dot, or is no UTF-8, or too long");
    if (!strcmp(key, im->key))
        return nn_shard_report_add(&im->report, NN_SHARD_DUPLICATE, im->directory, name,
                                   "another image has this name");
    memcpy(im->key, key, sizeof(key));
    nn_status status = read_beside(im, name, "", MOST_FILE, &s.image);
    if (status == NN_OK) status = read_beside(im, name, "txt", MOST_TEXT, &s.alt);
    if (status == NN_OK) status = read_beside(im, name, "json", MOST_JSON, &s.json);
    if (status == NN_OK)
        status = store(im, &s);
    else if (status != NN_MEMORY)
        status = nn_shard_report_add(&im->report, NN_SHARD_MEMBER, im->directory, name,
                                     nn_error_message());
    free_span(s.image);
    free_span(s.alt);
    free_span(s.json);
    return status;
}

static nn_status import_files(import *im, char **names, int64_t n)
{
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "import", "file", 0, n);
    for (int64_t i = 0; i < n && status == NN_OK; i++) {
        if (nn_cli_interrupted())
            status = interrupted("the shards that were full are there; import begins anew");
        else
            status = import_file(im, names[i]);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status;
}

static nn_status run_import(const nn_cli *cli)
{
import im = {.directory = cli->arguments[0], .report.strict = strict };
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(im.directory, &names, &n));
    nn_status status = nn_shard_writer_open(output, per_shard, &im.writer);
    if (status == NN_OK) {
        status = import_files(&im, names, n);
        if (status == NN_OK)
            status = nn_shard_writer_close(im.writer);
        else
            nn_shard_writer_abort(im.writer);
    }
    nn_file_list_free(names, n);
    if (status == NN_OK) status = list_faults(&im.report);
    if (status == NN_OK) {
        printf("%lld samples imported, %lld faults\n", (long long)im.written,
               (long long)nn_shard_report_total(&im.report));
        print_faults(&im.report);
        if (!im.written)
            status = nn_fail(NN_NOT_FOUND,
                             "%s: has no image with a caption; NAME.png goes with NAME.txt",
                             im.directory);
    }
    nn_shard_report_free(&im.report);
    return status;
}

/* stats */

static const int band_ends[] = { 2, 5, 10, 15, 20, 30, 50, 77 }; /* words; the last band is open */
enum { BANDS = NN_COUNT(band_ends) + 1 };

typedef struct column {
    char name[64];
    int64_t n, capacity, words, most_words, band[BANDS];
    uint64_t *hashes;
} column;

typedef struct stats {
    column columns[MOST_COLUMNS];
    int n_columns;
    int64_t n, bytes, least_side, most_side;
    nn_status status; /* of a visit */
} stats;

static column *column_of(stats *st, const char *name)
{
    for (int i = 0; i < st->n_columns; i++)
        if (!strcmp(st->columns[i].name, name)) return &st->columns[i];
    if (st->n_columns == MOST_COLUMNS) return NULL;
    column *c = &st->columns[st->n_columns++];
    snprintf(c->name, sizeof(c->name), "%s", name);
    return c;
}

static void count_caption(void *ctx, const char *name, const char *text)
{
    stats *st = ctx;
    column *c = column_of(st, name);
    if (!c || st->status != NN_OK) return;
    st->status = nn_grow(&c->hashes, &c->capacity, c->n, sizeof(*c->hashes));
    if (st->status != NN_OK) return;
    int64_t words = nn_caption_words(text);
    int band = 0;
    while (band < BANDS - 1 && words > band_ends[band]) band++;
    c->hashes[c->n++] = nn_hash_text(text);
    c->words += words;
    c->most_words = nn_max(c->most_words, words);
    c->band[band]++;
}

static nn_status count_sample(stats *st, const nn_sample *s, nn_shard_report *report)
{
    nn_captions *captions;
    nn_image size = { 0 };
    NN_TRY(read_sample(s, report, &size, &captions));
    if (!captions) return NN_OK;
    int64_t low = nn_min(size.width, size.height), high = nn_max(size.width, size.height);
    st->least_side = st->n ? nn_min(st->least_side, low) : low;
    st->most_side = nn_max(st->most_side, high);
    st->bytes += s->image.n;
    st->n++;
    nn_captions_each(captions, count_caption, st);
    nn_captions_free(captions);
    return st->status;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double distinct_share(column *c)
{
    qsort(c->hashes, (size_t)c->n, sizeof(*c->hashes), by_value);
    int64_t distinct = 0;
    for (int64_t i = 0; i < c->n; i++) distinct += !i || c->hashes[i] != c->hashes[i - 1];
    return (double)distinct / (double)c->n;
}

static void print_stats(stats *st)
{
    printf("samples %lld, mean image %.1f kB, sides %lld to %lld pixels\n\n", (long long)st->n,
           st->n ? 1e-3 * (double)st->bytes / (double)st->n : 0, (long long)st->least_side,
           (long long)st->most_side);
    printf("%-10s %8s %9s %6s %5s   share of captions with so many words\n%-44s", "column",
           "captions", "distinct", "words", "most", "");
    for (int b = 0; b < BANDS; b++) {
        char band[16];
        snprintf(band, sizeof(band), b < BANDS - 1 ? "<=%d" : ">%d",
                 band_ends[nn_min(b, BANDS - 2)]);
        printf("%7s", band);
    }
    printf("\n");
    for (int i = 0; i < st->n_columns; i++) {
        column *c = &st->columns[i];
        printf("%-10s %8lld %8.1f%% %6.1f %5lld  ", c->name, (long long)c->n,
               100 * distinct_share(c), (double)c->words / (double)c->n, (long long)c->most_words);
        for (int b = 0; b < BANDS; b++)
            printf("%6.1f%%", 100.0 * (double)c->band[b] / (double)c->n);
        printf("\n");
    }
}

typedef nn_status visit_sample(stats *st, const nn_sample *s, nn_shard_report *report);

/* Every sample in turn. */
static nn_status visit_shards(const char *what, const char *spec, visit_sample *visit, stats *st,
                              nn_shard_report *report)
{
    nn_shards *shards;
    NN_TRY(nn_shards_open(spec, NULL, report, &shards));
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, what, "sample", 0, nn_shards_count(shards));
    for (int64_t i = 0; i < nn_shards_count(shards) && status == NN_OK; i++) {
        if (nn_cli_interrupted())
            status = interrupted("nothing was changed");
        else
            status = visit(st, nn_shards_at(shards, i), report);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    nn_shards_close(shards);
    return status;
}

static nn_status run_stats(const nn_cli *cli)
{
    stats st = { 0 };
    nn_shard_report report = { 0 };
    nn_status status = visit_shards("stats", cli->arguments[0], count_sample, &st, &report);
    if (status == NN_OK) {
        print_stats(&st);
        if (nn_shard_report_total(&report)) {
            fprintf(stderr, "skipped (recap-data check lists them):\n");
            print_faults(&report);
        }
    }
    for (int i = 0; i < st.n_columns; i++) nn_free(st.columns[i].hashes);
    nn_shard_report_free(&report);
    return status;
}

/* check */

static nn_status check_sample(stats *st, const nn_sample *s, nn_shard_report *report)
{
    nn_captions *captions;
    NN_TRY(read_sample(s, report, NULL, &captions));
    st->n += captions != NULL;
    nn_captions_free(captions);
    return NN_OK;
}

static nn_status run_check(const nn_cli *cli)
{
    stats st = { 0 };
    nn_shard_report report = { .strict = strict };
    nn_status status = visit_shards("check", cli->arguments[0], check_sample, &st, &report);
    if (status == NN_OK) status = list_faults(&report);
    int64_t faults = nn_shard_report_total(&report);
    if (status == NN_OK) {
        fprintf(stderr, "%lld samples are good, %lld faults\n", (long long)st.n, (long long)faults);
        print_faults(&report);
        if (faults)
            status = nn_fail(NN_FORMAT, "%s: %lld faults, listed %s%s", cli->arguments[0],
                             (long long)faults, errors ? "in " : "above", errors ? errors : "");
    }
    nn_shard_report_free(&report);
    return status;
}

#define ERRORS_OPTION                                                                              \
    {                                                                                              \
        .name = "errors", .text = &errors, .value = "FILE",                                        \
        .help = "list faults there instead of on stdout"                                           \
    }
#define STRICT_OPTION                                                                              \
    {                                                                                              \
        .name = "strict", .flag = &strict, .help = "stop at the first fault"                       \
    }

static const nn_option import_options[] = {
    { .name = "output",
      .text = &output,
      .value = "PREFIX",
      .required = true,
      .help = "shards become PREFIX-000000.tar, ..." },
    { .name = "per-shard",
      .integer = &per_shard,
      .low = 1,
      .high = 1e9,
      .help = "samples in one shard" },
    ERRORS_OPTION,
    STRICT_OPTION,
    { 0 },
};

static const nn_option check_options[] = { ERRORS_OPTION, STRICT_OPTION, { 0 } };

static const nn_command commands[] = {
    { .name = "import",
      .arguments = "DIR",
      .least = 1,
      .most = 1,
      .summary = "Packs a folder of images with captions (NAME.png, NAME.txt) into shards.",
      .example = "recap-data import photos --output shards/photos",
      .options = import_options,
      .run = run_import },
    { .name = "stats",
      .arguments = "SHARDS",
      .least = 1,
      .most = 1,
      .summary = "Counts samples, image sizes and the captions of every column.",
      .example = "recap-data stats 'shards/train-{000000..000003}.tar'",
      .run = run_stats },
    { .name = "check",
      .arguments = "SHARDS",
      .least = 1,
      .most = 1,
      .summary = "Reads every member; exits with 1 if one is broken.",
      .example = "recap-data check shards --errors shards/errors.jsonl",
      .options = check_options,
      .run = run_check },
    { 0 },
};

static const nn_program program = {
    "recap-data",
    "Makes, counts and checks corpora: tar shards of images and captions.",
    commands,
};

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
