/* recap-data tokenizer: learns a byte-level BPE from the captions of a corpus. */
#include "data/clip_bpe.h"
#include "engine/base/alloc.h"
#include "tools/data.h"

static const char *input, *output;
static int64_t vocab_size = 1024;

const nn_option data_tokenizer_options[] = {
    { .name = "input", .text = &input, .value = "SHARDS", .required = true, .help = "corpus" },
    { .name = "output",
      .text = &output,
      .value = "DIR",
      .required = true,
      .help = "where vocab.json and merges.txt go" },
    { .name = "vocab-size",
      .integer = &vocab_size,
      .low = 514,
      .high = 1e6,
      .help = "tokens at most" },
    { 0 },
};

typedef struct texts {
    char **items;
    int64_t n, capacity;
    nn_status status;
} texts;

static void add(void *ctx, const char *column, const char *text)
{
    texts *t = ctx;
    (void)column;
    if (t->status == NN_OK) t->status = nn_grow(&t->items, &t->capacity, t->n, sizeof(*t->items));
    if (t->status != NN_OK) return;
    t->items[t->n] = nn_strdup(text);
    if (t->items[t->n])
        t->n++;
    else
        t->status = NN_MEMORY;
}

static nn_status collect(void *ctx, const nn_sample *s, nn_shard_report *report)
{
    nn_captions *captions;
    texts *t = ctx;
    (void)report;
    NN_TRY(nn_captions_parse(s, &captions));
    nn_captions_each(captions, add, t);
    nn_captions_free(captions);
    return t->status;
}

nn_status data_tokenizer(const nn_cli *cli)
{
    texts t = { 0 };
    nn_shard_report report = { 0 };
    (void)cli;
    nn_status status = data_visit_shards("captions", input, collect, &t, &report);
    if (status == NN_OK) status = nn_file_make_dir(output);
    if (status == NN_OK)
        status = nn_clip_bpe_train((const char *const *)t.items, t.n, (int)vocab_size, output);
    nn_file_list_free(t.items, t.n);
    nn_shard_report_free(&report);
    return status;
}
