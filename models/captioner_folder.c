/* A captioner on disk. */
#include "models/captioner_folder.h"

#include <stdio.h>
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/weights.h"
#include "models/block/config.h"

static const char *const cleanings[] = { "blip", "none" };

const char *captioner_style(const captioner_styles *s, const char *column)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->column[i], column) == 0) return s->prefix[i];
    return NULL;
}

static nn_status set_style(captioner_styles *s, const char *column, int64_t n, const char *prefix,
                           int64_t n_prefix)
{
    int at = 0;
    if (n < 1 || n >= CAPTIONER_COLUMN || n_prefix >= CAPTIONER_PREFIX)
        return nn_fail(
            NN_ARGUMENT, "'%.*s=%.*s': a column has 1 to %d characters, its prefix at most %d",
            (int)n, column, (int)n_prefix, prefix, CAPTIONER_COLUMN - 1, CAPTIONER_PREFIX - 1);
    while (at < s->n && (strncmp(s->column[at], column, (size_t)n) != 0 || s->column[at][n])) at++;
    if (at == CAPTIONER_STYLES)
        return nn_fail(NN_ARGUMENT, "more than %d caption columns with a prefix", CAPTIONER_STYLES);
    snprintf(s->column[at], CAPTIONER_COLUMN, "%.*s", (int)n, column);
    snprintf(s->prefix[at], CAPTIONER_PREFIX, "%.*s", (int)n_prefix, prefix);
    if (at == s->n) s->n++;
    return NN_OK;
}

nn_status captioner_styles_parse(const char *text, captioner_styles *styles)
{
    for (const char *at = text; *at;) {
        int64_t n = (int64_t)strcspn(at, ";");
        const char *equals = memchr(at, '=', (size_t)n);
        if (!equals)
            return nn_fail(NN_ARGUMENT, "'%.*s': column=prefix is expected, several joined by ';'",
                           (int)n, at);
        NN_TRY(set_style(styles, at, equals - at, equals + 1, n - (equals - at) - 1));
        at += n + (at[n] == ';');
    }
    return NN_OK;
}

static nn_status parse_styles(const nn_json *json, captioner_folder *f)
{
    const char *column[CAPTIONER_STYLES], *prefix[CAPTIONER_STYLES], *cleaning = "blip";
    int n = 0, n_prefixes = 0;
    NN_TRY(nn_json_strings(json, "caption_columns", CAPTIONER_STYLES, column, &n));
    NN_TRY(nn_json_strings(json, "caption_prefixes", CAPTIONER_STYLES, prefix, &n_prefixes));
    if (n != n_prefixes)
        return nn_fail(NN_FORMAT, "%s: %d caption_columns, but %d caption_prefixes", json->file, n,
                       n_prefixes);
    for (int i = 0; i < n; i++)
        NN_TRY(set_style(&f->styles, column[i], (int64_t)strlen(column[i]), prefix[i],
                         (int64_t)strlen(prefix[i])));
    NN_TRY(nn_json_string(json, "caption_cleaning", &cleaning));
    for (int i = 0; i < NN_COUNT(cleanings); i++)
        if (strcmp(cleaning, cleanings[i]) == 0) {
            f->cleaning = (caption_cleaning)i;
            return NN_OK;
        }
    return nn_fail(NN_FORMAT, "%s: caption_cleaning is '%s'; blip and none are known", json->file,
                   cleaning);
}

static nn_status read_config(const char *dir, captioner_folder *f)
{
    nn_json json;
    NN_TRY(nn_json_open_config(dir, "config.json", &json));
    nn_status status = captioner_config_parse(&json, &f->config);
    if (status == NN_OK) status = parse_styles(&json, f);
    nn_json_close(&json);
    return status;
}

/* A graph that nobody runs declares the parameters. */
static nn_status declare(captioner_folder *f, nn_device *device, bool exact)
{
    const captioner_config *c = &f->config;
    nn_graph *g;
    NN_TRY(nn_params_create(&f->params));
    f->params->exact = exact;
    NN_TRY(nn_graph_create(&g));
    nn_scope s = nn_root(g, f->params, "");
    int64_t size = c->vision.image_size;
    nn_tensor *pixels = nn_input(g, "pixels", NN_F32, NN_DIMS(1, size, size, 3));
    nn_tensor *ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, 1));
    (void)captioner_logits(s, c, captioner_encode(s, c, pixels), ids, NULL);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    return nn_params_alloc(f->params, device, false);
}

static nn_status open_words(const char *dir, captioner_folder *f)
{
    f->tokenizer = nn_strdup(dir);
    NN_NEED(f->tokenizer);
    return caption_words_open(dir, &f->words);
}

/* The configuration of a trained model decides; its ids must be possible. */
static nn_status agree(const char *dir, captioner_folder *f)
{
    const text_decoder_config *t = &f->config.text;
    const int32_t special[] = { t->bos, t->eos, t->pad };
    if (f->words.n > t->vocab_size)
        return nn_fail(NN_FORMAT, "%s: the tokenizer has %lld tokens, vocab_size is %lld", dir,
                       (long long)f->words.n, (long long)t->vocab_size);
    for (int i = 0; i < NN_COUNT(special); i++)
        if (special[i] < 0 || special[i] >= t->vocab_size)
            return nn_fail(NN_FORMAT,
                           "%s: bos_token_id, sep_token_id or pad_token_id is %d, vocab_size %lld",
                           dir, special[i], (long long)t->vocab_size);
    f->words.bos = t->bos;
    f->words.eos = t->eos;
    f->words.pad = t->pad;
    return NN_OK;
}

