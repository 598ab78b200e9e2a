/* JPEG: files made here through libjpeg, against the picture they were made from. */
#include "tests/unit/image_check.h"

#include <jpeglib.h>

#include "engine/base/str.h"

enum { WIDTH = 43, HEIGHT = 29 };

typedef struct recipe {
    J_COLOR_SPACE in, stored;
    bool progressive, arithmetic;
    int width, height;
    const char *app1; /* contents of an APP1 segment, or NULL */
    int app1_bytes;
} recipe;

/* Smooth, and different along each axis and in each channel. */
static int plane(int x, int y, int c)
{
    int v = c == 0 ? 20 + 5 * x : c == 1 ? 230 - 7 * y : c == 2 ? 40 + 2 * x + 3 * y : 255 - 3 * x;
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

static nn_text make_jpeg(const recipe *r)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &n);
    jpeg.image_width = (JDIMENSION)r->width;
    jpeg.image_height = (JDIMENSION)r->height;
    jpeg.in_color_space = r->in;
    jpeg.input_components = r->in == JCS_GRAYSCALE ? 1 : r->in == JCS_CMYK ? 4 : 3;
    jpeg_set_defaults(&jpeg);
    jpeg_set_colorspace(&jpeg, r->stored);
    jpeg_set_quality(&jpeg, 100, TRUE);
    for (int c = 0; c < jpeg.num_components; c++)
        jpeg.comp_info[c].h_samp_factor = jpeg.comp_info[c].v_samp_factor = 1;
    if (r->progressive) jpeg_simple_progression(&jpeg);
    jpeg.arith_code = r->arithmetic;
    jpeg_start_compress(&jpeg, TRUE);
    if (r->app1)
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, (const JOCTET *)r->app1, (unsigned)r->app1_bytes);
    JSAMPLE *row = malloc((size_t)r->width * 4);
    for (int y = 0; y < r->height; y++) {
        for (int i = 0; i < r->width * jpeg.input_components; i++)
            row[i] = (JSAMPLE)plane(i / jpeg.input_components, y, i % jpeg.input_components);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    nn_text out = { 0 };
    assert_int_equal(nn_text_add_bytes(&out, bytes, (int64_t)n), NN_OK);
    free(bytes);
    free(row);
    return out;
}

static int expected(const recipe *r, int x, int y, int c)
{
    if (r->in == JCS_GRAYSCALE) return plane(x, y, 0);
    if (r->in == JCS_CMYK) return plane(x, y, c) * plane(x, y, 3) / 255;
    return plane(x, y, c);
}

static void check_near(int actual, int wanted, const char *what, int x, int y)
{
    if (abs(actual - wanted) > 5)
        fail_msg("%s: pixel %d,%d is %d, not about %d", what, x, y, actual, wanted);
}

static void test_color_spaces(void **state)
{
    (void)state;
    static const J_COLOR_SPACE spaces[][2] = {
        { JCS_RGB, JCS_YCbCr }, { JCS_RGB, JCS_RGB },   { JCS_GRAYSCALE, JCS_GRAYSCALE },
        { JCS_CMYK, JCS_CMYK }, { JCS_CMYK, JCS_YCCK },
    };
    for (int i = 0; i < NN_COUNT(spaces); i++) {
        recipe r = { spaces[i][0], spaces[i][1], i & 1, false, WIDTH, HEIGHT, NULL, 0 };
        nn_text file = make_jpeg(&r);
        nn_image image = decode_ok(&file);
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        for (int j = 0; j < WIDTH * HEIGHT * 3; j++) {
            int x = j / 3 % WIDTH, y = j / 3 / WIDTH;
            check_near(image.rgb[j], expected(&r, x, y, j % 3), "color space", x, y);
        }
        nn_image_free(&image);
        nn_text_free(&file);
    }
}

/* The same coefficients in another coding are the same pixels. */
static void test_codings(void **state)
{
    (void)state;
    recipe plain = { JCS_RGB, JCS_YCbCr, false, false, WIDTH, HEIGHT, NULL, 0 };
    nn_text file = make_jpeg(&plain);
    nn_image image = decode_ok(&file);
    for (int i = 1; i < 4; i++) {
        recipe r = plain;
        r.progressive = i & 1;
        r.arithmetic = i & 2;
        nn_text other = make_jpeg(&r);
        nn_image same = decode_ok(&other);
        assert_true(same_image(&image, &same));
        nn_image_free(&same);
        nn_text_free(&other);
    }
    nn_image_free(&image);
    nn_text_free(&file);
}

/* An EXIF segment of one entry, in either byte order. */
static int make_exif(char out[64], bool big_endian, int type, int count, int value)
{
    static const char big[] = "Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0t\0\0\0c\0v\0\0\0\0\0\0";
    static const char little[] = "Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01t\0c\0\0\0v\0\0\0\0\0\0\0";
    int n = sizeof(big) - 1;
    memcpy(out, big_endian ? big : little, (size_t)n);
    for (int i = 14; i < n; i++)
        out[i] = (char)(out[i] == 't'   ? type
                        : out[i] == 'c' ? count
                        : out[i] == 'v' ? value
                                        : out[i]);
    return n;
}

