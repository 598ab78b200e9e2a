/* Pictures as files, with how they were made inside. */
#include "tools/sample_output.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "data/image.h"
#include "data/json.h"
#include "engine/base/file.h"
#include "engine/base/str.h"

static nn_status quantise(const char *path, const float *image, nn_image *out)
{
    int64_t n = out->width * out->height * 3;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(image[i]))
            return nn_fail(NN_NUMERIC,
                           "%s: the picture has values that are not finite; it is not written",
                           path);
        float y = fminf(fmaxf(image[i] * 0.5f + 0.5f, 0), 1);
        out->rgb[i] = (uint8_t)nearbyintf(y * 255.0f);
    }
    return NN_OK;
}

/* The line that image viewers of this field show. */
static nn_status describe(const sample_info *info, nn_text *out)
{
    NN_TRY(nn_text_add(out, "%s\n", info->prompt));
    if (info->negative && *info->negative)
        NN_TRY(nn_text_add(out, "Negative prompt: %s\n", info->negative));
    return nn_text_add(out,
                       "Steps: %" PRId64 ", Sampler: %s, CFG scale: %g, Seed: %" PRIu64
                       ", Size: %" PRId64 "x%" PRId64 ", Model: %s",
                       info->steps, info->scheduler, info->guidance, info->seed, info->width,
                       info->height, info->model);
}

static nn_status write_png(const char *path, const nn_image *picture, const sample_info *info,
                           nn_text *text, nn_text *png)
{
    NN_TRY(describe(info, text));
    nn_png_text parameters = { "parameters", text->text };
    NN_TRY(nn_image_encode_png(picture, &parameters, 1, png));
    return nn_file_write(path, png->text, png->length);
}

nn_status sample_write_png(const char *path, const float *image, const sample_info *info)
{
    nn_image picture;
    nn_text text = { 0 }, png = { 0 };
    NN_TRY(nn_image_create(info->width, info->height, &picture));
    nn_status status = quantise(path, image, &picture);
    if (status == NN_OK) status = write_png(path, &picture, info, &text, &png);
    nn_text_free(&text);
    nn_text_free(&png);
    nn_image_free(&picture);
    return status;
}

static nn_status add_line(nn_text *out, const prompt_line *line, int64_t picture)
{
    if (!line->json) {
        NN_TRY(nn_text_add(out, "{\"prompt\": "));
        NN_TRY(nn_json_write_string(out, line->text));
    } else {
        size_t n = strlen(line->json);
        while (n && line->json[n - 1] != '}') n--;
        NN_TRY(nn_text_add_bytes(out, line->json, (int64_t)n - 1)); /* without its closing brace */
    }
    return nn_text_add(out, ", \"file\": \"%06" PRId64 ".png\"}\n", picture);
}

nn_status sample_write_list(const char *dir, const prompts *list, int64_t per_prompt)
{
    nn_text out = { 0 }, path = { 0 };
    nn_status status = nn_text_add(&path, "%s/samples.jsonl", dir);
    for (int64_t i = 0; i < list->n * per_prompt && status == NN_OK; i++)
        status = add_line(&out, &list->lines[i / per_prompt], i);
    if (status == NN_OK) status = nn_file_write(path.text, out.text, out.length);
    nn_text_free(&out);
    nn_text_free(&path);
    return status;
}
