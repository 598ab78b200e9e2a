/* Telling formats apart, size rules, and WebP. */
#include "tests/unit/image_check.h"

#include <webp/encode.h>

#include "engine/base/str.h"

enum { WIDTH = 23, HEIGHT = 17 };

static void fill(uint8_t *rgba)
{
    for (int i = 0; i < WIDTH * HEIGHT; i++) {
        int x = i % WIDTH, y = i / WIDTH;
        rgba[4 * i] = (uint8_t)(10 * x);
        rgba[4 * i + 1] = (uint8_t)(255 - 12 * y);
        rgba[4 * i + 2] = (uint8_t)(5 * x + 5 * y);
        rgba[4 * i + 3] = (uint8_t)(x < 4 ? 0 : x < 12 ? 100 + y : 255);
    }
}

static nn_text take(uint8_t *bytes, size_t n)
{
    nn_text out = { 0 };
    assert_true(n > 0);
    assert_int_equal(nn_text_add_bytes(&out, bytes, (int64_t)n), NN_OK);
    WebPFree(bytes);
    return out;
}

static nn_text make_webp(bool lossless, bool alpha)
{
    uint8_t rgba[WIDTH * HEIGHT * 4], *bytes;
    fill(rgba);
    if (!alpha)
        for (int i = 0; i < WIDTH * HEIGHT; i++) rgba[4 * i + 3] = 255;
    size_t n = lossless ? WebPEncodeLosslessRGBA(rgba, WIDTH, HEIGHT, WIDTH * 4, &bytes)
                        : WebPEncodeRGBA(rgba, WIDTH, HEIGHT, WIDTH * 4, 95, &bytes);
    return take(bytes, n);
}

static void test_webp(void **state)
{
    (void)state;
    uint8_t rgba[WIDTH * HEIGHT * 4];
    fill(rgba);
    for (int kind = 0; kind < 4; kind++) {
        bool lossless = kind & 1, alpha = kind & 2;
        nn_text file = make_webp(lossless, alpha);
        nn_image image = decode_ok(&file);
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        for (int i = 0; i < WIDTH * HEIGHT * 3; i++) {
            int a = alpha ? rgba[i / 3 * 4 + 3] : 255;
            int pixel = i / 3, wanted = 0;
            wanted = (int)((rgba[pixel * 4 + i % 3] * a + 255 * (255 - a)) / 255.0 + 0.5);
            if (abs(image.rgb[i] - wanted) > (lossless ? 0 : 24))
                fail_msg("kind %d, byte %d: %d, not %d", kind, i, image.rgb[i], wanted);
        }
        check_truncations(&file);
        check_refused(file.text, file.length - 1, NN_FORMAT, "truncated");
        check_allocations(&file, alpha ? 2 : 1);
        nn_image_free(&image);
        nn_text_free(&file);
    }
}

static void test_webp_refused(void **state)
{
    (void)state;
    static const char animation[] = "RIFF\x1c\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x09\0\0\x09\0\0"
                                    "ANIM\0";
    static const char huge[] = "RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0\x2f\xff\xff\xff\x0f\0";
    check_refused(animation, 36, NN_UNSUPPORTED, "animation");
    check_refused(huge, 26, NN_FORMAT, "16384 x 16384");
    check_refused("RIFF\4\0\0\0WEBP", 12, NN_FORMAT, "WebP");
}

static void test_foreign(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "",         "G",       "GIF89a and more",  "BM",
        "\xff\xd8", "\x89PNG", "RIFF....WAVEfmt ", "<svg xmlns='x'/>"
    };
    for (int i = 0; i < NN_COUNT(foreign); i++)
        check_refused(foreign[i], (int64_t)strlen(foreign[i]), NN_FORMAT, "PNG, JPEG or WebP");
    check_refused("\xff\xd8\xff", 3, NN_FORMAT, "JPEG");
    check_refused("\x89PNG\r\n\x1a\n", 8, NN_FORMAT, "truncated");
    check_refused(NULL, 0, NN_FORMAT, "0 bytes");
}

static void test_create(void **state)
{
    (void)state;
    nn_image image;
    assert_int_equal(nn_image_create(3, 2, &image), NN_OK);
    assert_memory_equal(image.rgb, (uint8_t[18]){ 0 }, 18);
    nn_image_free(&image);
    assert_null(image.rgb);
    nn_image_free(&image);
    static const int bad[][2] = { { 0, 1 },     { 1, 0 },     { -1, 5 },
                                  { 20001, 1 }, { 1, 20001 }, { 8193, 8192 } };
    for (int i = 0; i < NN_COUNT(bad); i++) {
        assert_int_equal(nn_image_create(bad[i][0], bad[i][1], &image), NN_ARGUMENT);
        assert_null(image.rgb);
    }
    assert_int_equal(nn_image_create(8192, 8192, &image), NN_OK);
    nn_image_free(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_webp),
        cmocka_unit_test(test_webp_refused),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
