/* A corpus of captioned pictures as a captioner trains on it. */
#include "tools/caption_corpus.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"

enum { MOST_KEPT_BYTES = 1 << 30 };

/* A sample as the loader keeps it. */
typedef struct item {
    nn_image square;
    uint64_t id;
    unsigned present;         /* bit k: column k of the mix has a caption that fits */
    int32_t *ids, *labels;    /* [columns, length]; one block */
    int used[NN_MIX_COLUMNS]; /* ids in front of the padding */
} item;

static nn_status read_column(caption_corpus *c, int k, const char *text, item *it)
{
    const caption_corpus_config *f = &c->config;
    const int64_t at = (int64_t)k * f->length;
    nn_text clean = { 0 };
    bool overlong = false;
    nn_status status = caption_clean(f->model->cleaning, text, f->most_words, &clean);
    if (status == NN_OK)
        status = caption_row(&f->model->words, c->prefix[k], clean.text, f->length, f->overlong,
                             it->ids + at, it->labels + at, &it->used[k], &overlong);
    nn_text_free(&clean);
    c->n_captions++;
    if (overlong) c->n_overlong++;
    if (status == NN_OK && it->used[k]) it->present |= 1u << k;
    return status;
}

static nn_status read_captions(caption_corpus *c, const nn_sample *sample, item *it)
{
    nn_captions *captions;
    const int64_t n = (int64_t)c->mix.n * c->config.length;
    NN_TRY(nn_captions_parse(sample, &captions));
    it->ids = nn_alloc(2 * n, sizeof(*it->ids));
    it->labels = it->ids ? it->ids + n : NULL;
    nn_status status = it->ids ? NN_OK : NN_MEMORY;
    for (int k = 0; k < c->mix.n && status == NN_OK; k++) {
        const char *text = nn_captions_get(captions, c->mix.column[k]);
        if (text) status = read_column(c, k, text, it);
    }
    nn_captions_free(captions);
    if (status == NN_OK && !it->present)
        status = nn_fail(NN_NOT_FOUND, "%s: no caption that fits in the columns %s", sample->key,
                         c->config.columns);
    return status;
}

static void release(void *ctx, void *slot)
{
    item *it = slot;
    (void)ctx;
    nn_image_free(&it->square);
    nn_free(it->ids);
    *it = (item){ 0 };
}

static nn_status decode(void *ctx, const nn_sample *sample, void *slot)
{
    caption_corpus *c = ctx;
    item *it = slot;
    nn_image image;
    NN_TRY(nn_image_decode(sample->image.data, sample->image.n, sample->key, &image));
    nn_status status = captioner_square(&c->config.model->config, &image, &it->square);
    nn_image_free(&image);
    it->id = sample->id;
    if (status == NN_OK) status = read_captions(c, sample, it);
    if (status != NN_OK) release(NULL, it);
    return status;
}

static nn_status open_corpus(caption_corpus *c)
{
    const caption_corpus_config *f = &c->config;
    NN_TRY(nn_caption_mix_parse(f->columns, 0, &c->mix));
    for (int k = 0; k < c->mix.n; k++) {
        c->prefix[k] = captioner_style(&f->model->styles, c->mix.column[k]);
        if (!c->prefix[k])
            return nn_fail(NN_ARGUMENT,
                           "column '%s' has no prefix; give --prefixes \"%s=some words:\"",
                           c->mix.column[k], c->mix.column[k]);
    }
    NN_TRY(nn_shards_open(f->shards, NULL, &c->report, &c->shards));
    if (nn_shards_count(c->shards) < 1)
        return nn_fail(NN_NOT_FOUND, "%s: no sample that can be read", f->shards);
    return NN_OK;
}

nn_status caption_corpus_open(const caption_corpus_config *config, caption_corpus *out)
{
    memset(out, 0, sizeof(*out));
    out->config = *config;
    nn_status status = open_corpus(out);
    if (status != NN_OK) caption_corpus_close(out);
    return status;
}

static void log_counts(const caption_corpus *c)
{
    const char *fate = c->config.overlong == NN_OVERLONG_DROP ? "dropped" : "truncated";
    if (!c->loader) return;
    for (int k = 0; k < c->mix.n; k++)
        nn_log(NN_LOG_INFO, "%s: %lld captions drawn from %s", c->config.shards,
               (long long)c->counts.drawn[k], c->mix.column[k]);
    nn_log(NN_LOG_INFO,
           "%s: %lld drawn from another column for want of one; %lld of %lld too "
           "long and %s",
           c->config.shards, (long long)c->counts.fallback, (long long)c->n_overlong,
           (long long)c->n_captions, fate);
}

void caption_corpus_close(caption_corpus *c)
{
    int64_t faults = nn_shard_report_total(&c->report);
    log_counts(c);
    nn_loader_close(c->loader);
    nn_shards_close(c->shards);
    if (faults)
        nn_log(NN_LOG_WARN, "%s: %lld samples cannot be used; recap-data check lists them",
               c->config.shards, (long long)faults);
    nn_shard_report_free(&c->report);
    c->loader = NULL;
    c->shards = NULL;
}

nn_status caption_corpus_seek(caption_corpus *c, int64_t at)
{
    int64_t count = nn_shards_count(c->shards), side = c->config.model->config.vision.image_size;
    int64_t bytes = 3 * side * side + 8 * (int64_t)c->mix.n * c->config.length;
    nn_loader_config config = { .keep = count <= MOST_KEPT_BYTES / bytes,
                                .queue = 64,
                                .seed = c->config.seed,
                                .rank = c->config.rank,
                                .n_ranks = c->config.n_ranks,
                                .block = c->config.block,
                                .slot_bytes = sizeof(item),
                                .decode = decode,
                                .release = release,
                                .ctx = c };
    nn_loader_close(c->loader);
    c->loader = NULL;
    return nn_loader_open(c->shards, &config, at / count, at % count, &c->report, &c->loader);
}

nn_status caption_corpus_next(caption_corpus *c, float *pixels, int32_t *ids, int32_t *labels,
                              int32_t *seen)
{
    nn_loader_item next;
    const int length = c->config.length;
    const size_t bytes = (size_t)length * sizeof(*ids);
    NN_TRY(nn_loader_next(c->loader, &next));
    const item *it = next.slot;
    int k = nn_caption_draw(&c->mix, it->present, c->config.seed, next.epoch, it->id, &c->counts);
    captioner_pixels(&it->square, pixels);
    memcpy(ids, it->ids + (int64_t)k * length, bytes);
    memcpy(labels, it->labels + (int64_t)k * length, bytes);
    for (int i = 0; i < length; i++) seen[i] = i < it->used[k];
    return NN_OK;
}
