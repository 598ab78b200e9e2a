/* recap-train vae and detector: where crops lie, PSNR, what is held out, resumption bit for bit,
 * and that both trainers learn. */
#include "tests/unit/scratch.h"

#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "models/detector.h"
#include "tools/data.h"
#include "tools/train.h"
#include "tools/train_images.h"

enum { SIZE = 64, SCENES = 24, MOST_WORDS = 64 };

static nn_command commands[4];
static const nn_program program = { "recap", "", commands };

/* The exit code of a command line; a word "@name" is a path in the scratch directory. */
static int call(const char *line)
{
    static char words[2048], paths[8][160];
    char *argv[MOST_WORDS + 1] = { NULL };
    int argc = 0, n_paths = 0;
    commands[0] =
        (nn_command){ .name = "scenes", .options = data_scenes_options, .run = data_scenes };
    commands[1] = train_vae_command;
    commands[2] = train_detector_command;
    snprintf(words, sizeof(words), "recap %s --quiet", line);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (*w == '@') {
            snprintf(paths[n_paths], sizeof(paths[0]), "%s/%s", scratch_path, w + 1);
            w = paths[n_paths++];
        }
        argv[argc++] = w;
    }
    return nn_cli_main(&program, argc, argv);
}

static const char tiny_codec[] =
    "{\"_class_name\": \"AutoencoderKL\", \"block_out_channels\": [8, 8, 16], "
    "\"latent_channels\": 4, \"layers_per_block\": 1, \"norm_num_groups\": 4}";

static int make_corpus(void **state)
{
    if (scratch_make(state) != 0) return -1;
    scratch_write("config.json", tiny_codec, (int64_t)strlen(tiny_codec));
    return call("scenes --output @corpus --count 24 --objects 6 --backgrounds 3 --layout grid2 "
                "--size 64 --seed 3");
}

/* Output directories lie one level deeper than what scratch_remove clears. */
static void clear(const char *name)
{
    static const char *const folders[] = { "/checkpoints", "" };
    for (int k = 0; k < 2; k++) {
        char directory[256], **names;
        int64_t n;
        snprintf(directory, sizeof(directory), "%s/%s%s", scratch_path, name, folders[k]);
        if (nn_file_list(directory, &names, &n) != NN_OK) continue;
        for (int64_t i = 0; i < n; i++) {
            char path[512];
            snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
            remove(path);
        }
        nn_file_list_free(names, n);
    }
}

static void read_file(const char *name, char **bytes, int64_t *n)
{
    assert_int_equal(nn_file_read(scratch(name), 16 << 20, bytes, n), NN_OK);
}

static bool same_files(const char *a, const char *b)
{
    char *bytes[2];
    int64_t n[2];
    read_file(a, &bytes[0], &n[0]);
    read_file(b, &bytes[1], &n[1]);
    bool same = n[0] == n[1] && memcmp(bytes[0], bytes[1], (size_t)n[0]) == 0;
    nn_free(bytes[0]);
    nn_free(bytes[1]);
    return same;
}

static double number_in(const char *name, const char *key)
{
    nn_json json;
    double value = -1;
    assert_int_equal(nn_json_open(scratch(name), NN_JSON_CONFIG_BYTES, &json), NN_OK);
    assert_int_equal(nn_json_double(&json, key, &value), NN_OK);
    nn_json_close(&json);
    return value;
}

static void open_corpus(train_images *images, bool needs_scene)
{
    train_corpus corpus = { .shards = scratch("corpus-000000.tar"),
                            .size = SIZE,
                            .held_out = 5,
                            .needs_scene = needs_scene,
                            .seed = 4 };
    assert_int_equal(train_images_open(&corpus, images), NN_OK);
}

/* -- geometry --------------------------------------------------------------------------------- */