/* Where the upright pixel x, y lies in the stored picture (EXIF 2.32, table of Orientation). */
static void stored_place(int orientation, int x, int y, int *sx, int *sy)
{
    int right = WIDTH - 1, bottom = HEIGHT - 1;
    switch (orientation) {
    case 2:
        *sx = right - x, *sy = y;
        break;
    case 3:
        *sx = right - x, *sy = bottom - y;
        break;
    case 4:
        *sx = x, *sy = bottom - y;
        break;
    case 5:
        *sx = y, *sy = x;
        break;
    case 6:
        *sx = y, *sy = bottom - x;
        break;
    case 7:
        *sx = right - y, *sy = bottom - x;
        break;
    case 8:
        *sx = right - y, *sy = x;
        break;
    default:
        *sx = x, *sy = y;
        break;
    }
}

static void check_orientation(const char *app1, int n, int orientation)
{
    recipe r = { JCS_RGB, JCS_YCbCr, false, false, WIDTH, HEIGHT, app1, n };
    nn_text file = make_jpeg(&r);
    nn_image image = decode_ok(&file);
    assert_int_equal(image.width, orientation >= 5 ? HEIGHT : WIDTH);
    assert_int_equal(image.height, orientation >= 5 ? WIDTH : HEIGHT);
    for (int y = 0; y < image.height; y++) {
        for (int x = 0; x < image.width; x++) {
            int sx, sy;
            stored_place(orientation, x, y, &sx, &sy);
            for (int c = 0; c < 3; c++)
                check_near(image.rgb[3 * (y * image.width + x) + c], plane(sx, sy, c),
                           "orientation", x, y);
        }
    }
    nn_image_free(&image);
    nn_text_free(&file);
}

static void test_orientations(void **state)
{
    (void)state;
    char exif[64];
    for (int o = 1; o <= 8; o++) {
        check_orientation(exif, make_exif(exif, true, 3, 1, o), o);
        check_orientation(exif, make_exif(exif, false, 3, 1, o), o);
    }
}

/* Damaged or odd EXIF never harms the picture: it stands as stored. */
static void test_hostile_exif(void **state)
{
    (void)state;
    static const int odd[][3] = { { 3, 1, 0 }, { 3, 1, 9 }, { 4, 1, 6 }, { 3, 2, 6 }, { 3, 0, 6 } };
    char exif[64];
    for (int i = 0; i < NN_COUNT(odd); i++)
        check_orientation(exif, make_exif(exif, i & 1, odd[i][0], odd[i][1], odd[i][2]), 1);
    int n = make_exif(exif, true, 3, 1, 6);
    for (int cut = 0; cut <= 25; cut++) check_orientation(exif, cut, 1); /* before the value ends */
    for (int at = 10; at < 16; at++) { /* a directory elsewhere, or of 65281 entries */
        make_exif(exif, true, 3, 1, 6);
        exif[at] = (char)0xff;
        check_orientation(exif, n, at == 14 || at == 15 ? 6 : 1);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        recipe r = { i == 2 ? JCS_CMYK : JCS_RGB,
                     i == 2 ? JCS_YCCK : JCS_YCbCr,
                     i == 1,
                     false,
                     19,
                     11,
                     NULL,
                     0 };
        nn_text file = make_jpeg(&r);
        check_truncations(&file);
        check_refused(file.text, file.length - 1, NN_FORMAT, "JPEG");
        check_refused(file.text, file.length - 2, NN_FORMAT, "JPEG");
        check_refused(file.text, file.length / 2, NN_FORMAT, "JPEG");
        nn_text_free(&file);
    }
}

static void test_limits(void **state)
{
    (void)state;
    recipe wide = { JCS_GRAYSCALE, JCS_GRAYSCALE, false, false, 20001, 3, NULL, 0 };
    nn_text file = make_jpeg(&wide);
    check_refused(file.text, file.length, NN_FORMAT, "20001 x 3");
    nn_text_free(&file);
    recipe small = { JCS_GRAYSCALE, JCS_GRAYSCALE, false, false, 16, 16, NULL, 0 };
    file = make_jpeg(&small);
    char *frame = memmem(file.text, (size_t)file.length, "\xff\xc0\0\x0b\x08", 5);
    assert_non_null(frame);
    memcpy(frame + 5, "\x1f\x00\x1f\x00", 4);
    check_refused(file.text, file.length, NN_FORMAT, "cannot hold 7936 x 7936");
    nn_text_free(&file);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    char exif[64];
    int n = make_exif(exif, true, 3, 1, 6);
    recipe r = { JCS_CMYK, JCS_YCCK, true, false, WIDTH, HEIGHT, exif, n };
    nn_text file = make_jpeg(&r);
    check_allocations(&file, 3); /* the picture, its RGB form, its upright form */
    nn_text_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_color_spaces),        cmocka_unit_test(test_codings),
        cmocka_unit_test(test_orientations),        cmocka_unit_test(test_hostile_exif),
        cmocka_unit_test(test_truncated),           cmocka_unit_test(test_limits),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
