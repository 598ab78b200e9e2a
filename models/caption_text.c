/* Captions as a captioner reads and writes them. */
#include "models/caption_text.h"

#include <ctype.h>
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"

static nn_status has_file(const char *dir, const char *name, bool *found)
{
    char *path = nn_format("%s/%s", dir, name);
    NN_NEED(path);
    *found = nn_file_exists(path);
    nn_free(path);
    return NN_OK;
}

static nn_status open_wordpiece(const char *dir, caption_words *w)
{
    NN_TRY(nn_wordpiece_open(dir, &w->wordpiece));
    w->is_wordpiece = true;
    NN_TRY(nn_wordpiece_add_blip(&w->wordpiece));
    w->n = w->wordpiece.vocab.n;
    w->bos = w->wordpiece.dec;
    w->eos = w->wordpiece.sep;
    w->pad = w->wordpiece.pad;
    return NN_OK;
}

static nn_status open_bpe(const char *dir, caption_words *w)
{
    NN_TRY(nn_clip_bpe_open(dir, &w->bpe));
    w->n = w->bpe.vocab.n;
    w->bos = w->bpe.start;
    w->eos = w->bpe.end;
    w->pad = w->bpe.end;
    return NN_OK;
}

/* What kind of tokenizer a tokenizer.json is. */
static nn_status reads_wordpiece(const char *dir, bool *yes)
{
    nn_json json, model;
    const char *type = "";
    char *path = nn_format("%s/tokenizer.json", dir);
    NN_NEED(path);
    nn_status status = nn_json_open(path, NN_JSON_TOKENIZER_BYTES, &json);
    nn_free(path);
    NN_TRY(status);
    status = nn_json_child(&json, "model", &model);
    if (status == NN_OK) status = nn_json_string(&model, "type", &type);
    *yes = strcmp(type, "WordPiece") == 0;
    nn_json_close(&json);
    return status;
}

static nn_status open_either(const char *dir, caption_words *w)
{
    bool lines, json, whole;
    NN_TRY(has_file(dir, "vocab.txt", &lines));
    if (lines) return open_wordpiece(dir, w);
    NN_TRY(has_file(dir, "vocab.json", &json));
    if (json) return open_bpe(dir, w);
    NN_TRY(has_file(dir, "tokenizer.json", &whole));
    if (!whole)
        return nn_fail(NN_NOT_FOUND,
                       "%s: no tokenizer; vocab.txt, vocab.json with merges.txt, or "
                       "tokenizer.json is expected",
                       dir);
    NN_TRY(reads_wordpiece(dir, &lines));
    return lines ? open_wordpiece(dir, w) : open_bpe(dir, w);
}

nn_status caption_words_open(const char *dir, caption_words *out)
{
    *out = (caption_words){ 0 };
    nn_status status = open_either(dir, out);
    if (status != NN_OK) caption_words_close(out);
    return status;
}

void caption_words_close(caption_words *w)
{
    if (w->is_wordpiece)
        nn_wordpiece_close(&w->wordpiece);
    else
        nn_clip_bpe_close(&w->bpe);
    *w = (caption_words){ 0 };
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

nn_status caption_clean(caption_cleaning how, const char *text, int most_words, nn_text *out)
{
    bool gap = false, begun = false;
    int n_words = 0;
    for (const char *c = text; *c; c++) {
        bool blank = is_space(*c) || (how == CAPTION_CLEAN_BLIP && strchr(".!\"()*#:;~", *c));
        if (blank) {
            gap = true;
            continue;
        }
        if (gap || !begun) {
            if (most_words && n_words == most_words) break;
            n_words++;
            if (begun) NN_TRY(nn_text_add_bytes(out, " ", 1));
        }
        gap = false;
        begun = true;
        char kept = how == CAPTION_CLEAN_BLIP ? (char)tolower((unsigned char)*c) : *c;
        NN_TRY(nn_text_add_bytes(out, &kept, 1));
    }
    return begun ? NN_OK : nn_text_add_bytes(out, "", 0);
}

static nn_status encode(const caption_words *w, const char *text, nn_tokens *out)
{
    if (w->is_wordpiece) return nn_wordpiece_encode(&w->wordpiece, text, out);
    return nn_clip_bpe_encode(&w->bpe, text, out);
}

nn_status caption_prompt(const caption_words *w, const char *prefix, nn_tokens *out)
{
    nn_tokens content = { 0 };
    out->n = 0;
    nn_status status = nn_tokens_add(out, w->bos);
    if (status == NN_OK) status = encode(w, prefix, &content);
    for (int i = 0; i < content.n && status == NN_OK; i++)
        status = nn_tokens_add(out, content.ids[i]);
    nn_tokens_free(&content);
    return status;
}

/* Prompt and caption, cut where the row is full. */
static nn_status fill(const caption_words *w, const nn_tokens *prompt, const nn_tokens *caption,
                      int length, nn_overlong policy, int32_t *ids, int32_t *labels, int *used,
                      bool *overlong)
{
    int room = length - prompt->n - 1;
    if (room < 1)
        return nn_fail(NN_ARGUMENT,
                       "the prefix has %d tokens; %d of a caption leave no room; use a shorter "
                       "prefix or longer captions",
                       prompt->n - 1, length);
    *overlong = caption->n > room;
    int n = (int)nn_min(caption->n, room);
    for (int i = 0; i < length; i++) {
        ids[i] = w->pad;
        labels[i] = CAPTION_IGNORED;
    }
    *used = 0;
    if (*overlong && policy == NN_OVERLONG_DROP) return NN_OK;
    memcpy(ids, prompt->ids, (size_t)prompt->n * sizeof(*ids));
    for (int i = 0; i <= n; i++)
        ids[prompt->n + i] = labels[prompt->n + i] = i < n ? caption->ids[i] : w->eos;
    *used = prompt->n + n + 1;
    return NN_OK;
}

nn_status caption_row(const caption_words *w, const char *prefix, const char *caption, int length,
                      nn_overlong policy, int32_t *ids, int32_t *labels, int *used, bool *overlong)
{
    nn_tokens prompt = { 0 }, content = { 0 };
    nn_status status = caption_prompt(w, prefix, &prompt);
    if (status == NN_OK) status = encode(w, caption, &content);
    if (status == NN_OK)
        status = fill(w, &prompt, &content, length, policy, ids, labels, used, overlong);
    nn_tokens_free(&prompt);
    nn_tokens_free(&content);
    return status;
}

/* "a cat . a dog" -> "a cat. a dog", as WordPiece's decoder does. */
static void join_punctuation(char *text, int64_t *length)
{
    int64_t to = 0;
    for (int64_t i = 0; i < *length; i++) {
        if (to && text[to - 1] == ' ' && strchr(".,!?", text[i])) to--;
        text[to++] = text[i];
    }
    text[to] = 0;
    *length = to;
}

nn_status caption_detokenize(const caption_words *w, const int32_t *ids, int n, nn_text *out)
{
    int end = 0;
    while (end < n && ids[end] != w->eos) end++;
    int64_t before = out->length;
    if (w->is_wordpiece)
        NN_TRY(nn_wordpiece_decode(&w->wordpiece, ids, end, out));
    else
        NN_TRY(nn_clip_bpe_decode(&w->bpe, ids, end, out));
    NN_TRY(nn_text_add_bytes(out, "", 0));
    int64_t length = out->length - before;
    join_punctuation(out->text + before, &length);
    while (length && is_space(out->text[before + length - 1])) length--;
    out->length = before + length;
    out->text[out->length] = 0;
    return NN_OK;
}
