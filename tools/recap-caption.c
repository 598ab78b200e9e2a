/* recap-caption: pictures to captions, one line each. */
#include <stdio.h>
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/captioning.h"

static captioning_settings set = { CAPTIONING_DEFAULTS, .batch = 16, .method = NN_DECODE_BEAM };
static const char *model_dir, *column, *prompt;
static int format;
static const char *const formats[] = { "text", "jsonl", NULL };
enum { AS_TEXT, AS_JSONL };
static device_settings on = DEVICE_DEFAULTS;

enum { MOST_FILE_BYTES = 256 << 20 };

static const nn_option options[] = {
    { .name = "model",
      .text = &model_dir,
      .value = "DIR",
      .required = true,
      .help = "captioner: config.json, model.safetensors, tokenizer" },
    { .name = "column",
      .text = &column,
      .value = "NAME",
      .excludes = "prompt",
      .help = "kind of caption, one that the model has a prefix for; else its first one" },
    { .name = "prompt",
      .text = &prompt,
      .value = "TEXT",
      .excludes = "column",
      .help = "words that the caption goes on from; they are not printed" },
    { .name = "num-captions",
      .integer = &set.captions,
      .low = 1,
      .high = 1000,
      .help = "captions a picture: draws, or the best that a beam search found" },
    { .name = "format",
      .choice = &format,
      .choices = formats,
      .help =
          "text: picture, tab, caption; jsonl: an object a caption, with its log-probability and "
          "ids, or an object with the error of a picture that cannot be read" },
    CAPTIONING_OPTIONS(set),
    DEVICE_OPTIONS(on),
    { 0 },
};

static nn_status read_picture(const char *path, nn_image *out)
{
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, MOST_FILE_BYTES, &bytes, &n));
    nn_status status = nn_image_decode(bytes, n, path, out);
    nn_free(bytes);
    return status;
}

static nn_status write_error(const char *path, const char *what)
{
    nn_text line = { 0 };
    nn_status status = nn_text_add(&line, "{\"picture\": ");
    if (status == NN_OK) status = nn_json_write_string(&line, path);
    if (status == NN_OK) status = nn_text_add(&line, ", \"error\": ");
    if (status == NN_OK) status = nn_json_write_string(&line, what);
    if (status == NN_OK) printf("%s}\n", line.text);
    nn_text_free(&line);
    return status;
}

static nn_status add_caption(const char *path, const caption *c, nn_text *line)
{
    NN_TRY(nn_text_add(line, "{\"picture\": "));
    NN_TRY(nn_json_write_string(line, path));
    NN_TRY(nn_text_add(line, ", \"caption\": "));
    NN_TRY(nn_json_write_string(line, c->text.text));
    NN_TRY(nn_text_add(line, ", \"logprob\": %.9g, \"score\": %.9g, \"ids\": [", c->logprob,
                       c->score));
    for (int i = 0; i < c->n_ids; i++) NN_TRY(nn_text_add(line, "%s%d", i ? ", " : "", c->ids[i]));
    return nn_text_add(line, "]}");
}

static nn_status write_caption(const char *path, const caption *c)
{
    nn_text line = { 0 };
    nn_status status = NN_OK;
    if (format == AS_TEXT)
        printf("%s\t%s\n", path, c->text.text);
    else {
        status = add_caption(path, c, &line);
        if (status == NN_OK) printf("%s\n", line.text);
    }
    nn_text_free(&line);
    return status;
}

/* Pictures that cannot be read stay empty and are told on stderr; as JSON, on stdout too. */
static nn_status read_pictures(const char *const *paths, int n, nn_image *pictures, int *n_bad)
{
    int bad = 0;
    for (int i = 0; i < n; i++) {
        nn_status status = read_picture(paths[i], &pictures[i]);
        if (status == NN_MEMORY) return status;
        if (status == NN_OK) continue;
        pictures[i] = (nn_image){ 0 };
        fprintf(stderr, "%s\n", nn_error_message());
        if (format == AS_JSONL) NN_TRY(write_error(paths[i], nn_error_message()));
        bad++;
    }
    *n_bad += bad;
    return NN_OK;
}

