/* WordPiece: opening, encoding, decoding. */
#include "data/wordpiece.h"

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "data/json.h"
#include "data/unicode.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"

enum { LONGEST_WORD = 100 }; /* code points; a longer word is [UNK] */

static nn_status read_lines(const char *path, nn_wordpiece *wp)
{
    char *bytes;
    int64_t n;
    nn_status status = NN_OK;
    NN_TRY(nn_file_read(path, NN_JSON_TOKENIZER_BYTES, &bytes, &n));
    const char *end = bytes + n;
    int32_t id = 0;
    for (const char *p = bytes, *next; status == NN_OK && p < end; p = next, id++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        int64_t length = (newline ? newline : end) - p;
        next = newline ? newline + 1 : end;
        if (length && p[length - 1] == '\r') length--;
        status = nn_vocab_add(&wp->vocab, p, length, id);
    }
    if (status != NN_OK) nn_fail_prefix(status, "%s: line %d: ", path, id);
    nn_free(bytes);
    return status;
}

static nn_status read_tokenizer(const nn_json *json, nn_wordpiece *wp)
{
    nn_json model;
    const char *type = "WordPiece";
    NN_TRY(nn_json_need(json, "model"));
    NN_TRY(nn_json_child(json, "model", &model));
    NN_TRY(nn_json_string(&model, "type", &type));
    if (strcmp(type, "WordPiece") != 0)
        return nn_fail(NN_FORMAT, "%s: holds a %.40s tokenizer, WordPiece was expected", json->file,
                       type);
    NN_TRY(nn_json_need(&model, "vocab"));
    NN_TRY(nn_vocab_add_json(&wp->vocab, json_object_get(model.node, "vocab"), json->file));
    return nn_vocab_add_added(&wp->vocab, json_object_get(json->node, "added_tokens"), json->file);
}

static nn_status open_file(const char *path, nn_wordpiece *wp)
{
    nn_json json;
    if (!nn_ends_with(path, ".json")) return read_lines(path, wp);
    NN_TRY(nn_json_open(path, NN_JSON_TOKENIZER_BYTES, &json));
    nn_status status = read_tokenizer(&json, wp);
    nn_json_close(&json);
    return status;
}

static nn_status open_directory(const char *path, nn_wordpiece *wp)
{
    static const char *const names[] = { "vocab.txt", "tokenizer.json" };
    for (int i = 0; i < NN_COUNT(names); i++) {
        char *file = nn_format("%s/%s", path, names[i]);
        NN_NEED(file);
        bool exists = nn_file_exists(file);
        nn_status status = exists ? open_file(file, wp) : NN_OK;
        nn_free(file);
        if (exists) return status;
    }
    return nn_fail(NN_NOT_FOUND, "%s: no vocab.txt or tokenizer.json in this directory", path);
}

static nn_status resolve(const char *path, nn_wordpiece *wp)
{
    const struct {
        const char *token;
        int32_t *id;
        bool needed;
    } specials[] = {
        { "[PAD]", &wp->pad, true },  { "[UNK]", &wp->unk, true },    { "[CLS]", &wp->cls, true },
        { "[SEP]", &wp->sep, true },  { "[MASK]", &wp->mask, false }, { "[DEC]", &wp->dec, false },
        { "[ENC]", &wp->enc, false },
    };
    for (int i = 0; i < NN_COUNT(specials); i++) {
        *specials[i].id = nn_vocab_find_text(&wp->vocab, specials[i].token);
        if (*specials[i].id < 0 && specials[i].needed)
            return nn_fail(NN_FORMAT, "%s: the vocabulary has no %s", path, specials[i].token);
    }
    return NN_OK;
}

nn_status nn_wordpiece_open(const char *path, nn_wordpiece *wp)
{
    struct stat info;
    *wp = (nn_wordpiece){ 0 };
    bool directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    nn_status status = directory ? open_directory(path, wp) : open_file(path, wp);
    if (status == NN_OK) status = resolve(path, wp);
    if (status != NN_OK) nn_wordpiece_close(wp);
    return status;
}

