/* recap-sample: what each setting changes. */
#include "tests/unit/sample_check.h"

/* A setting that is accepted changes the picture. */
static void test_every_setting_counts(void **state)
{
    (void)state;
    enum { MOST = 24 };
    uint64_t seen[MOST];
    int n = 0;
    sample_settings base = settings(), s;
    base.prompt = "a (red:1.5) cube two blue spheres"; /* too long for a window */
    base.scheduler = "ddim";
    seen[n++] = draw(base);
    assert_true(draw(base) == seen[0]);
#define VARY(change) (s = base, change, seen[n++] = draw(s))
    VARY(s.prompt = "green");
    VARY(s.negative = "green");
    VARY(s.weights = true);
    VARY(s.long_prompt = SAMPLE_LONG_WINDOWS);
    VARY(s.clip_skip = 1);
    VARY(s.scheduler = "unipc");
    VARY(s.scheduler = NULL);
    VARY(s.steps = 4);
    VARY(s.spacing = NN_SPACING_LINSPACE); /* the file: trailing */
    VARY(s.eta = 0.5);
    VARY(s.guidance = 3);
    VARY(s.guidance = 1);
    VARY(s.rescale = 0.7);
    VARY(s.seed = 1);
    VARY(s.rng = SD_RNG_TORCH_CUDA);
    VARY(s.rng = SD_RNG_PHILOX);
    VARY((s.width = 12, s.height = 12));
    VARY((s.tiling = SAMPLE_TILE_ON, s.tile = 8));
    VARY(s.init_image = at("start.png"));
    VARY((s.init_image = at("start.png"), s.strength = 0.4));
#undef VARY
    for (int a = 0; a < n; a++)
        for (int b = 0; b < a; b++)
            if (seen[a] == seen[b]) fail_msg("settings %d and %d give the same picture", b, a);
}

/* What the model's scheduler_config.json says is what is drawn. */
static void test_the_models_scheduler(void **state)
{
    (void)state;
    sample_settings s = settings(), named = settings();
    uint64_t own = draw(s);
    named.scheduler = "heun"; /* the file's class */
    assert_true(draw(named) == own);
    named.spacing = NN_SPACING_TRAILING; /* the file's spacing */
    named.karras = true;
    assert_true(draw(named) == own);
    named.spacing = NN_SPACING_LINSPACE;
    assert_true(draw(named) != own);
    named.spacing = 0;
    named.scheduler =
        "ddim"; /* has no Karras levels: the file's are left out, asked for they fail */
    named.karras = false;
    draw(named);
    named.karras = true;
    named.output = at("one.png");
    expect_failure(run(&named), NN_ARGUMENT, "Karras");
    assert_false(nn_file_exists(at("one.png")));
    small_sd_file(at("sd"), "scheduler/scheduler_config.json", "{}"); /* says nothing */
    s.scheduler = "unipc";
    const uint64_t plain = draw(s);
    s.karras = true;
    assert_true(draw(s) != plain);
    named = settings();
    named.scheduler = NULL;
    const uint64_t unnamed = draw(named);
    named.scheduler = "ddim";
    assert_true(draw(named) == unnamed);
    small_sd_file(at("sd"), "scheduler/scheduler_config.json", scheduler_json);
}

static void test_the_mask_is_honoured(void **state)
{
    (void)state;
    sample_settings s = settings(), other;
    s.init_image = at("start.png");
    s.scheduler = "ddim";
    s.strength = 0.7;
    other = s;
    other.prompt = "green green";
    const uint64_t whole = draw(s);
    write_picture("mask.png", 32, 0); /* white: all is drawn anew; another size than the picture */
    s.mask_image = other.mask_image = at("mask.png");
    assert_true(draw(s) == whole);
    assert_true(draw(other) != whole);
    write_picture("mask.png", 32, 16);
    const uint64_t half = draw(s);
    assert_true(half != whole && draw(other) != half);
    write_picture("mask.png", 32, 32); /* black: all stays, whatever the prompt */
    assert_true(draw(s) == draw(other));
}