static void test_crops_lie_around_objects(void **state)
{
    enum { CROP = 24 };
    train_images images;
    train_image image;
    int seen[NN_SCENE_ITEMS] = { 0 };
    (void)state;
    open_corpus(&images, true);
    assert_int_equal(train_images_read(&images, 0, &image), NN_OK);
    assert_true(image.has_scene);
    for (uint64_t i = 0; i < 200; i++) {
        nn_rng rng = nn_rng_make(1, "crop", i);
        int64_t x, y;
        train_crop_place(&image, SIZE, CROP, &rng, &x, &y);
        assert_in_range(x, 0, SIZE - CROP);
        assert_in_range(y, 0, SIZE - CROP);
        int near = 0;
        for (int k = 0; k < image.scene.n_items; k++) {
            const nn_scene_item *it = &image.scene.item[k];
            int64_t dx = x + CROP / 2 - it->x - it->size / 2;
            int64_t dy = y + CROP / 2 - it->y - it->size / 2;
            if (llabs(dx) > CROP / 4 || llabs(dy) > CROP / 4) continue;
            near++;
            seen[k]++;
        }
        assert_true(near >= 1);
    }
    for (int k = 0; k < image.scene.n_items; k++) assert_true(seen[k] > 20);
    train_image_free(&image);
    train_images_close(&images);
}

static void test_crops_without_scene_lie_anywhere(void **state)
{
    train_image image = { 0 };
    int corners = 0;
    (void)state;
    for (uint64_t i = 0; i < 400; i++) {
        nn_rng rng = nn_rng_make(1, "crop", i);
        int64_t x, y;
        train_crop_place(&image, 10, 8, &rng, &x, &y);
        assert_in_range(x, 0, 2);
        assert_in_range(y, 0, 2);
        corners += x == 2 && y == 2;
    }
    assert_in_range(corners, 20, 80); /* 44 expected */
    nn_rng rng = nn_rng_make(1, "crop", 0);
    int64_t x = -1, y = -1;
    train_crop_place(&image, 8, 8, &rng, &x, &y);
    assert_true(x == 0 && y == 0);
}

static void test_crop_pixels(void **state)
{
    uint8_t rgb[4 * 4 * 3];
    float out[2 * 2 * 3];
    train_image image = { .rgb = rgb };
    (void)state;
    for (int i = 0; i < 48; i++) rgb[i] = (uint8_t)(5 * i);
    train_crop_pixels(&image, 4, 2, 1, 2, out);
    for (int row = 0; row < 2; row++)
        for (int i = 0; i < 6; i++) {
            int at = ((2 + row) * 4 + 1) * 3 + i;
            assert_float_equal(out[row * 6 + i], (float)(5 * at) / 127.5f - 1, 1e-6);
        }
}

static void test_psnr(void **state)
{
    const uint8_t a[4] = { 0, 10, 200, 255 }, b[4] = { 0, 12, 197, 255 };
    const float pixels[5] = { -1, 1, 0.003f, -7, 7 };
    uint8_t bytes[5];
    (void)state;
    assert_float_equal(train_squared_error(a, b, 4), 13, 0);
    assert_float_equal(train_psnr(65.025), 30, 1e-9);
    assert_float_equal(train_psnr(0), 99, 0);
    train_bytes(pixels, 5, bytes);
    assert_memory_equal(bytes, ((uint8_t[]){ 0, 255, 128, 0, 255 }), 5);
    for (int i = 0; i < 256; i++) { /* there and back */
        uint8_t value = (uint8_t)i, back;
        float at = (float)value / 127.5f - 1;
        train_bytes(&at, 1, &back);
        assert_int_equal(back, value);
    }
}

/* -- the stream of pictures ------------------------------------------------------------------- */