void nn_wordpiece_close(nn_wordpiece *wp)
{
    nn_vocab_free(&wp->vocab);
    *wp = (nn_wordpiece){ 0 };
}

nn_status nn_wordpiece_add_blip(nn_wordpiece *wp)
{
    if (wp->dec < 0) {
        NN_TRY(nn_vocab_add(&wp->vocab, "[DEC]", 5, wp->vocab.n));
        wp->dec = wp->vocab.n - 1;
    }
    if (wp->enc < 0) {
        NN_TRY(nn_vocab_add(&wp->vocab, "[ENC]", 5, wp->vocab.n));
        wp->enc = wp->vocab.n - 1;
    }
    return NN_OK;
}

/* Drop control characters, unify white space, set ideographs apart. */
static nn_status clean(const nn_codes *raw, nn_codes *out)
{
    for (int64_t i = 0; i < raw->n; i++) {
        int32_t c = raw->code[i];
        bool ideograph = nn_is_cjk_ideograph(c);
        bool line_white = c == '\t' || c == '\n' || c == '\r';
        if (!line_white && (c == 0xfffd || nn_is_other(c))) continue;
        if (nn_is_space(c)) c = ' ';
        if (ideograph) NN_TRY(nn_codes_add(out, ' '));
        NN_TRY(nn_codes_add(out, c));
        if (ideograph) NN_TRY(nn_codes_add(out, ' '));
    }
    return NN_OK;
}

/* Lower case without accents. */
static nn_status fold(nn_codes *codes, nn_codes *out)
{
    NN_TRY(nn_codes_nfd(codes, 0));
    for (int64_t i = 0; i < codes->n; i++)
        if (!nn_is_nonspacing_mark(codes->code[i])) NN_TRY(nn_codes_add_lower(out, codes->code[i]));
    return NN_OK;
}

static bool splits(int32_t c)
{
    bool ascii = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
                 (c >= 123 && c <= 126);
    return ascii || nn_is_punctuation(c);
}

/* Longest pieces from the left; a word that cannot be covered is one [UNK]. */
static nn_status encode_word(const nn_wordpiece *wp, const int32_t *code, int64_t n, nn_tokens *out)
{
    char text[2 + 4 * LONGEST_WORD] = "##";
    int64_t at[LONGEST_WORD + 1] = { 2 }; /* byte where each code point begins */
    int first = out->n;
    if (n > LONGEST_WORD) return nn_tokens_add(out, wp->unk);
    for (int64_t i = 0; i < n; i++)
        at[i + 1] = at[i] + nn_utf8_encode((uint32_t)code[i], text + at[i]);
    for (int64_t begin = 0, end; begin < n; begin = end) {
        int64_t from = at[begin];
        int32_t id = -1;
        if (begin) { /* the two bytes before the rest of the word are already used */
            from -= 2;
            memcpy(text + from, "##", 2);
        }
        for (end = n; end > begin; end--) {
            id = nn_vocab_find(&wp->vocab, text + from, at[end] - from);
            if (id >= 0) break;
        }
        if (id < 0) {
            out->n = first;
            return nn_tokens_add(out, wp->unk);
        }
        NN_TRY(nn_tokens_add(out, id));
    }
    return NN_OK;
}

static nn_status encode_words(const nn_wordpiece *wp, const nn_codes *codes, nn_tokens *out)
{
    for (int64_t i = 0, end; i < codes->n; i = end) {
        end = i + 1;
        if (nn_is_space(codes->code[i])) continue;
        if (!splits(codes->code[i]))
            while (end < codes->n && !nn_is_space(codes->code[end]) && !splits(codes->code[end]))
                end++;
        NN_TRY(encode_word(wp, codes->code + i, end - i, out));
    }
    return NN_OK;
}

