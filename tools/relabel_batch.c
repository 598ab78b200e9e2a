/* Relabelling, a batch at a time. */
#include "tools/relabel_batch.h"

#include <string.h>

#include "engine/base/alloc.h"

nn_status relabel_batch_init(relabel_batch *b, int64_t size)
{
    b->size = size;
    b->sample = nn_alloc(size, sizeof(*b->sample));
    NN_NEED(b->sample);
    b->picture = nn_alloc(size, sizeof(*b->picture));
    NN_NEED(b->picture);
    b->captions = nn_alloc(size, sizeof(*b->captions));
    NN_NEED(b->captions);
    b->error = nn_alloc(size, sizeof(*b->error));
    NN_NEED(b->error);
    b->id = nn_alloc(size, sizeof(*b->id));
    NN_NEED(b->id);
    b->caption = nn_alloc(size, sizeof(*b->caption));
    NN_NEED(b->caption);
    return NN_OK;
}

void relabel_batch_deinit(relabel_batch *b)
{
    for (int64_t i = 0; b->error && i < b->size; i++) nn_text_free(&b->error[i]);
    for (int64_t i = 0; b->caption && i < b->size; i++) nn_text_free(&b->caption[i].text);
    nn_free(b->sample);
    nn_free(b->picture);
    nn_free(b->captions);
    nn_free(b->error);
    nn_free(b->id);
    nn_free(b->caption);
}

/* A sample without any caption yet is as good as others. */
static nn_status read_captions(const nn_sample *s, nn_captions **out)
{
    nn_status status = nn_captions_parse(s, out);
    return status == NN_NOT_FOUND ? nn_captions_create(out) : status;
}

static void read_samples(void *ctx, int thread, int64_t begin, int64_t end)
{
    relabel_batch *b = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const nn_sample *s = b->sample[i];
        nn_text_clear(&b->error[i]);
        b->captions[i] = NULL;
        b->picture[i] = (nn_image){ 0 };
        nn_status status = nn_image_decode(s->image.data, s->image.n, s->key, &b->picture[i]);
        if (status == NN_OK) status = read_captions(s, &b->captions[i]);
        if (status == NN_OK) continue;
        nn_image_free(&b->picture[i]);
        b->captions[i] = NULL;
        if (nn_text_add(&b->error[i], "%s", nn_error_message()) != NN_OK) continue;
    }
}

/* The text encoder's count is what a limit of tokens is about. */
static nn_status count_tokens(const relabel_batch *b, const caption *c, int64_t *n)
{
    nn_tokens tokens = { 0 };
    *n = c->tokens;
    if (!b->counter) return NN_OK;
    nn_status status = nn_clip_bpe_encode(b->counter, c->text.text, &tokens);
    *n = tokens.n;
    nn_tokens_free(&tokens);
    return status;
}

static nn_status add_column(relabel_batch *b, const relabel_author *a, const char *column,
                            nn_captions *captions, const caption *c)
{
    nn_caption_info info = { .logprob = c->logprob, .model = a->hash };
    NN_TRY(count_tokens(b, c, &info.tokens));
    info.flags = nn_caption_check(c->text.text, info.tokens, &b->rules);
    b->counts.captions++;
    for (int bit = 0; bit < NN_COUNT(b->counts.flagged); bit++)
        b->counts.flagged[bit] += info.flags >> bit & 1;
    if (b->drop_flagged && info.flags) {
        b->counts.dropped++;
        return NN_OK;
    }
    return nn_captions_set(captions, column, c->text.text, &info);
}

static nn_status write_captions(relabel_batch *b, const relabel_author *a)
{
    if (!a->captioning) return NN_OK;
    NN_TRY(captioning_look(a->captioning, b->picture, b->n));
    for (int k = 0; k < a->n; k++) {
        NN_TRY(captioning_write(a->captioning, k, b->id, b->n, b->caption));
        for (int i = 0; i < b->n; i++)
            if (b->captions[i])
                NN_TRY(add_column(b, a, a->column[k], b->captions[i], &b->caption[i]));
    }
    return NN_OK;
}

static nn_status copy_out(relabel_batch *b, int i, nn_shard_report *report, nn_shard_writer *w)
{
    nn_sample s = *b->sample[i];
    nn_text json = { 0 };
    b->counts.samples++;
    if (!b->captions[i]) {
        const char *why = b->error[i].length ? b->error[i].text : "cannot be read";
        b->counts.failed++;
        NN_TRY(nn_shard_report_add(report, NN_SHARD_CONTENT, s.shard, s.key, why));
        return nn_shard_writer_add(w, &s);
    }
    nn_status status = nn_captions_dump(b->captions[i], &json);
    s.json = (nn_span){ json.text, json.length };
    if (status == NN_OK) status = nn_shard_writer_add(w, &s);
    nn_text_free(&json);
    return status;
}

nn_status relabel_batch_run(relabel_batch *b, const nn_shards *shards, int64_t first, int n,
                            nn_shard_report *report, nn_shard_writer *w)
{
    nn_status status = NN_OK;
    bool any = false;
    b->n = n;
    for (int i = 0; i < n; i++) {
        b->sample[i] = nn_shards_at(shards, first + i);
        b->id[i] = b->sample[i]->id;
    }
    nn_pool_for(b->pool, n, 1, read_samples, b);
    for (int i = 0; i < n; i++) any |= b->captions[i] != NULL;
    for (int a = 0; a < RELABEL_AUTHORS && any && status == NN_OK; a++)
        status = write_captions(b, &b->author[a]);
    for (int i = 0; i < n && status == NN_OK; i++) status = copy_out(b, i, report, w);
    for (int i = 0; i < n; i++) {
        nn_image_free(&b->picture[i]);
        nn_captions_free(b->captions[i]);
        b->captions[i] = NULL;
    }
    return status;
}
