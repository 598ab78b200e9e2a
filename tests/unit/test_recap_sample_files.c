/* recap-sample: what is written, when, and what is written into it. */
#include "tests/unit/sample_check.h"

#include <jansson.h>
#include <math.h>

static void test_a_picture_says_how_it_was_made(void **state)
{
    (void)state;
    sample_settings s = settings();
    nn_text text = { 0 }, json = { 0 };
    s.output = at("one.png");
    s.prompt = "a red caf\xc3\xa9, \"quoted\"";
    s.negative = "blue";
    s.scheduler = "euler_ancestral";
    s.seed = 42;
    OK(run(&s));
    nn_image image = read_image(s.output, "parameters", &text);
    assert_int_equal(image.width, SIDE);
    assert_int_equal(image.height, SIDE);
    nn_image_free(&image);
    assert_non_null(strstr(text.text, "a red caf\xc3\xa9, \"quoted\"\nNegative prompt: blue\n"
                                      "Steps: 3, Sampler: Euler a, CFG scale: 7.5, Seed: 42, "
                                      "Size: 16x16, Model hash: "));
    assert_non_null(strstr(text.text, ", Model: sd, RNG: CPU, Version: recap"));
    image = read_image(s.output, "recap", &json);
    json_t *j = json_loads(json.text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "prompt")), s.prompt);
    assert_int_equal(json_integer_value(json_object_get(j, "seed")), 42);
    assert_string_equal(json_string_value(json_object_get(j, "scheduler")), "euler_ancestral");
    assert_string_equal(json_string_value(json_object_get(j, "dtype")), "f32");
    assert_true(json_is_null(json_object_get(j, "init_image")));
    json_decref(j);
    nn_image_free(&image);
    nn_text_free(&text);
    nn_text_free(&json);
    remove(s.output);
}

/* The files of pictures drawn by themselves and in batches are the same bytes, also where prompts
 * differ in their windows; and each is named and listed with its own seed. */
static void test_the_seed_shown_is_the_real_one(void **state)
{
    (void)state;
    static const char list[] = "{\"prompt\": \"a red cube\", \"seed\": 70, \"id\": \"x\"}\n"
                               "{\"prompt\": \"two blue spheres two blue spheres two blue\"}\n"
                               "{\"prompt\": \"green\", \"negative_prompt\": \"red\"}\n";
    static const uint64_t seeds[] = { 70, 71, 102, 103, 104, 105 };
    sample_settings s = settings();
    scratch_write("list.jsonl", list, (int64_t)strlen(list));
    s.on.name = "ref";
    s.prompt = NULL;
    s.prompt_file = at("list.jsonl");
    s.per_prompt = 2;
    s.seed = 100;
    s.steps = 2;
    s.long_prompt = SAMPLE_LONG_WINDOWS;
    s.scheduler = "euler_ancestral";
    for (int k = 0; k < 2; k++) {
        s.batch = k ? 8 : 1;
        s.output_dir = k ? at("eight") : at("single");
        OK(run(&s));
    }
    char *bytes;
    int64_t n;
    OK(nn_file_read(at("eight/samples.jsonl"), 1 << 20, &bytes, &n));
    char *line = bytes;
    for (int i = 0; i < 6; i++) {
        char one[64], eight[64], shown[32];
        nn_text text = { 0 };
        snprintf(one, sizeof(one), "single/%06d.png", i);
        snprintf(eight, sizeof(eight), "eight/%06d.png", i);
        assert_true(same_files(at(one), at(eight)));
        nn_image image = read_image(at(eight), "parameters", &text);
        snprintf(shown, sizeof(shown), "Seed: %d,", (int)seeds[i]);
        assert_non_null(strstr(text.text, shown));
        assert_int_equal(strstr(text.text, "Negative prompt: red") != NULL, i >= 4);
        nn_image_free(&image);
        nn_text_free(&text);
        char *end = strchr(line, '\n');
        *end = 0;
        json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_int_equal(json_integer_value(json_object_get(j, "seed")), seeds[i]);
        assert_string_equal(json_string_value(json_object_get(j, "file")), eight + 6);
        json_decref(j);
        line = end + 1;
    }
    nn_free(bytes);
    small_sd_remove_flat(at("single"));
    small_sd_remove_flat(at("eight"));
}

static void test_resumption(void **state)
{
    (void)state;
    sample_settings s = settings();
    s.output_dir = at("many");
    s.per_prompt = 3;
    s.batch = 2;
    OK(run(&s));
    OK(nn_file_write(at("kept.png"), "", 0));
    assert_int_equal(rename(at("many/000001.png"), at("kept.png")), 0);
    OK(nn_file_write(at("many/000002.png"), "mine", 4)); /* there already: not touched */
    OK(run(&s));
    assert_true(same_files(at("many/000001.png"), at("kept.png")));
    nn_map map;
    OK(nn_map_open(at("many/000002.png"), &map));
    assert_int_equal(map.size, 4);
    nn_map_close(&map);
    small_sd_remove_flat(at("many"));
}