/* Text without special tokens. */
static nn_status encode_part(const nn_wordpiece *wp, const char *text, int64_t n, nn_tokens *out)
{
    nn_codes raw = { 0 }, cleaned = { 0 }, folded = { 0 };
    nn_status status = nn_codes_add_utf8(&raw, text, n);
    if (status == NN_OK) status = clean(&raw, &cleaned);
    if (status == NN_OK && !wp->cased) status = fold(&cleaned, &folded);
    if (status == NN_OK) status = encode_words(wp, wp->cased ? &cleaned : &folded, out);
    nn_codes_free(&raw);
    nn_codes_free(&cleaned);
    nn_codes_free(&folded);
    return status;
}

static bool is_special(const nn_wordpiece *wp, int32_t id)
{
    return id >= 0 && (id == wp->pad || id == wp->unk || id == wp->cls || id == wp->sep ||
                       id == wp->mask || id == wp->dec || id == wp->enc);
}

/* The special token written at p ("[SEP]"), or -1; *n gets its length. */
static int32_t special_at(const nn_wordpiece *wp, const char *p, int64_t *n)
{
    const char *close = strchr(p, ']');
    if (!close || close - p > 5) return -1;
    *n = close - p + 1;
    int32_t id = nn_vocab_find(&wp->vocab, p, *n);
    return is_special(wp, id) ? id : -1;
}

nn_status nn_wordpiece_encode(const nn_wordpiece *wp, const char *text, nn_tokens *out)
{
    int64_t length;
    out->n = 0;
    out->truncated = false;
    const char *begin = text;
    for (const char *p = strchr(text, '['); p; p = strchr(p, '[')) {
        int32_t id = special_at(wp, p, &length);
        if (id < 0) {
            p++;
            continue;
        }
        NN_TRY(encode_part(wp, begin, p - begin, out));
        NN_TRY(nn_tokens_add(out, id));
        begin = p += length;
    }
    return encode_part(wp, begin, (int64_t)strlen(begin), out);
}

nn_status nn_wordpiece_encode_framed(const nn_wordpiece *wp, const char *text, int32_t first,
                                     int most, nn_overlong policy, nn_tokens *out)
{
    NN_TRY(nn_wordpiece_encode(wp, text, out));
    return nn_tokens_frame(out, first, wp->sep, most, policy);
}

/* Replace every occurrence of a pattern by something that is not longer, in place. */
static void replace_all(nn_text *text, const char *pattern, const char *with)
{
    int64_t n = 0, length = (int64_t)strlen(pattern), shorter = (int64_t)strlen(with);
    for (int64_t i = 0; i < text->length;) {
        if (text->length - i >= length && memcmp(text->text + i, pattern, (size_t)length) == 0) {
            memcpy(text->text + n, with, (size_t)shorter);
            n += shorter;
            i += length;
        } else {
            text->text[n++] = text->text[i++];
        }
    }
    text->length = n;
    if (text->text) text->text[n] = 0;
}

static void clean_up(nn_text *text)
{
    static const char *const rules[][2] = {
        { " .", "." },     { " ?", "?" },   { " !", "!" },   { " ,", "," },     { " ' ", "'" },
        { " n't", "n't" }, { " 'm", "'m" }, { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };
    for (int i = 0; i < NN_COUNT(rules); i++) replace_all(text, rules[i][0], rules[i][1]);
}

static nn_status join(const nn_wordpiece *wp, const int32_t *ids, int n, nn_text *text)
{
    for (int i = 0; i < n; i++) {
        const char *token = nn_vocab_token(&wp->vocab, ids[i]);
        if (!token) return nn_fail(NN_ARGUMENT, "id %d is not in the vocabulary", ids[i]);
        if (is_special(wp, ids[i])) continue;
        bool glued = nn_starts_with(token, "##") && text->length > 0;
        NN_TRY(nn_text_add(text, "%s%s", glued || text->length == 0 ? "" : " ",
                           glued ? token + 2 : token));
    }
    return NN_OK;
}

nn_status nn_wordpiece_decode(const nn_wordpiece *wp, const int32_t *ids, int n, nn_text *out)
{
    nn_text text = { 0 };
    nn_status status = join(wp, ids, n, &text);
    clean_up(&text);
    if (status == NN_OK) status = nn_text_add_bytes(out, text.text ? text.text : "", text.length);
    nn_text_free(&text);
    return status;
}
