/* Reading the files of a CLIP tokenizer, in the three forms that are in use. */
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "data/clip_bpe.h"
#include "data/clip_merges.h"
#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"

enum { OPENAI_MERGES = 49152 - 256 - 2, MOST_TOKEN = 1024 };

/* Split "a b" and join it to "ab". */
static nn_status split_merge(const char *line, int64_t n, const char *file, char joined[MOST_TOKEN],
                             int64_t *n_left)
{
    const char *space = memchr(line, ' ', (size_t)n);
    *n_left = space ? space - line : 0;
    if (*n_left < 1 || *n_left + 1 >= n || memchr(space + 1, ' ', (size_t)(n - *n_left - 1)) ||
        n >= MOST_TOKEN)
        return nn_fail(NN_FORMAT, "%s: '%.*s' is no merge, two tokens and a space were expected",
                       file, (int)nn_min(n, 80), line);
    memcpy(joined, line, (size_t)*n_left);
    memcpy(joined + *n_left, space + 1, (size_t)(n - *n_left - 1));
    return NN_OK;
}

static nn_status add_merge(nn_clip_bpe *bpe, const char *line, int64_t n, const char *file)
{
    char joined[MOST_TOKEN];
    int64_t n_left;
    NN_TRY(split_merge(line, n, file, joined, &n_left));
    int32_t left = nn_vocab_find(&bpe->vocab, joined, n_left);
    int32_t right = nn_vocab_find(&bpe->vocab, joined + n_left, n - 1 - n_left);
    int32_t result = nn_vocab_find(&bpe->vocab, joined, n - 1);
    if (left < 0 || right < 0 || result < 0)
        return nn_fail(NN_FORMAT,
                       "%s: merge '%.*s' makes or needs a token that is not in the vocabulary",
                       file, (int)nn_min(n, 80), line);
    return nn_clip_merge_add(bpe, left, right, result);
}

/* Length of the line at p, without its end; *next gets the beginning of the following one. */
static int64_t line_length(const char *p, const char *end, const char **next)
{
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    *next = newline ? newline + 1 : end;
    int64_t n = (newline ? newline : end) - p;
    return n && p[n - 1] == '\r' ? n - 1 : n;
}

/* OpenAI's list gives the vocabulary as well: bytes, results of the merges in order, specials. */
static nn_status add_merge_result(nn_clip_bpe *bpe, const char *line, int64_t n, const char *file)
{
    char joined[MOST_TOKEN];
    int64_t n_left;
    NN_TRY(split_merge(line, n, file, joined, &n_left));
    nn_status status = nn_vocab_add(&bpe->vocab, joined, n - 1, bpe->vocab.n);
    if (status != NN_OK) return nn_fail_prefix(status, "%s: ", file);
    return add_merge(bpe, line, n, file);
}

static nn_status read_merges(nn_clip_bpe *bpe, const char *bytes, int64_t n, const char *file,
                             bool openai)
{
    const char *end = bytes + n, *next;
    for (const char *p = bytes; p < end; p = next) {
        int64_t length = line_length(p, end, &next);
        if (p == bytes && nn_starts_with(p, openai ? "\"" : "#version")) continue;
        if (openai && bpe->n_merges == OPENAI_MERGES) break; /* the rest of the file is not used */
        if (length == 0) continue;
        if (openai)
            NN_TRY(add_merge_result(bpe, p, length, file));
        else
            NN_TRY(add_merge(bpe, p, length, file));
    }
    return NN_OK;
}

static nn_status read_merges_file(nn_clip_bpe *bpe, const char *path, bool openai)
{
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, NN_JSON_TOKENIZER_BYTES, &bytes, &n));
    nn_status status = NN_OK;
    if (n > 1 && (unsigned char)bytes[0] == 0x1f && (unsigned char)bytes[1] == 0x8b)
        status = nn_fail(NN_FORMAT, "%s: is compressed by gzip, unpack it first", path);
    if (status == NN_OK) status = read_merges(bpe, bytes, n, path, openai);
    nn_free(bytes);
    return status;
}

static nn_status open_openai(const char *path, nn_clip_bpe *bpe)
{
    NN_TRY(nn_clip_add_byte_tokens(&bpe->vocab));
    NN_TRY(read_merges_file(bpe, path, true));
    NN_TRY(nn_vocab_add(&bpe->vocab, NN_CLIP_START, (int64_t)strlen(NN_CLIP_START), bpe->vocab.n));
    return nn_vocab_add(&bpe->vocab, NN_CLIP_END, (int64_t)strlen(NN_CLIP_END), bpe->vocab.n);
}

static nn_status open_vocab(const char *path, nn_clip_bpe *bpe)
{
    nn_json json;
    const char *slash = strrchr(path, '/');
    NN_TRY(nn_json_open(path, NN_JSON_TOKENIZER_BYTES, &json));
    nn_status status = nn_vocab_add_json(&bpe->vocab, json.node, path);
    nn_json_close(&json);
    NN_TRY(status);
    char *merges = nn_format("%.*smerges.txt", slash ? (int)(slash - path) + 1 : 0, path);
    NN_NEED(merges);
    status = read_merges_file(bpe, merges, false);
    nn_free(merges);
    return status;
}