static void test_held_out_samples_stay_out(void **state)
{
    train_images images;
    int times[SCENES] = { 0 };
    const train_image *image;
    int64_t number, epoch, position, next;
    (void)state;
    open_corpus(&images, false);
    assert_int_equal(images.n_train, SCENES - 5);
    assert_int_equal(train_images_seek(&images, 0, 0), NN_OK);
    for (int i = 0; i < 3 * (SCENES - 5) - 1; i++) {
        assert_int_equal(train_images_next(&images, &image, &number), NN_OK);
        times[number]++;
    }
    train_images_tell(&images, &epoch, &position);
    assert_int_equal(train_images_next(&images, &image, &number), NN_OK);
    times[number]++;
    for (int i = 0; i < SCENES; i++) assert_int_equal(times[i], i < SCENES - 5 ? 3 : 0);
    assert_int_equal(train_images_seek(&images, epoch, position), NN_OK);
    assert_int_equal(train_images_next(&images, &image, &next), NN_OK);
    assert_int_equal(next, number);
    train_images_close(&images);
    train_corpus all = { .shards = scratch("corpus-000000.tar"), .size = SIZE, .held_out = SCENES };
    expect_failure(train_images_open(&all, &images), NN_ARGUMENT, "none is left");
}

static void test_other_sizes_are_fitted(void **state)
{
    train_images images;
    train_image image;
    train_corpus half = { .shards = scratch("corpus-000000.tar"), .size = SIZE / 2 };
    (void)state;
    assert_int_equal(train_images_open(&half, &images), NN_OK);
    assert_int_equal(train_images_read(&images, 1, &image), NN_OK);
    assert_false(image.has_scene); /* its boxes are those of the large picture */
    train_image_free(&image);
    train_images_close(&images);
    half.needs_scene = true;
    assert_int_equal(train_images_open(&half, &images), NN_OK);
    expect_failure(train_images_read(&images, 1, &image), NN_FORMAT, "expected 32");
    train_images_close(&images);
}

/* -- exact scenes ----------------------------------------------------------------------------- */

static void test_exact(void **state)
{
    nn_scene scene = { .size = 64,
                       .n_items = 2,
                       .item = { { .object = 1, .x = 4, .y = 4, .size = 24 },
                                 { .object = 1, .x = 36, .y = 4, .size = 24 } } };
    nn_scene_detection found[3] = { { 1, 46, 18 }, { 1, 14, 18 }, { 2, 50, 50 } };
    (void)state;
    assert_true(detector_is_exact(&scene, found, 2));
    assert_false(detector_is_exact(&scene, found, 1));
    assert_false(detector_is_exact(&scene, found, 3)); /* one too many */
    found[1].x = 46;
    assert_false(detector_is_exact(&scene, found, 2)); /* twice the same */
    found[1].x = 14;
    found[1].object = 0;
    assert_false(detector_is_exact(&scene, found, 2));
    scene.item[0].object = 0;
    assert_true(detector_is_exact(&scene, found, 2));
    found[0].y = 40;
    assert_false(detector_is_exact(&scene, found, 2));
}

/* -- training --------------------------------------------------------------------------------- */

#define VAE                                                                                        \
    "vae --config-dir @ --train-data @corpus-000000.tar --resolution 64 "                          \
    "--held-out 5 --train-batch-size 4 --learning-rate 4e-3 --lr-scheduler cosine "                \
    "--ema-decay 0.8 --seed 7 --threads 1 --checkpointing-steps 3 --max-train-steps 6 "

