/* Pictures as files, with how they were made inside. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "data/json.h"
#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/sample.h"

bool sample_is_finite(const float *image, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(image[i])) return false;
    return true;
}

/* A value of the parameters' last line: quoted where a reader would cut it. */
static nn_status add_value(nn_text *out, const char *text)
{
    if (strpbrk(text, ",:\n\"")) return nn_json_write_string(out, text);
    return nn_text_add(out, "%s", text);
}

/* The last part of a path. */
static nn_status add_name(nn_text *out, const char *path)
{
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/') n--;
    for (from = n; from > 0 && path[from - 1] != '/';) from--;
    char *name = nn_format("%.*s", (int)(n - from), path + from);
    NN_NEED(name);
    nn_status status = add_value(out, name);
    nn_free(name);
    return status;
}

/* The lines that image viewers of this field show. */
static nn_status describe(const sample_info *info, nn_text *out)
{
    static const char *const rng[] = { "CPU", "NV", "Philox" };
    const sample_settings *set = info->set;
    NN_TRY(nn_text_add(out, "%s\n", info->prompt));
    if (*info->negative) NN_TRY(nn_text_add(out, "Negative prompt: %s\n", info->negative));
    NN_TRY(nn_text_add(out, "Steps: %" PRId64 ", Sampler: %s", set->steps, info->title));
    if (info->karras) NN_TRY(nn_text_add(out, ", Schedule type: Karras"));
    NN_TRY(nn_text_add(out, ", CFG scale: %g, Seed: %" PRIu64 ", Size: %" PRId64 "x%" PRId64,
                       set->guidance, info->seed, info->width, info->height));
    NN_TRY(nn_text_add(out, ", Model hash: %010" PRIx64 ", Model: ", info->model >> 24));
    NN_TRY(add_name(out, set->model));
    if (set->init_image) NN_TRY(nn_text_add(out, ", Denoising strength: %g", set->strength));
    if (set->eta != 0) NN_TRY(nn_text_add(out, ", Eta: %g", set->eta));
    if (set->clip_skip) NN_TRY(nn_text_add(out, ", Clip skip: %" PRId64, set->clip_skip + 1));
    return nn_text_add(out, ", RNG: %s, Version: recap", rng[set->rng]);
}

static nn_status add_string(nn_text *out, const char *key, const char *text)
{
    NN_TRY(nn_text_add(out, "\"%s\": ", key));
    if (text) NN_TRY(nn_json_write_string(out, text));
    return nn_text_add(out, text ? ", " : "null, ");
}

/* The same and the rest, for programs. */
static nn_status describe_json(const sample_info *info, nn_text *out)
{
    const sample_settings *set = info->set;
    NN_TRY(nn_text_add(out, "{"));
    NN_TRY(add_string(out, "prompt", info->prompt));
    NN_TRY(add_string(out, "negative_prompt", info->negative));
    NN_TRY(nn_text_add(out, "\"prompt_weights\": %s, \"long_prompt\": \"%s\", ",
                       set->weights ? "true" : "false",
                       set->long_prompt == SAMPLE_LONG_WINDOWS ? "windows" : "truncate"));
    NN_TRY(add_string(out, "scheduler", info->scheduler));
    NN_TRY(nn_text_add(out, "\"karras\": %s, \"eta\": %.17g, \"steps\": %" PRId64 ", ",
                       info->karras ? "true" : "false", set->eta, set->steps));
    NN_TRY(nn_text_add(out, "\"guidance_scale\": %.17g, \"guidance_rescale\": %.17g, ",
                       set->guidance, set->rescale));
    NN_TRY(nn_text_add(out, "\"clip_skip\": %" PRId64 ", \"seed\": %" PRIu64 ", ", set->clip_skip,
                       info->seed));
    NN_TRY(add_string(out, "rng", sample_rng_names[set->rng]));
    NN_TRY(add_string(out, "init_image", set->init_image));
    NN_TRY(add_string(out, "mask_image", set->mask_image));
    if (set->init_image) NN_TRY(nn_text_add(out, "\"strength\": %.17g, ", set->strength));
    NN_TRY(nn_text_add(out, "\"width\": %" PRId64 ", \"height\": %" PRId64 ", ", info->width,
                       info->height));
    NN_TRY(add_string(out, "model", set->model));
    NN_TRY(nn_text_add(out, "\"model_hash\": \"%016" PRIx64 "\", ", info->model));
    return nn_text_add(out, "\"dtype\": \"%s\"}", info->dtype);
}

