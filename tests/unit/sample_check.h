/* What the tests of recap-sample share: a small model in the scratch directory, and its pictures.
 */
#ifndef TESTS_UNIT_SAMPLE_CHECK_H
#define TESTS_UNIT_SAMPLE_CHECK_H

#include "tests/unit/small_sd.h"

#include "engine/base/alloc.h"
#include "tools/cli_internal.h"
#include "tools/sample.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

enum { SIDE = 16 }; /* pixels; the model's own size */

static const char scheduler_json[] =
    "{\"_class_name\": \"HeunDiscreteScheduler\", \"beta_schedule\": \"scaled_linear\","
    " \"timestep_spacing\": \"trailing\", \"use_karras_sigmas\": true}";

/* The path of a name in the scratch directory; lives as long as the program. */
static inline const char *at(const char *name)
{
    static char paths[48][160];
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", scratch_path, name);
    for (int i = 0; i < NN_COUNT(paths); i++) {
        if (!paths[i][0]) memcpy(paths[i], path, sizeof(path));
        if (!strcmp(paths[i], path)) return paths[i];
    }
    fail_msg("more names than places");
    return NULL;
}

static inline sample_settings settings(void)
{
    sample_settings s = SAMPLE_DEFAULTS;
    s.model = at("sd");
    s.prompt = "a red cube";
    s.steps = 3;
    s.on.threads = 1;
    return s;
}

static inline nn_status run(const sample_settings *s)
{
    NN_TRY(sample_check(s));
    return sample_run(s);
}

static inline nn_image read_image(const char *path, const char *key, nn_text *text)
{
    nn_image image;
    char *bytes;
    int64_t n;
    OK(nn_file_read(path, 1 << 24, &bytes, &n));
    OK(nn_image_decode(bytes, n, path, &image));
    if (key) OK(nn_image_png_text(bytes, n, key, text));
    nn_free(bytes);
    return image;
}

/* The hash of the picture's pixels that the settings give. */
static inline uint64_t draw(sample_settings s)
{
    s.output = at("one.png");
    if (run(&s) != NN_OK) fail_msg("%s", nn_error_message());
    nn_image image = read_image(s.output, NULL, NULL);
    uint64_t hash = nn_hash(0, image.rgb, image.width * image.height * 3);
    nn_image_free(&image);
    remove(s.output);
    return hash;
}

static inline bool same_files(const char *a, const char *b)
{
    nn_map x, y;
    OK(nn_map_open(a, &x));
    OK(nn_map_open(b, &y));
    bool same = x.size == y.size && !memcmp(x.data, y.data, (size_t)x.size);
    nn_map_close(&x);
    nn_map_close(&y);
    return same;
}

static inline void write_picture(const char *name, int side, int white_from)
{
    nn_image image;
    nn_text png = { 0 };
    OK(nn_image_create(side, side, &image));
    for (int64_t i = 0; i < image.width * image.height; i++)
        for (int c = 0; c < 3; c++)
            image.rgb[3 * i + c] =
                white_from < 0 ? (uint8_t)(i * (7 + c)) : (i % side >= white_from ? 255 : 0);
    OK(nn_image_encode_png(&image, NULL, 0, &png));
    scratch_write(name, png.text, png.length);
    nn_text_free(&png);
    nn_image_free(&image);
}

static inline int open_all(void **state)
{
    nn_device *d;
    if (scratch_make(state) != 0) return -1;
    nn_cli_quiet(true);
    OK(nn_device_open("ref", 1, &d));
    small_sd_write(at("sd"), scheduler_json, d);
    nn_device_close(d);
    write_picture("start.png", SIDE, -1);
    return 0;
}

static inline int close_all(void **state)
{
    small_sd_remove(at("sd"));
    return scratch_remove(state);
}

#endif
