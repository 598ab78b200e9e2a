/* Stable Diffusion 1.4 at its full size, with random weights: out of a folder, through a single
 * file and back, and the pictures of both. Seven gigabytes of disk, six of memory. */
#include "tests/unit/sample_check.h"

#include <math.h>

#include "tools/convert.h"

/* What a configuration leaves out is as in Stable Diffusion 1.4. */
static const small_sd sd14 = { "{}", "{}", "{}",
                               "{\"_class_name\": \"PNDMScheduler\", \"beta_start\": 0.00085,"
                               " \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","
                               " \"steps_offset\": 1, \"skip_prk_steps\": true}" };

enum { PIXELS = 128, UNET = 859520964, VAE = 83653863, TEXT = 123060480 /* parameters */ };

static int64_t same_as_f16(const nn_weights *from, const nn_weights *to)
{
    enum { CHUNK = 1 << 16 };
    static uint16_t wanted[CHUNK];
    int64_t sum = 0;
    assert_int_equal(to->n, from->n);
    for (int64_t k = 0; k < from->n; k++) {
        const nn_weight *a = from->tensor[k], *b = nn_weights_find(to, a->name);
        const int64_t n = nn_weight_elements(a);
        if (!b || b->dtype != NN_ST_F16 || nn_weight_elements(b) != n) {
            fail_msg("%s", a->name);
            return -1;
        }
        for (int64_t i = 0; i < n; i += CHUNK) {
            const int64_t some = nn_min(CHUNK, n - i);
            OK(nn_weight_convert(a, i, some, NN_ST_F16, wanted));
            if (memcmp((const uint16_t *)b->data + i, wanted, (size_t)some * 2) != 0)
                fail_msg("%s differs", a->name);
        }
        sum += n;
    }
    return sum;
}

static void test_folder_to_file(void **state)
{
    static const char *const parts[] = { "unet", "vae", "text_encoder" };
    static const nn_network networks[] = { NN_NETWORK_UNET, NN_NETWORK_VAE, NN_NETWORK_TEXT };
    static const int64_t sizes[] = { UNET, VAE, TEXT };
    convert_model m;
    (void)state;
    OK(convert_open(at("sd"), NULL, false, &m));
    OK(convert_write_file(&m, CONVERT_F16, true, at("sd.safetensors")));
    convert_close(&m);
    for (int i = 0; i < NN_COUNT(parts); i++) {
        nn_weights from, to;
        char *path = small_sd_path(at("sd"), parts[i]);
        OK(nn_weights_open_network(path, networks[i], &from));
        OK(nn_weights_open_network(at("sd.safetensors"), networks[i], &to));
        assert_int_equal(same_as_f16(&from, &to), sizes[i]);
        nn_weights_close(&from);
        nn_weights_close(&to);
        nn_free(path);
    }
}

static nn_image picture(const char *model)
{
    sample_settings s = settings();
    s.model = model;
    s.tokenizer = at("sd/tokenizer");
    s.output = at("one.png");
    s.height = s.width = PIXELS;
    s.steps = 2;
    s.on.threads = 0;
    if (run(&s) != NN_OK) fail_msg("%s", nn_error_message());
    nn_image image = read_image(s.output, NULL, NULL);
    assert_true(image.width == PIXELS && image.height == PIXELS);
    remove(s.output);
    return image;
}

/* The weights of the file are rounded: at least 30 dB, in a picture that has something in it. */
static void test_the_picture_of_the_file(void **state)
{
    (void)state;
    const int64_t n = PIXELS * PIXELS * 3;
    nn_image folder = picture(at("sd")), file = picture(at("sd.safetensors"));
    double mean = 0, square = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        const double a = folder.rgb[i], off = a - file.rgb[i];
        mean += a / (double)n;
        square += a * a / (double)n;
        error += off * off / (double)n;
    }
    const double contrast = sqrt(square - mean * mean), db = 10 * log10(255.0 * 255 / error);
    print_message("contrast %.1f, folder and file are %.1f dB apart\n", contrast, db);
    assert_true(contrast > 4 && db > 30);
    nn_image_free(&folder);
    nn_image_free(&file);
}

static int write_model(void **state)
{
    nn_device *d;
    if (scratch_make(state) != 0) return -1;
    nn_cli_quiet(true);
    OK(nn_device_open("cpu", 0, &d));
    small_sd_write_as(at("sd"), &sd14, d);
    nn_device_close(d);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder_to_file),
        cmocka_unit_test(test_the_picture_of_the_file),
    };
    return cmocka_run_group_tests(tests, write_model, close_all);
}
