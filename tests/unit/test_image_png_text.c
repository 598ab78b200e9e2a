/* PNG as the program writes it: round trip, texts, determinism. */
#include "tests/unit/image_check.h"

#include <png.h>

static const char parameters[] = "a red fox, two lines\nSteps: 30, Seed: 7";
static const char foreign[] = "ein B\xc3\xa4r \xf0\x9f\x90\xbb";

static nn_image make_image(int64_t width, int64_t height)
{
    nn_image image;
    assert_int_equal(nn_image_create(width, height, &image), NN_OK);
    for (int64_t i = 0; i < width * height * 3; i++) image.rgb[i] = (uint8_t)(i * i * 7 + i / 5);
    return image;
}

static nn_text encode(const nn_image *image, const nn_png_text *texts, int n)
{
    nn_text file = { 0 };
    if (nn_image_encode_png(image, texts, n, &file) != NN_OK) fail_msg("%s", nn_error_message());
    return file;
}

static void check_text(const nn_text *file, const char *key, const char *expected)
{
    nn_text text = { 0 };
    assert_int_equal(nn_image_png_text(file->text, file->length, key, &text), NN_OK);
    assert_int_equal(text.length, (int64_t)strlen(expected));
    assert_string_equal(text.text, expected);
    nn_text_free(&text);
}

static bool contains(const nn_text *file, const char *word)
{
    return memmem(file->text, (size_t)file->length, word, strlen(word)) != NULL;
}

static void test_round_trip(void **state)
{
    (void)state;
    static const int sizes[][2] = { { 1, 1 }, { 7, 1 }, { 1, 9 }, { 64, 48 }, { 101, 67 } };
    for (int i = 0; i < NN_COUNT(sizes); i++) {
        nn_image image = make_image(sizes[i][0], sizes[i][1]);
        nn_text file = encode(&image, NULL, 0), again = encode(&image, NULL, 0);
        nn_image back = decode_ok(&file);
        assert_true(same_image(&image, &back));
        assert_int_equal(file.length, again.length);
        assert_memory_equal(file.text, again.text, (size_t)file.length);
        nn_image_free(&image);
        nn_image_free(&back);
        nn_text_free(&file);
        nn_text_free(&again);
    }
}

static void test_texts(void **state)
{
    (void)state;
    const nn_png_text texts[] = { { "parameters", parameters },
                                  { "Title", foreign },
                                  { "Comment", "" },
                                  { "Title", "the second of that name" } };
    nn_image image = make_image(16, 8);
    nn_text file = encode(&image, texts, NN_COUNT(texts));
    check_text(&file, "parameters", parameters);
    check_text(&file, "Title", foreign);
    assert_true(contains(&file, "tEXtparameters") && contains(&file, "iTXtTitle"));
    nn_text text = { 0 };
    assert_int_equal(nn_text_add(&text, "kept"), NN_OK);
    assert_int_equal(nn_image_png_text(file.text, file.length, "Comment", &text), NN_OK);
    assert_int_equal(nn_image_png_text(file.text, file.length, "prompt", &text), NN_NOT_FOUND);
    assert_int_equal(nn_image_png_text(file.text, file.length - 1, "Title", &text), NN_FORMAT);
    assert_int_equal(nn_image_png_text("no", 2, "Title", &text), NN_FORMAT);
    assert_string_equal(text.text, "kept");
    nn_image back = decode_ok(&file);
    assert_true(same_image(&image, &back));
    nn_text_free(&text);
    nn_image_free(&back);
    nn_image_free(&image);
    nn_text_free(&file);
}

static void append(png_structp png, png_bytep bytes, size_t n)
{
    assert_int_equal(nn_text_add_bytes(png_get_io_ptr(png), bytes, (int64_t)n), NN_OK);
}

/* Texts as other programs write them: compressed, Latin-1, after the pixels, not UTF-8. */
static void test_foreign_texts(void **state)
{
    (void)state;
    nn_text file = { 0 };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_set_write_fn(png, &file, append, NULL);
    png_infop info = png_create_info_struct(png);
    char z[] = "z", i[] = "i", bad[] = "bad", late_key[] = "late", here[] = "here";
    char latin1[] = "B\xe4r", utf8[sizeof(foreign)];
    memcpy(utf8, foreign, sizeof(foreign));
    png_text texts[] = {
        { .compression = PNG_TEXT_COMPRESSION_zTXt, .key = z, .text = latin1 },
        { .compression = PNG_ITXT_COMPRESSION_zTXt, .key = i, .text = utf8 },
        { .compression = PNG_ITXT_COMPRESSION_NONE, .key = bad, .text = latin1 },
    };
    png_text late = { .compression = PNG_TEXT_COMPRESSION_NONE, .key = late_key, .text = here };
    png_set_IHDR(png, info, 1, 1, 8, PNG_COLOR_TYPE_RGB, 0, 0, 0);
    png_set_text(png, info, texts, NN_COUNT(texts));
    png_write_info(png, info);
    png_write_row(png, (png_const_bytep) "\1\2\3");
    png_set_text(png, info, &late, 1);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    check_text(&file, "z", "B\xc3\xa4r");
    check_text(&file, "i", foreign);
    check_text(&file, "late", "here");
    nn_text text = { 0 };
    assert_int_equal(nn_image_png_text(file.text, file.length, "bad", &text), NN_FORMAT);
    nn_text_free(&text);
    nn_text_free(&file);
}

static void check_unwritable(const char *key, const char *value)
{
    nn_image image = make_image(2, 2);
    nn_text file = { 0 };
    assert_int_equal(nn_image_encode_png(&image, &(nn_png_text){ key, value }, 1, &file),
                     NN_ARGUMENT);
    assert_int_equal(file.length, 0);
    nn_text_free(&file);
    nn_image_free(&image);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    char long_key[81] = { 0 };
    memset(long_key, 'k', 80);
    check_unwritable("", "x");
    check_unwritable(long_key, "x");
    check_unwritable(" key", "x");
    check_unwritable("two  spaces", "x");
    check_unwritable("line\n", "x");
    check_unwritable("key", "not UTF-8: \xe4");
    nn_text file = { 0 };
    assert_int_equal(nn_image_encode_png(&(nn_image){ 0 }, NULL, 0, &file), NN_ARGUMENT);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const nn_png_text texts[] = { { "parameters", parameters }, { "Title", foreign } };
    nn_image image = make_image(40, 30);
    nn_text whole = encode(&image, texts, 2);
    nn_status status = NN_MEMORY;
    for (int k = 1; status != NN_OK; k++) {
        nn_text file = { 0 };
        nn_alloc_fail_at(k);
        status = nn_image_encode_png(&image, texts, 2, &file);
        nn_alloc_fail_at(0);
        assert_int_equal(status, status == NN_OK ? NN_OK : NN_MEMORY);
        assert_int_equal(file.length, status == NN_OK ? whole.length : 0);
        nn_text_free(&file);
    }
    status = NN_MEMORY;
    for (int k = 1; status != NN_OK; k++) {
        nn_text text = { 0 };
        nn_alloc_fail_at(k);
        status = nn_image_png_text(whole.text, whole.length, "Title", &text);
        nn_alloc_fail_at(0);
        assert_int_equal(status, status == NN_OK ? NN_OK : NN_MEMORY);
        assert_int_equal(text.length, status == NN_OK ? (int64_t)strlen(foreign) : 0);
        nn_text_free(&text);
    }
    nn_image_free(&image);
    nn_text_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),          cmocka_unit_test(test_texts),
        cmocka_unit_test(test_foreign_texts),       cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
