/* Prompts to windows of ids. */
#include "models/sd_prompt.h"

#include <string.h>

#include "data/prompt.h"
#include "engine/base/alloc.h"

/* All ids of a prompt, with their weights, and where BREAK begins a window. */
typedef struct content {
    nn_tokens ids;
    float *weight;
    bool *new_window;
    int64_t weights_capacity, windows_capacity;
    bool pending; /* a BREAK stood behind the last id */
} content;

static nn_status add_part(const sd_model *m, const nn_prompt_part *part, nn_tokens *scratch,
                          content *out)
{
    const char *text = part->text.text ? part->text.text : "";
    NN_TRY(nn_clip_bpe_encode(&m->tokenizer, text, scratch));
    out->pending |= part->new_window;
    for (int i = 0; i < scratch->n; i++) {
        const int64_t at = out->ids.n;
        NN_TRY(nn_grow(&out->weight, &out->weights_capacity, at, sizeof(*out->weight)));
        NN_TRY(nn_grow(&out->new_window, &out->windows_capacity, at, sizeof(*out->new_window)));
        out->weight[at] = (float)part->weight;
        out->new_window[at] = out->pending;
        out->pending = false;
        NN_TRY(nn_tokens_add(&out->ids, scratch->ids[i]));
    }
    return NN_OK;
}

static nn_status read_content(const sd_model *m, const char *text, bool weights, content *out)
{
    nn_tokens scratch = { 0 };
    nn_prompt parsed = { 0 };
    nn_prompt_part whole = { .text = { .text = (char *)text }, .weight = 1 }; /* borrowed */
    nn_status status = weights ? nn_prompt_parse(text, &parsed) : NN_OK;
    if (!weights) status = add_part(m, &whole, &scratch, out);
    for (int64_t i = 0; i < parsed.n && status == NN_OK; i++)
        status = add_part(m, &parsed.parts[i], &scratch, out);
    nn_prompt_free(&parsed);
    nn_tokens_free(&scratch);
    return status;
}

/* A further window with the given content; the arrays have room. */
static void add_window(const sd_model *m, sd_prompt *p, const int32_t *ids, const float *weight,
                       int64_t n)
{
    int32_t *to = p->ids + p->n_windows * p->length;
    float *w = p->weight + p->n_windows * p->length;
    p->n_windows++;
    for (int64_t i = 0; i < p->length; i++) {
        const bool inside = i > 0 && i <= n;
        to[i] = i == 0 ? m->tokenizer.start : inside ? ids[i - 1] : m->tokenizer.end;
        w[i] = inside ? weight[i - 1] : 1;
        p->weighted |= w[i] != 1;
    }
}

/* The end of the window that begins at content id `from`. */
static int64_t window_end(const content *c, int64_t from, int64_t most, bool breaks)
{
    const int64_t last = nn_min(from + most, c->ids.n);
    for (int64_t i = from + 1; i < last && breaks; i++)
        if (c->new_window[i]) return i;
    return last;
}

static nn_status keep_cut(const sd_model *m, const content *c, int64_t from, sd_prompt *out)
{
    nn_text text = { 0 };
    nn_status status =
        nn_clip_bpe_decode(&m->tokenizer, c->ids.ids + from, (int)(c->ids.n - from), &text);
    if (status == NN_OK && !(out->cut = nn_strdup(text.text ? text.text : ""))) status = NN_MEMORY;
    nn_text_free(&text);
    return status;
}

static nn_status fill(const sd_model *m, const content *c, const sd_prompt_rules *rules,
                      sd_prompt *out)
{
    const int64_t most = out->length - 2, room = rules->windows * out->length;
    int64_t from = 0;
    out->ids = nn_alloc(room, sizeof(*out->ids));
    NN_NEED(out->ids);
    out->weight = nn_alloc(room, sizeof(*out->weight));
    NN_NEED(out->weight);
    do {
        const int64_t end = window_end(c, from, most, rules->windows > 1);
        if (end > from)
            add_window(m, out, c->ids.ids + from, c->weight + from, end - from);
        else
            add_window(m, out, NULL, NULL, 0);
        from = end;
    } while (from < c->ids.n && out->n_windows < rules->windows);
    return from < c->ids.n ? keep_cut(m, c, from, out) : NN_OK;
}

nn_status sd_prompt_make(const sd_model *m, const char *text, const sd_prompt_rules *rules,
                         sd_prompt *out)
{
    content c = { 0 };
    NN_ASSERT(rules->windows >= 1 && rules->windows <= SD_MAX_WINDOWS);
    *out = (sd_prompt){ .length = m->text.max_positions };
    if (out->length < 3)
        return nn_fail(NN_SHAPE, "the text encoder has %lld positions; 3 are needed at least",
                       (long long)out->length);
    nn_status status = read_content(m, text, rules->weights, &c);
    if (status == NN_OK) status = fill(m, &c, rules, out);
    nn_tokens_free(&c.ids);
    nn_free(c.weight);
    nn_free(c.new_window);
    if (status != NN_OK) sd_prompt_free(out);
    return status;
}

void sd_prompt_free(sd_prompt *p)
{
    nn_free(p->ids);
    nn_free(p->weight);
    nn_free(p->cut);
    *p = (sd_prompt){ 0 };
}

nn_status sd_prompt_widen(const sd_model *m, sd_prompt *p, int n_windows)
{
    int32_t *ids = nn_realloc(p->ids, n_windows * p->length, sizeof(*ids));
    NN_NEED(ids);
    p->ids = ids;
    float *weight = nn_realloc(p->weight, n_windows * p->length, sizeof(*weight));
    NN_NEED(weight);
    p->weight = weight;
    while (p->n_windows < n_windows) add_window(m, p, NULL, NULL, 0);
    return NN_OK;
}