static nn_status load(const char *dir, nn_device *device, bool exact, captioner_folder *f)
{
    NN_TRY(read_config(dir, f));
    NN_TRY(open_words(dir, f));
    NN_TRY(agree(dir, f));
    NN_TRY(declare(f, device, exact));
    return nn_params_load_network(f->params, dir, NN_NETWORK_BLIP, NULL);
}

nn_status captioner_folder_open(const char *dir, nn_device *device, bool exact,
                                captioner_folder *out)
{
    *out = (captioner_folder){ 0 };
    nn_status status = load(dir, device, exact, out);
    if (status != NN_OK) captioner_folder_close(out);
    return status;
}

static nn_status draw(const char *dir, const char *tokenizer, nn_device *device, uint64_t seed,
                      captioner_folder *f)
{
    text_decoder_config *t = &f->config.text;
    NN_TRY(read_config(dir, f));
    NN_TRY(open_words(tokenizer, f));
    t->vocab_size = f->words.n;
    t->bos = f->words.bos;
    t->eos = f->words.eos;
    t->pad = f->words.pad;
    NN_TRY(declare(f, device, true));
    return nn_params_init(f->params, seed);
}

nn_status captioner_folder_draw(const char *dir, const char *tokenizer, nn_device *device,
                                uint64_t seed, captioner_folder *out)
{
    *out = (captioner_folder){ 0 };
    nn_status status = draw(dir, tokenizer, device, seed, out);
    if (status != NN_OK) captioner_folder_close(out);
    return status;
}

void captioner_folder_close(captioner_folder *f)
{
    caption_words_close(&f->words);
    nn_params_destroy(f->params);
    nn_free(f->tokenizer);
    *f = (captioner_folder){ 0 };
}

static nn_status write_list(const char *key, const char *items, size_t stride, int n, nn_text *out)
{
    NN_TRY(nn_text_add(out, "  \"%s\": [", key));
    for (int i = 0; i < n; i++) {
        if (i) NN_TRY(nn_text_add(out, ", "));
        NN_TRY(nn_json_write_string(out, items + (size_t)i * stride));
    }
    return nn_text_add(out, "],\n");
}

static nn_status write_config(const captioner_folder *f, nn_text *out)
{
    const captioner_styles *s = &f->styles;
    NN_TRY(nn_text_add(out, "{\n  \"architectures\": [\"BlipForConditionalGeneration\"],\n"
                            "  \"model_type\": \"blip\",\n"));
    NN_TRY(captioner_config_write(&f->config, out));
    NN_TRY(write_list("caption_columns", s->column[0], CAPTIONER_COLUMN, s->n, out));
    NN_TRY(write_list("caption_prefixes", s->prefix[0], CAPTIONER_PREFIX, s->n, out));
    return nn_text_add(out, "  \"caption_cleaning\": \"%s\"\n}\n", cleanings[f->cleaning]);
}

static nn_status save_config(const captioner_folder *f, const char *dir)
{
    nn_text text = { 0 };
    char *path = nn_format("%s/config.json", dir);
    NN_NEED(path);
    nn_status status = write_config(f, &text);
    if (status == NN_OK) status = nn_file_write(path, text.text, text.length);
    nn_text_free(&text);
    nn_free(path);
    return status;
}

static nn_status copy_if_there(const char *from, const char *to, const char *name)
{
    char *src = nn_format("%s/%s", from, name), *dst = nn_format("%s/%s", to, name);
    char *bytes = NULL;
    int64_t n;
    nn_status status = src && dst ? NN_OK : NN_MEMORY;
    if (status == NN_OK && nn_file_exists(src) && strcmp(src, dst) != 0) {
        status = nn_file_read(src, NN_JSON_TOKENIZER_BYTES, &bytes, &n);
        if (status == NN_OK) status = nn_file_write(dst, bytes, n);
    }
    nn_free(bytes);
    nn_free(src);
    nn_free(dst);
    return status;
}

nn_status captioner_folder_save(const captioner_folder *f, const char *dir)
{
    static const char *const files[] = { "vocab.txt", "vocab.json", "merges.txt", "tokenizer.json",
                                         "tokenizer_config.json" };
    NN_TRY(nn_file_make_dir(dir));
    for (int i = 0; i < NN_COUNT(files); i++) NN_TRY(copy_if_there(f->tokenizer, dir, files[i]));
    NN_TRY(save_config(f, dir));
    char *path = nn_format("%s/model.safetensors", dir);
    NN_NEED(path);
    nn_status status = nn_params_save_network(f->params, path, NN_NETWORK_BLIP, NN_F32);
    nn_free(path);
    return status;
}

nn_status captioner_square(const captioner_config *c, const nn_image *image, nn_image *out)
{
    return nn_image_resize(image, c->vision.image_size, c->vision.image_size, NN_RESIZE_BICUBIC,
                           NN_RESIZE_PILLOW_13, out);
}

void captioner_pixels(const nn_image *square, float *out)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    nn_image_to_tensor(square, out, mean, deviation);
}
