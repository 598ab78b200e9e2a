/* recap-data humans: the small set on which the captioner is fine-tuned, each picture with a short
 * and a long caption. The true captions of scenes take the part of the human raters. */
#include <stdio.h>

#include "engine/base/alloc.h"
#include "tools/data.h"

static const char *input, *output;
static int64_t count = 100;

const nn_option data_humans_options[] = {
    { .name = "input",
      .text = &input,
      .value = "SHARDS",
      .required = true,
      .help = "a corpus of scenes" },
    { .name = "output",
      .text = &output,
      .value = "PREFIX",
      .required = true,
      .help = "the shard becomes PREFIX-000000.tar" },
    { .name = "count", .integer = &count, .low = 1, .high = 1e9, .help = "pictures to caption" },
    { 0 },
};

static nn_status set_captions(const nn_sample *s, const nn_captions *from, nn_captions *to)
{
    const char *brief = nn_captions_get(from, "true_short");
    const char *full = nn_captions_get(from, "true_long");
    if (!brief || !full)
        return nn_fail(NN_NOT_FOUND,
                       "%s, %s: has no true_short and true_long caption; recap-data scenes makes "
                       "corpora that have them",
                       s->shard, s->key);
    NN_TRY(nn_captions_set(to, "short", brief, NULL));
    return nn_captions_set(to, "long", full, NULL);
}

static nn_status add_sample(nn_shard_writer *w, const nn_sample *s)
{
    nn_captions *from, *to;
    nn_text json = { 0 };
    NN_TRY(nn_captions_parse(s, &from));
    nn_status status = nn_captions_create(&to);
    if (status == NN_OK) {
        status = set_captions(s, from, to);
        if (status == NN_OK) status = nn_captions_dump(to, &json);
        nn_captions_free(to);
    }
    nn_captions_free(from);
    nn_sample captioned = {
        .key = s->key, .format = s->format, .image = s->image, .json = { json.text, json.length }
    };
    if (status == NN_OK) status = nn_shard_writer_add(w, &captioned);
    nn_text_free(&json);
    return status;
}

static nn_status add_samples(nn_shard_writer *w, const nn_shards *shards)
{
    if (nn_shards_count(shards) < count)
        return nn_fail(NN_ARGUMENT, "%s: has %lld samples; --count is %lld", input,
                       (long long)nn_shards_count(shards), (long long)count);
    for (int64_t i = 0; i < count; i++) NN_TRY(add_sample(w, nn_shards_at(shards, i)));
    return NN_OK;
}

nn_status data_humans(const nn_cli *cli)
{
    nn_shards *shards;
    nn_shard_writer *writer = NULL;
    nn_shard_report report = { .strict = true };
    (void)cli;
    nn_status status = nn_shards_open(input, NULL, &report, &shards);
    nn_shard_report_free(&report);
    if (status != NN_OK) return status;
    status = data_make_place(output);
    if (status == NN_OK) status = nn_shard_writer_open(output, count, &writer);
    if (status == NN_OK) {
        status = add_samples(writer, shards);
        if (status == NN_OK)
            status = nn_shard_writer_close(writer);
        else
            nn_shard_writer_abort(writer);
    }
    nn_shards_close(shards);
    if (status == NN_OK) printf("%lld captioned pictures in %s-*.tar\n", (long long)count, output);
    return status;
}