static void test_a_model_that_fills_in(void **state)
{
    (void)state;
    sample_settings s = settings();
    nn_device *d;
    OK(nn_device_open("ref", 1, &d));
    small_sd_write_filler(at("fill"), d);
    nn_device_close(d);
    s.model = at("fill");
    s.output = at("one.png");
    expect_failure(run(&s), NN_ARGUMENT, "--mask-image");
    s.init_image = at("start.png");
    expect_failure(run(&s), NN_ARGUMENT, "fills in pictures");
    s.strength = 1;
    s.mask_image = at("mask.png");
    write_picture("mask.png", SIDE, 8);
    const uint64_t half = draw(s);
    /* The latent has every second pixel: one more is grey, none more of the mask is told. */
    write_picture("mask.png", SIDE, 7);
    const uint64_t pixel = draw(s);
    write_picture("mask.png", SIDE, 4);
    assert_true(pixel != half && draw(s) != half);
    small_sd_remove(at("fill"));
}

/* The size is that of the picture, rounded down, unless another is asked for. */
static void test_size_of_the_start(void **state)
{
    (void)state;
    sample_settings s = settings();
    write_picture("odd.png", 19, -1);
    s.init_image = at("odd.png");
    s.output = at("one.png");
    OK(run(&s));
    nn_image image = read_image(s.output, NULL, NULL);
    assert_true(image.width == 18 && image.height == 18);
    nn_image_free(&image);
    s.width = 10;
    OK(run(&s));
    image = read_image(s.output, NULL, NULL);
    assert_true(image.width == 10 && image.height == 18);
    nn_image_free(&image);
    remove(s.output);
}

static void test_tiles_are_near_the_whole(void **state)
{
    (void)state;
    sample_settings s = settings();
    nn_image image[2];
    s.width = s.height = 40;
    s.tile = 32;
    s.output = at("one.png");
    for (int k = 0; k < 2; k++) {
        s.tiling = k ? SAMPLE_TILE_ON : SAMPLE_TILE_AUTO; /* which is off for so small a one */
        OK(run(&s));
        image[k] = read_image(s.output, NULL, NULL);
    }
    int most = 0;
    for (int i = 0; i < 40 * 40 * 3; i++)
        most = (int)nn_max(most, abs(image[0].rgb[i] - image[1].rgb[i]));
    assert_in_range(most, 1, 40);
    nn_image_free(&image[0]);
    nn_image_free(&image[1]);
    remove(s.output);
}

static void test_wrong_settings(void **state)
{
    (void)state;
    sample_settings s = settings(), base = settings();
    expect_failure(run(&s), NN_ARGUMENT, "--output");
    base.output = at("one.png");
    s = base;
    s.prompt = NULL;
    expect_failure(run(&s), NN_ARGUMENT, "--prompt");
    s = base;
    s.prompt = "\xff";
    expect_failure(run(&s), NN_ARGUMENT, "UTF-8");
    s = base;
    s.mask_image = at("start.png");
    expect_failure(run(&s), NN_ARGUMENT, "--init-image");
    s = base;
    s.width = 15;
    expect_failure(run(&s), NN_ARGUMENT, "multiples of 2");
    s = base;
    s.per_prompt = 2;
    expect_failure(run(&s), NN_ARGUMENT, "2 pictures");
    s = base;
    s.scheduler = "eular";
    expect_failure(run(&s), NN_NOT_FOUND, "'euler'");
    s = base;
    s.clip_skip = 2;
    expect_failure(run(&s), NN_ARGUMENT, "layers");
    s = base;
    s.init_image = at("start.png");
    s.strength = 0.1;
    expect_failure(run(&s), NN_ARGUMENT, "strength");
    assert_false(nn_file_exists(base.output));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_setting_counts),
        cmocka_unit_test(test_the_models_scheduler),
        cmocka_unit_test(test_the_mask_is_honoured),
        cmocka_unit_test(test_a_model_that_fills_in),
        cmocka_unit_test(test_size_of_the_start),
        cmocka_unit_test(test_tiles_are_near_the_whole),
        cmocka_unit_test(test_wrong_settings),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