/* A merge of tokenizer.json is "a b" or, in newer files, ["a", "b"]. */
static nn_status add_json_merge(nn_clip_bpe *bpe, const json_t *merge, const char *file)
{
    const char *line = json_string_value(merge);
    if (line) return add_merge(bpe, line, (int64_t)strlen(line), file);
    const char *left = json_string_value(json_array_get(merge, 0));
    const char *right = json_string_value(json_array_get(merge, 1));
    if (!left || !right || json_array_size(merge) != 2)
        return nn_fail(NN_FORMAT, "%s: a merge is neither \"a b\" nor [\"a\", \"b\"]", file);
    char *joined = nn_format("%s %s", left, right);
    NN_NEED(joined);
    nn_status status = add_merge(bpe, joined, (int64_t)strlen(joined), file);
    nn_free(joined);
    return status;
}

static nn_status read_tokenizer(const nn_json *json, nn_clip_bpe *bpe)
{
    nn_json model;
    const char *type = "BPE";
    NN_TRY(nn_json_need(json, "model"));
    NN_TRY(nn_json_child(json, "model", &model));
    NN_TRY(nn_json_string(&model, "type", &type));
    if (strcmp(type, "BPE") != 0)
        return nn_fail(NN_FORMAT, "%s: holds a %.40s tokenizer, BPE was expected", json->file,
                       type);
    NN_TRY(nn_json_need(&model, "vocab"));
    NN_TRY(nn_vocab_add_json(&bpe->vocab, json_object_get(model.node, "vocab"), json->file));
    NN_TRY(
        nn_vocab_add_added(&bpe->vocab, json_object_get(json->node, "added_tokens"), json->file));
    const json_t *merges = json_object_get(model.node, "merges");
    for (size_t i = 0; i < json_array_size(merges); i++)
        NN_TRY(add_json_merge(bpe, json_array_get(merges, i), json->file));
    return NN_OK;
}

static nn_status open_tokenizer(const char *path, nn_clip_bpe *bpe)
{
    nn_json json;
    NN_TRY(nn_json_open(path, NN_JSON_TOKENIZER_BYTES, &json));
    nn_status status = read_tokenizer(&json, bpe);
    nn_json_close(&json);
    return status;
}

static nn_status open_file(const char *path, nn_clip_bpe *bpe)
{
    if (nn_ends_with(path, "tokenizer.json")) return open_tokenizer(path, bpe);
    if (nn_ends_with(path, ".json")) return open_vocab(path, bpe);
    return open_openai(path, bpe);
}

static nn_status open_directory(const char *path, nn_clip_bpe *bpe)
{
    static const char *const names[] = { "vocab.json", "tokenizer.json",
                                         "bpe_simple_vocab_16e6.txt" };
    for (int i = 0; i < NN_COUNT(names); i++) {
        char *file = nn_format("%s/%s", path, names[i]);
        NN_NEED(file);
        bool exists = nn_file_exists(file);
        nn_status status = exists ? open_file(file, bpe) : NN_OK;
        nn_free(file);
        if (exists) return status;
    }
    return nn_fail(NN_NOT_FOUND, "%s: no vocab.json, tokenizer.json or %s in this directory", path,
                   names[2]);
}

/* The ids that encoding needs at hand. */
static nn_status resolve(const char *path, nn_clip_bpe *bpe)
{
    for (int byte = 0; byte < 256; byte++) {
        char token[8];
        int n = nn_utf8_encode((uint32_t)nn_clip_byte_symbol(byte), token);
        bpe->byte[byte] = nn_vocab_find(&bpe->vocab, token, n);
        memcpy(token + n, "</w>", 4);
        bpe->last_byte[byte] = nn_vocab_find(&bpe->vocab, token, n + 4);
    }
    bpe->start = nn_vocab_find_text(&bpe->vocab, NN_CLIP_START);
    bpe->end = nn_vocab_find_text(&bpe->vocab, NN_CLIP_END);
    if (bpe->start < 0 || bpe->end < 0)
        return nn_fail(NN_FORMAT, "%s: the vocabulary has no " NN_CLIP_START " or " NN_CLIP_END,
                       path);
    return NN_OK;
}

nn_status nn_clip_bpe_open(const char *path, nn_clip_bpe *bpe)
{
    struct stat info;
    *bpe = (nn_clip_bpe){ 0 };
    bool directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    nn_status status = directory ? open_directory(path, bpe) : open_file(path, bpe);
    if (status == NN_OK) status = resolve(path, bpe);
    if (status != NN_OK) nn_clip_bpe_close(bpe);
    return status;
}

void nn_clip_bpe_close(nn_clip_bpe *bpe)
{
    nn_vocab_free(&bpe->vocab);
    nn_free(bpe->merge);
    *bpe = (nn_clip_bpe){ 0 };
}