static void test_previews_grid_and_sheet(void **state)
{
    (void)state;
    sample_settings s = settings();
    s.output_dir = at("many");
    s.per_prompt = 3;
    s.batch = 2;
    s.steps = 5;
    s.scheduler = "euler";
    s.preview_every = 2;
    s.grid = at("grid.png");
    s.sheet = at("sheet.png");
    s.cell = 8;
    OK(run(&s));
    nn_text text = { 0 };
    nn_image grid = read_image(s.grid, "recap", &text), sheet = read_image(s.sheet, NULL, NULL);
    assert_true(grid.width == 3 * SIDE && grid.height == SIDE);
    assert_true(sheet.width == 3 * 8 + 4 * 4 && sheet.height == 8 + 2 * 4);
    assert_non_null(strstr(text.text, "000002.png"));
    nn_text_free(&text);
    for (int k = 0; k < 3; k++) {
        char name[64];
        snprintf(name, sizeof(name), "many/%06d.png", k);
        nn_image image = read_image(at(name), NULL, NULL);
        for (int y = 0; y < SIDE; y++)
            assert_memory_equal(grid.rgb + 3 * (y * grid.width + k * SIDE),
                                image.rgb + 3 * y * SIDE, 3 * SIDE);
        nn_image_free(&image);
        for (int call = 1; call <= 5; call++) {
            snprintf(name, sizeof(name), "many/%06d.step-%04d.png", k, call);
            assert_int_equal(nn_file_exists(at(name)), call == 2 || call == 4);
        }
    }
    nn_image_free(&grid);
    nn_image_free(&sheet);
    small_sd_remove_flat(at("many"));
}

/* The folder sd/vae with one weight of its last convolution changed, on a channel that is always 0:
 * what is 0 times it. */
static void spoil(float weight)
{
    nn_device *d;
    sd_model m;
    float values[8 * 3 * 3 * 3], gamma[8], beta[8];
    OK(nn_device_open("ref", 1, &d));
    OK(sd_model_open(at("sd"), d, SD_LOAD, 0, false, &m));
    nn_param *w = nn_params_find(m.vae_params, "decoder.conv_out.weight");
    nn_param *g = nn_params_find(m.vae_params, "decoder.conv_norm_out.weight");
    nn_param *b = nn_params_find(m.vae_params, "decoder.conv_norm_out.bias");
    OK(nn_params_read(m.vae_params, w, values));
    OK(nn_params_read(m.vae_params, g, gamma));
    OK(nn_params_read(m.vae_params, b, beta));
    gamma[0] = beta[0] = 0;
    values[4] = weight;
    OK(nn_params_write(m.vae_params, w, values));
    OK(nn_params_write(m.vae_params, g, gamma));
    OK(nn_params_write(m.vae_params, b, beta));
    OK(nn_params_save(m.vae_params, at("sd/vae/diffusion_pytorch_model.safetensors"), NULL, 0,
                      NN_F32));
    sd_model_close(&m);
    nn_device_close(d);
}

/* Once a run, however many batches it draws. */
static void test_the_log_says_when_steps_begin(void **state)
{
    (void)state;
    static const nn_command command = { 0 };
    static const nn_program program = { "recap-sample", "", &command };
    const nn_cli cli = { .program = &program, .command = &command };
    char *log;
    int64_t n;
    double age, opening, told, packing;
    sample_settings s = settings();
    s.output_dir = at("pictures");
    s.per_prompt = 2;
    OK(nn_cli_log_open(at("log.jsonl"), &cli, &(nn_options){ 0 }));
    OK(run(&s));
    OK(nn_cli_log_close());
    OK(nn_file_read(at("log.jsonl"), 1 << 20, &log, &n));
    const char *line = strstr(log, "{\"what\": \"start\"");
    assert_non_null(line);
    assert_null(strstr(line + 20, "\"start\""));
    line = strstr(line, "\"age\"");
    assert_int_equal(sscanf(line,
                            "\"age\": %lf, \"opening\": %lf, \"prompts\": %lf, \"packing\": %lf}",
                            &age, &opening, &told, &packing),
                     4);
    assert_true(age > 0 && opening > 0 && told >= 0 && packing >= 0);
    assert_true(fabs(age - opening - told - packing) < 1e-6);
    nn_free(log);
    OK(nn_file_remove(at("log.jsonl")));
    small_sd_remove_flat(at("pictures"));
}

static void test_not_finite(void **state)
{
    (void)state;
    sample_settings s = settings();
    s.on.name = "ref";
    s.output = at("one.png");
    s.steps = 1;
    spoil(3.4e38f); /* finite in f32, infinite when rounded to bf16 */
    const uint64_t in_f32 = draw(s);
    s.on.dtype = 1;
    assert_true(draw(s) == in_f32); /* drawn again in f32 */
    OK(run(&s));
    nn_text text = { 0 };
    nn_image image = read_image(s.output, "recap", &text);
    assert_non_null(strstr(text.text, "\"dtype\": \"f32\""));
    nn_image_free(&image);
    nn_text_free(&text);
    remove(s.output);
    spoil(INFINITY);
    for (s.on.dtype = 0; s.on.dtype < 2; s.on.dtype++) {
        expect_failure(run(&s), NN_NUMERIC, "not finite");
        assert_non_null(strstr(nn_error_message(), "seed 0"));
        assert_false(nn_file_exists(s.output));
    }
    spoil(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_picture_says_how_it_was_made),
        cmocka_unit_test(test_the_seed_shown_is_the_real_one),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_previews_grid_and_sheet),
        cmocka_unit_test(test_the_log_says_when_steps_begin),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