static void test_codec_goes_on_bit_for_bit(void **state)
{
    const char *weights = "diffusion_pytorch_model.safetensors";
    char *bytes, one[96], two[96];
    int64_t n;
    (void)state;
    assert_int_equal(call(VAE "--crop 16 --output-dir @whole"), 0);
    read_file("whole/checkpoints/step-00000003.safetensors", &bytes, &n);
    assert_int_equal(nn_file_make_dir(scratch("rest/checkpoints")), NN_OK);
    scratch_write("rest/checkpoints/step-00000003.safetensors", bytes, n);
    nn_free(bytes);
    assert_int_equal(call(VAE "--crop 16 --output-dir @rest --log @rest.log"), 0);
    read_file("rest.log", &bytes, &n);
    assert_non_null(strstr(bytes, "\"update\": 4,")); /* it did go on, and not begin again */
    assert_null(strstr(bytes, "\"update\": 3,"));
    nn_free(bytes);
    snprintf(one, sizeof(one), "whole/%s", weights);
    snprintf(two, sizeof(two), "rest/%s", weights);
    assert_true(same_files(one, two));
    assert_true(same_files("whole/metrics.json", "rest/metrics.json"));
    assert_true(same_files("whole/config.json", "rest/config.json"));

    /* The factor makes the latents' deviation 1, and the rest of the configuration stays. */
    double std = number_in("whole/metrics.json", "latent_std");
    assert_true(std > 0);
    assert_float_equal(number_in("whole/config.json", "scaling_factor") * std, 1, 1e-6);
    assert_float_equal(number_in("whole/config.json", "latent_channels"), 4, 0);

    /* A finished run is left alone; another crop is another run. */
    assert_int_equal(call(VAE "--crop 16 --output-dir @whole"), 0);
    assert_int_equal(nn_file_remove(scratch("rest/finished")), NN_OK);
    assert_int_equal(call(VAE "--crop 24 --output-dir @rest"), NN_EXIT_USAGE);
    clear("rest");
}

static void test_bad_crops(void **state)
{
    (void)state;
    assert_int_equal(call(VAE "--crop 18 --output-dir @none"), NN_EXIT_USAGE);
    assert_int_equal(call(VAE "--crop 128 --output-dir @none"), NN_EXIT_USAGE);
    assert_false(nn_file_exists(scratch("none")));
}

static double first_loss(const char *log, const char *at)
{
    char *bytes;
    int64_t n;
    read_file(log, &bytes, &n);
    const char *line = strstr(bytes, at);
    assert_non_null(line);
    double loss = strtod(strstr(line, "\"loss\": ") + 8, NULL);
    nn_free(bytes);
    return loss;
}

static void test_detector_learns_with_the_codec(void **state)
{
    (void)state;
    assert_int_equal(call("detector --train-data @corpus-000000.tar --codec @whole "
                          "--objects 6 --resolution 64 --width 16 --blocks 1 --held-out 5 "
                          "--train-batch-size 4 --learning-rate 5e-3 --max-train-steps 40 "
                          "--seed 7 --threads 1 --log @judge.log --output-dir @judge"),
                     0);
    assert_true(first_loss("judge.log", "\"update\": 40,") <
                0.7 * first_loss("judge.log", "\"update\": 1,"));
    assert_in_range((int)(100 * number_in("judge/metrics.json", "exact_real")), 0, 100);
    assert_in_range((int)(100 * number_in("judge/metrics.json", "exact_reconstructed")), 0, 100);
    detector_config c;
    nn_device *device;
    nn_params *params;
    assert_int_equal(nn_device_open("cpu", 1, &device), NN_OK);
    assert_int_equal(detector_open(scratch("judge"), device, &c, &params), NN_OK);
    assert_true(c.n_objects == 6 && c.size == 64 && c.width == 16 && c.n_blocks == 1);
    nn_params_destroy(params);
    nn_device_close(device);
    clear("judge");
    clear("whole");
}

static int remove_corpus(void **state)
{
    static const char *const folders[] = { "whole", "rest", "judge" };
    for (int i = 0; i < NN_COUNT(folders); i++) {
        char path[256];
        clear(folders[i]);
        snprintf(path, sizeof(path), "%s/%s/checkpoints", scratch_path, folders[i]);
        rmdir(path);
    }
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crops_lie_around_objects),
        cmocka_unit_test(test_crops_without_scene_lie_anywhere),
        cmocka_unit_test(test_crop_pixels),
        cmocka_unit_test(test_psnr),
        cmocka_unit_test(test_held_out_samples_stay_out),
        cmocka_unit_test(test_other_sizes_are_fitted),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_codec_goes_on_bit_for_bit),
        cmocka_unit_test(test_bad_crops),
        cmocka_unit_test(test_detector_learns_with_the_codec),
    };
    return cmocka_run_group_tests(tests, make_corpus, remove_corpus);
}
