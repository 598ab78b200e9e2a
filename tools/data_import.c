/* recap-data import: a folder of images with captions becomes shards. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/base/alloc.h"
#include "tools/data.h"

static const char *output;
static int64_t shard_size = 10000;

enum { MOST_FILE = 64 << 20, MOST_TEXT = 64 << 10, MOST_JSON = 1 << 20 };

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
    NN_TRY(data_read_sample(s, &im->report, NULL, &captions));
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
            status = data_interrupted("the shards that were full are there; import begins anew");
        else
            status = import_file(im, names[i]);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status;
}

nn_status data_import(const nn_cli *cli)
{
import im = {.directory = cli->arguments[0], .report.strict = data_strict };
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(im.directory, &names, &n));
    nn_status status = data_make_place(output);
    if (status == NN_OK) status = nn_shard_writer_open(output, shard_size, &im.writer);
    if (status == NN_OK) {
        status = import_files(&im, names, n);
        if (status == NN_OK)
            status = nn_shard_writer_close(im.writer);
        else
            nn_shard_writer_abort(im.writer);
    }
    nn_file_list_free(names, n);
    if (status == NN_OK) status = data_list_faults(&im.report);
    if (status == NN_OK) {
        printf("%lld samples imported, %lld faults\n", (long long)im.written,
               (long long)nn_shard_report_total(&im.report));
        data_print_faults(&im.report);
        if (!im.written)
            status = nn_fail(NN_NOT_FOUND,
                             "%s: has no image with a caption; NAME.png goes with NAME.txt",
                             im.directory);
    }
    nn_shard_report_free(&im.report);
    return status;
}

const nn_option data_import_options[] = {
    { .name = "output",
      .text = &output,
      .value = "PREFIX",
      .required = true,
      .help = "shards become PREFIX-000000.tar, ..." },
    { .name = "shard-size",
      .integer = &shard_size,
      .low = 1,
      .high = 1e9,
      .help = "samples in one shard" },
    DATA_ERRORS_OPTION,
    DATA_STRICT_OPTION,
    { 0 },
};
