/* recap-sample while memory and files fail: from a picture, with a mask, windows and weights, to
 * files, a list and a sheet. */
#include "tests/torture/torture.h"

#include "tests/unit/small_sd.h"
#include "tools/cli_internal.h"
#include "tools/sample.h"

enum { SIDE = 8 };

static char model[128], pictures[128], start[128], mask[128], sheet[128];

static nn_status draw(void)
{
    sample_settings s = SAMPLE_DEFAULTS;
    s.model = model;
    s.prompt = "a (red:1.2) cube two blue spheres";
    s.weights = true;
    s.long_prompt = SAMPLE_LONG_WINDOWS;
    s.output_dir = pictures;
    s.init_image = start;
    s.mask_image = mask;
    s.sheet = sheet;
    s.cell = 8;
    s.steps = 1;
    s.strength = 1;
    s.width = s.height = SIDE;
    s.scheduler = "unipc";
    s.preview_every = 1;
    s.on.name = "ref";
    s.on.threads = 1;
    NN_TRY(sample_check(&s));
    return sample_run(&s);
}

/* A file that is there is a whole picture. */
static void look_at(const char *path)
{
    char *bytes;
    int64_t n;
    nn_image image;
    if (!nn_file_exists(path)) return;
    assert_int_equal(nn_file_read(path, 1 << 20, &bytes, &n), NN_OK);
    assert_int_equal(nn_image_decode(bytes, n, path, &image), NN_OK);
    nn_image_free(&image);
    nn_free(bytes);
    remove(path);
}

static void look(void)
{
    char *one = small_sd_path(pictures, "000000.png");
    torture_no_leftovers(pictures);
    look_at(one);
    look_at(sheet);
    nn_free(one);
}

static const torture drawing = { draw, look };

static void allocation_fails(void **state)
{
    (void)state;
    torture_all(&drawing, NN_FAULT_NONE, 100);
}

static void files_fail(void **state)
{
    (void)state;
    torture_all(&drawing, NN_FAULT_READ, 8);
    torture_all(&drawing, NN_FAULT_WRITE, 3);
    torture_all(&drawing, NN_FAULT_RENAME, 3);
}

static void write_picture(const char *path, uint8_t value)
{
    nn_image image;
    nn_text png = { 0 };
    assert_int_equal(nn_image_create(SIDE, SIDE, &image), NN_OK);
    memset(image.rgb, value, SIDE * SIDE * 3);
    assert_int_equal(nn_image_encode_png(&image, NULL, 0, &png), NN_OK);
    assert_int_equal(nn_file_write(path, png.text, png.length), NN_OK);
    nn_text_free(&png);
    nn_image_free(&image);
}

static int open_all(void **state)
{
    nn_device *d;
    if (torture_make(state) != 0) return -1;
    nn_cli_quiet(true);
    snprintf(model, sizeof(model), "%s/sd", scratch_path);
    snprintf(pictures, sizeof(pictures), "%s/pictures", scratch_path);
    snprintf(start, sizeof(start), "%s/start.png", scratch_path);
    snprintf(mask, sizeof(mask), "%s/mask.png", scratch_path);
    snprintf(sheet, sizeof(sheet), "%s/sheet.png", scratch_path);
    if (nn_device_open("ref", 1, &d) != NN_OK) return -1;
    small_sd_write(model, "{}", d);
    nn_device_close(d);
    write_picture(start, 90);
    write_picture(mask, 255);
    return 0;
}

static int close_all(void **state)
{
    small_sd_remove(model);
    small_sd_remove_flat(pictures);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(files_fail),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
