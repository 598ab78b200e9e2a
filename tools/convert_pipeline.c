/* Stable Diffusion's folder without its networks. */
#include <string.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "models/published.h"
#include "tools/convert.h"

/* -- parts that are not known here -- */

static const char *const others[] = { "feature_extractor", "image_encoder", "safety_checker" };
enum { OTHERS = NN_COUNT(others) };

/* What model_index.json says: of the model, or of the folder that lends. */
typedef struct pipeline {
    nn_json json; /* no document: there is no index */
    char *folder; /* that holds the index; NULL = none */
    const char *class;
    const char *other[OTHERS][2]; /* library and class; NULL = the pipeline goes without it */
    bool wants_checker;
} pipeline;

static nn_status make_folder(const char *out, const char *name)
{
    char *path = nn_format("%s/%s", out, name);
    NN_NEED(path);
    nn_status status = nn_file_make_dir(path);
    nn_free(path);
    return status;
}

static nn_status copy_file(const char *from, const char *to, const char *name)
{
    char *source = nn_format("%s/%s", from, name), *target = nn_format("%s/%s", to, name);
    nn_map map = { 0 };
    nn_status status = source && target ? nn_map_open(source, &map) : NN_MEMORY;
    if (status == NN_OK)
        status = nn_file_write(target, map.data ? (const void *)map.data : "", map.size);
    nn_map_close(&map);
    nn_free(source);
    nn_free(target);
    return status;
}

static nn_status copy_all(const char *from, const char *to)
{
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(from, &names, &n));
    nn_status status = nn_file_make_dir(to);
    for (int64_t i = 0; i < n && status == NN_OK; i++) status = copy_file(from, to, names[i]);
    nn_file_list_free(names, n);
    return status;
}

/* One of the others: copied and kept in the index, or left out with a word about it. */
static nn_status pass_on(pipeline *p, int k, const char *out)
{
    const char *named[2] = { NULL, NULL };
    int n = 0;
    if (!p->folder) return NN_OK;
    if (nn_json_strings(&p->json, others[k], 2, named, &n) != NN_OK) n = 0; /* [null, null] */
    char *from = nn_format("%s/%s", p->folder, others[k]);
    NN_NEED(from);
    char *to = nn_format("%s/%s", out, others[k]);
    nn_status status = to ? NN_OK : NN_MEMORY;
    const bool there = nn_file_exists(from);
    if (status == NN_OK && there && n == 2) {
        status = copy_all(from, to);
        memcpy(p->other[k], named, sizeof(named));
    } else if (status == NN_OK && there) {
        nn_log(NN_LOG_WARN, "%s: model_index.json does not name it; %s goes without", from, out);
    } else if (status == NN_OK && n == 2) {
        nn_log(NN_LOG_WARN, "%s: is not there, though model_index.json names it; %s goes without",
               from, out);
    }
    nn_free(from);
    nn_free(to);
    return status;
}

/* -- model_index.json -- */

static nn_status open_index(const convert_model *m, pipeline *p)
{
    char *path;
    p->class = m->unet.in_channels == 2 * m->vae.latent_channels + 1
                   ? "StableDiffusionInpaintPipeline"
                   : "StableDiffusionPipeline";
    NN_TRY(convert_find(m, "model_index.json", &path));
    if (!path) return NN_OK;
    nn_status status = nn_json_open(path, NN_JSON_CONFIG_BYTES, &p->json);
    if (status == NN_OK) {
        p->folder = nn_format("%.*s", (int)(strrchr(path, '/') - path), path);
        if (!p->folder) status = NN_MEMORY;
        p->wants_checker = true;
        if (status == NN_OK) status = nn_json_string(&p->json, "_class_name", &p->class);
        if (status == NN_OK)
            status = nn_json_bool(&p->json, "requires_safety_checker", &p->wants_checker);
    }
    nn_free(path);
    return status;
}

static nn_status add_other(nn_text *out, const char *name, const char *const named[2])
{
    NN_TRY(nn_text_add(out, "  \"%s\": [", name));
    for (int i = 0; i < 2; i++) {
        if (named[i])
            NN_TRY(nn_json_write_string(out, named[i]));
        else
            NN_TRY(nn_text_add(out, "null"));
        NN_TRY(nn_text_add(out, i ? "],\n" : ", "));
    }
    return NN_OK;
}

static nn_status describe(const pipeline *p, const char *scheduler, nn_text *out)
{
    const bool checker = p->other[OTHERS - 1][0] && p->wants_checker;
    NN_TRY(nn_text_add(out, "{\n  \"_class_name\": "));
    NN_TRY(nn_json_write_string(out, p->class));
    NN_TRY(nn_text_add(out, ",\n"));
    for (int k = 0; k < OTHERS; k++) NN_TRY(add_other(out, others[k], p->other[k]));
    NN_TRY(nn_text_add(out, "  \"requires_safety_checker\": %s,\n  \"scheduler\": [\"diffusers\", ",
                       checker ? "true" : "false"));
    NN_TRY(nn_json_write_string(out, scheduler));
    return nn_text_add(out, "],\n  \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],\n"
                            "  \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],\n"
                            "  \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],\n"
                            "  \"vae\": [\"diffusers\", \"AutoencoderKL\"]\n}\n");
}

static nn_status write_index(const pipeline *p, const char *out)
{
    nn_json json;
    nn_text text = { 0 };
    const char *scheduler = "PNDMScheduler";
    NN_TRY(nn_json_open_config(out, "scheduler/scheduler_config.json", &json));
    nn_status status = nn_json_string(&json, "_class_name", &scheduler);
    if (status == NN_OK) status = describe(p, scheduler, &text);
    nn_json_close(&json);
    if (status == NN_OK)
        status = convert_write_text(out, "model_index.json", text.text, text.length);
    nn_text_free(&text);
    return status;
}

/* -- all of it -- */

static nn_status write_words_and_steps(const convert_model *m, const char *out)
{
    static const char *const words[] = {
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        NULL,
    };
    static const char *const steps[] = { "scheduler/scheduler_config.json", NULL };
    int n;
    NN_TRY(make_folder(out, "scheduler"));
    NN_TRY(make_folder(out, "tokenizer"));
    NN_TRY(convert_copy_files(m, words, out, &n));
    if (!n)
        nn_log(NN_LOG_WARN,
               "%s: has no tokenizer; give --like a folder that has one, or copy it "
               "to %s/tokenizer",
               m->in, out);
    NN_TRY(convert_copy_files(m, steps, out, &n));
    if (n) return NN_OK;
    return convert_write_text(out, steps[0], published_schedule,
                              (int64_t)strlen(published_schedule));
}

nn_status convert_write_pipeline(const convert_model *m, const char *out)
{
    pipeline p = { 0 };
    NN_TRY(write_words_and_steps(m, out));
    nn_status status = open_index(m, &p);
    for (int k = 0; k < OTHERS && status == NN_OK; k++) status = pass_on(&p, k, out);
    if (status == NN_OK) status = write_index(&p, out);
    nn_json_close(&p.json);
    nn_free(p.folder);
    return status;
}