static nn_status write_png(const char *path, const nn_image *picture, const sample_info *info,
                           nn_text texts[3])
{
    NN_TRY(describe(info, &texts[0]));
    NN_TRY(describe_json(info, &texts[1]));
    const nn_png_text stored[] = { { "parameters", texts[0].text }, { "recap", texts[1].text } };
    NN_TRY(nn_image_encode_png(picture, stored, NN_COUNT(stored), &texts[2]));
    return nn_file_write(path, texts[2].text, texts[2].length);
}

nn_status sample_write_png(const char *path, const float *image, const sample_info *info)
{
    nn_image picture;
    nn_text texts[3] = { { 0 } };
    if (!sample_is_finite(image, info->width * info->height * 3))
        return nn_fail(NN_NUMERIC,
                       "%s: the picture has values that are not finite; it is not written", path);
    NN_TRY(nn_image_create(info->width, info->height, &picture));
    nn_image_from_pixels(image, &picture);
    nn_status status = write_png(path, &picture, info, texts);
    for (int i = 0; i < NN_COUNT(texts); i++) nn_text_free(&texts[i]);
    nn_image_free(&picture);
    return status;
}

/* -- the list -- */

static nn_status add_line(nn_text *out, const prompt_line *line, int64_t picture, uint64_t seed)
{
    char file[32];
    snprintf(file, sizeof(file), "%06" PRId64 ".png", picture);
    json_t *j = line->json ? json_loads(line->json, 0, NULL) : json_object();
    bool failed = !j;
    if (!line->json) failed |= json_object_set_new(j, "prompt", json_string(line->text)) != 0;
    failed |= json_object_set_new(j, "seed", json_integer((json_int_t)seed)) != 0;
    failed |= json_object_set_new(j, "file", json_string(file)) != 0;
    nn_status status = failed ? nn_fail(NN_MEMORY, "no memory for a line of samples.jsonl")
                              : nn_json_write(out, j, 0);
    json_decref(j);
    NN_TRY(status);
    return nn_text_add(out, "\n");
}

nn_status sample_write_list(const char *dir, const prompts *list, int64_t per_prompt,
                            sample_seed_of *seed_of, const void *ctx)
{
    nn_text out = { 0 }, path = { 0 };
    nn_status status = nn_text_add(&path, "%s/samples.jsonl", dir);
    for (int64_t i = 0; i < list->n * per_prompt && status == NN_OK; i++)
        status = add_line(&out, &list->lines[i / per_prompt], i, seed_of(ctx, i));
    if (status == NN_OK) status = nn_file_write(path.text, out.text, out.length);
    nn_text_free(&out);
    nn_text_free(&path);
    return status;
}

/* -- the model's name -- */

enum { BLOCKS = 256, BLOCK_BYTES = 4096 };

static nn_status hash_file(const char *path, uint64_t *hash)
{
    nn_map map;
    const char *slash = strrchr(path, '/');
    NN_TRY(nn_map_open(path, &map));
    *hash = nn_mix(*hash, nn_hash_text(slash ? slash + 1 : path));
    *hash = nn_mix(*hash, (uint64_t)map.size);
    const int64_t n = nn_min(map.size, BLOCK_BYTES), last = map.size - n;
    for (int64_t k = 0; k < BLOCKS && map.size; k++)
        *hash = nn_hash(*hash, map.data + last * k / (BLOCKS - 1), n);
    nn_map_close(&map);
    return NN_OK;
}

static nn_status hash_part(const char *path, uint64_t *hash)
{
    char **names;
    int64_t n;
    NN_TRY(nn_file_list(path, &names, &n));
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i++) {
        if (!nn_ends_with(names[i], ".safetensors") && !nn_ends_with(names[i], ".bin")) continue;
        char *file = nn_format("%s/%s", path, names[i]);
        status = file ? hash_file(file, hash) : NN_MEMORY;
        nn_free(file);
    }
    nn_file_list_free(names, n);
    return status;
}

nn_status sample_model_hash(const char *model, uint64_t *hash)
{
    static const char *const parts[] = { "unet", "text_encoder", "vae" };
    *hash = 0;
    if (sd_is_file(model)) return hash_file(model, hash);
    for (int i = 0; i < NN_COUNT(parts); i++) {
        char *path = nn_format("%s/%s", model, parts[i]);
        NN_NEED(path);
        nn_status status = hash_part(path, hash);
        nn_free(path);
        NN_TRY(status);
    }
    return NN_OK;
}