static nn_status caption_batch(captioning *c, const char *const *paths, const nn_image *pictures,
                               int n, caption *out)
{
    bool any = false;
    const int64_t each = set.captions;
    uint64_t *id = nn_alloc(n * each, sizeof(*id));
    NN_NEED(id);
    for (int64_t i = 0; i < n * each; i++) id[i] = (uint64_t)(i % each);
    for (int i = 0; i < n; i++) any |= pictures[i].rgb != NULL;
    nn_status status = any ? captioning_look(c, pictures, n) : NN_OK;
    if (any && status == NN_OK) status = captioning_write(c, 0, id, n, out);
    for (int64_t i = 0; i < n * each && any && status == NN_OK; i++)
        if (pictures[i / each].rgb) status = write_caption(paths[i / each], &out[i]);
    nn_free(id);
    return status;
}

static nn_status caption_all(const nn_cli *cli, captioning *c)
{
    int n_bad = 0;
    nn_status status = NN_OK;
    nn_image *pictures = nn_alloc(set.batch, sizeof(*pictures));
    NN_NEED(pictures);
    caption *out = nn_alloc(set.batch * set.captions, sizeof(*out));
    if (!out) status = NN_MEMORY;
    for (int at = 0; at < cli->n_arguments && status == NN_OK; at += (int)set.batch) {
        int n = (int)nn_min(set.batch, cli->n_arguments - at);
        status = read_pictures(cli->arguments + at, n, pictures, &n_bad);
        if (status == NN_OK) status = caption_batch(c, cli->arguments + at, pictures, n, out);
        for (int i = 0; i < n; i++) nn_image_free(&pictures[i]);
        if (status == NN_OK && nn_cli_interrupted())
            status = nn_fail(NN_INTERRUPTED, "interrupted; what is printed is complete");
    }
    for (int64_t i = 0; out && i < set.batch * set.captions; i++) nn_text_free(&out[i].text);
    nn_free(out);
    nn_free(pictures);
    NN_TRY(status);
    if (n_bad)
        return nn_fail(NN_FORMAT, "%d of %d pictures could not be read", n_bad, cli->n_arguments);
    return NN_OK;
}

static nn_status choose_prefix(const captioner_folder *model, const char **prefix)
{
    const captioner_styles *s = &model->styles;
    *prefix = prompt ? prompt : column ? captioner_style(s, column) : "a picture of";
    if (!prompt && !column && s->n) *prefix = s->prefix[0];
    if (*prefix) return NN_OK;
    return nn_fail(NN_ARGUMENT, "%s: no prefix for '%s'%s%s; --prompt takes any words", model_dir,
                   column, s->n ? "; the first it has is " : "", s->n ? s->column[0] : "");
}

static nn_status open_and_caption(const nn_cli *cli, nn_device *device)
{
    captioner_folder model;
    captioning *c = NULL;
    const char *prefix;
    NN_TRY(captioner_folder_open(model_dir, device, false, &model));
    nn_status status = choose_prefix(&model, &prefix);
    if (status == NN_OK) status = captioning_open(&model, device, &set, &prefix, 1, &c);
    if (status == NN_OK) status = caption_all(cli, c);
    captioning_close(c);
    captioner_folder_close(&model);
    return status;
}

static nn_status run(const nn_cli *cli)
{
    nn_device *device;
    if (set.captions > 1 && set.method != NN_DECODE_SAMPLE &&
        (set.method != NN_DECODE_BEAM || set.captions > set.beams))
        return nn_fail(NN_ARGUMENT,
                       "--num-captions %lld needs --method sample, or beam with --num-beams %lld",
                       (long long)set.captions, (long long)set.captions);
    set.batch = nn_min(set.batch, cli->n_arguments);
    NN_TRY(device_open(&on, &device));
    nn_status status = open_and_caption(cli, device);
    nn_device_close(device);
    return status;
}

static const nn_command commands[] = {
    { .arguments = "IMAGE...",
      .least = 1,
      .most = 1 << 20,
      .example = "recap-caption --model captioner --column long cat.png dog.jpg",
      .options = options,
      .run = run },
    { 0 },
};
static const nn_program program = { "recap-caption", "Writes captions for pictures, a line each.",
                                    commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
