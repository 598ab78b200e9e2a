/* PNG: every kind of file, made here through libpng, against pixels worked out by the standard. */
#include "tests/unit/image_check.h"

#include <png.h>

#include "engine/base/log.h"
#include "engine/base/str.h"

typedef struct variant {
    int color, depth;
    bool interlaced, transparent; /* transparent: with a tRNS chunk */
    int width, height;
} variant;

enum { N_TRANSPARENT = 2 }; /* entries of a palette's tRNS chunk */

static void append(png_structp png, png_bytep bytes, size_t n)
{
    assert_int_equal(nn_text_add_bytes(png_get_io_ptr(png), bytes, (int64_t)n), NN_OK);
}

static void no_flush(png_structp png)
{
    (void)png;
}

static png_structp open_writer(nn_text *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    assert_non_null(png);
    png_set_write_fn(png, out, append, no_flush);
    return png;
}

static unsigned sample(const variant *v, int x, int y, int c)
{
    unsigned u = (unsigned)(x * 37 + y * 91 + c * 53 + x * y % 7 * 11);
    return (v->depth == 16 ? u * 40503u : u) & ((1u << v->depth) - 1);
}

static png_color palette_entry(int i)
{
    return (png_color){ (png_byte)(i * 29), (png_byte)(255 - i), (png_byte)(i * i) };
}

static int n_channels(int color)
{
    return color == PNG_COLOR_TYPE_RGB          ? 3
           : color == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
           : color == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                                : 1;
}

/* The sample at (3, 2) is the transparent colour. */
static void set_transparency(png_structp png, png_infop info, const variant *v)
{
    png_byte alpha[N_TRANSPARENT] = { 0, 128 };
    png_color_16 color = { .gray = (png_uint_16)sample(v, 3, 2, 0),
                           .red = (png_uint_16)sample(v, 3, 2, 0),
                           .green = (png_uint_16)sample(v, 3, 2, 1),
                           .blue = (png_uint_16)sample(v, 3, 2, 2) };
    bool palette = v->color == PNG_COLOR_TYPE_PALETTE;
    png_set_tRNS(png, info, palette ? alpha : NULL, palette ? N_TRANSPARENT : 0,
                 palette ? NULL : &color);
}

static void pack_row(const variant *v, int y, png_byte *row)
{
    int channels = n_channels(v->color);
    for (int i = 0; i < v->width * channels; i++) {
        unsigned s = sample(v, i / channels, y, i % channels);
        if (v->depth == 16) {
            row[2 * i] = (png_byte)(s >> 8);
            row[2 * i + 1] = (png_byte)s;
        } else {
            int bit = i * v->depth;
            row[bit / 8] |= (png_byte)(s << (8 - v->depth - bit % 8));
        }
    }
}

static nn_text make_png(const variant *v)
{
    enum { ROW = 1024 };
    nn_text out = { 0 };
    png_structp png = open_writer(&out);
    png_infop info = png_create_info_struct(png);
    png_set_IHDR(png, info, (png_uint_32)v->width, (png_uint_32)v->height, v->depth, v->color,
                 v->interlaced, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[256];
    for (int i = 0; i < 256; i++) palette[i] = palette_entry(i);
    if (v->color == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 1 << v->depth);
    if (v->transparent) set_transparency(png, info, v);
    png_write_info(png, info);
    int n_passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < n_passes; pass++) {
        for (int y = 0; y < v->height; y++) {
            png_byte row[ROW] = { 0 };
            pack_row(v, y, row);
            png_write_row(png, row);
        }
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return out;
}

static int to_8_bits(const variant *v, unsigned s)
{
    return v->depth == 16 ? (int)(s >> 8) : (int)(s * 255 / ((1u << v->depth) - 1));
}

static bool is_transparent_color(const variant *v, int x, int y)
{
    for (int c = 0; c < n_channels(v->color); c++)
        if (sample(v, x, y, c) != sample(v, 3, 2, c)) return false;
    return true;
}

static void expected_pixel(const variant *v, int x, int y, int rgb[3])
{
    int alpha = 255, channels = n_channels(v->color);
    if (v->color == PNG_COLOR_TYPE_PALETTE) {
        int index = (int)sample(v, x, y, 0);
        png_color color = palette_entry(index);
        rgb[0] = color.red, rgb[1] = color.green, rgb[2] = color.blue;
        if (v->transparent) alpha = index == 0 ? 0 : index == 1 ? 128 : 255;
    } else {
        for (int c = 0; c < 3; c++) rgb[c] = to_8_bits(v, sample(v, x, y, channels >= 3 ? c : 0));
        if (v->color & PNG_COLOR_MASK_ALPHA) alpha = to_8_bits(v, sample(v, x, y, channels - 1));
        if (v->transparent && is_transparent_color(v, x, y)) alpha = 0;
    }
    for (int c = 0; c < 3; c++)
        rgb[c] = (int)((rgb[c] * alpha + 255 * (255 - alpha)) / 255.0 + 0.5);
}

static void check_variant(const variant *v)
{
    nn_text file = make_png(v);
    nn_image image = decode_ok(&file);
    assert_int_equal(image.width, v->width);
    assert_int_equal(image.height, v->height);
    for (int y = 0; y < v->height; y++) {
        for (int x = 0; x < v->width; x++) {
            int rgb[3];
            expected_pixel(v, x, y, rgb);
            for (int c = 0; c < 3; c++)
                if (image.rgb[3 * (y * v->width + x) + c] != rgb[c])
                    fail_msg("color %d depth %d interlaced %d transparent %d: pixel %d,%d channel "
                             "%d is %d, not %d",
                             v->color, v->depth, v->interlaced, v->transparent, x, y, c,
                             image.rgb[3 * (y * v->width + x) + c], rgb[c]);
        }
    }
    nn_image_free(&image);
    nn_text_free(&file);
}

static void test_variants(void **state)
{
    (void)state;
    static const int kinds[][2] = {
        { PNG_COLOR_TYPE_GRAY, 1 },        { PNG_COLOR_TYPE_GRAY, 2 },
        { PNG_COLOR_TYPE_GRAY, 4 },        { PNG_COLOR_TYPE_GRAY, 8 },
        { PNG_COLOR_TYPE_GRAY, 16 },       { PNG_COLOR_TYPE_RGB, 8 },
        { PNG_COLOR_TYPE_RGB, 16 },        { PNG_COLOR_TYPE_PALETTE, 1 },
        { PNG_COLOR_TYPE_PALETTE, 2 },     { PNG_COLOR_TYPE_PALETTE, 4 },
        { PNG_COLOR_TYPE_PALETTE, 8 },     { PNG_COLOR_TYPE_GRAY_ALPHA, 8 },
        { PNG_COLOR_TYPE_GRAY_ALPHA, 16 }, { PNG_COLOR_TYPE_RGB_ALPHA, 8 },
        { PNG_COLOR_TYPE_RGB_ALPHA, 16 },
    };
    static const int sizes[][2] = { { 1, 1 }, { 4, 3 }, { 3, 9 }, { 33, 31 } };
    for (int i = 0; i < NN_COUNT(kinds) * NN_COUNT(sizes) * 4; i++) {
        const int *kind = kinds[i / 4 % NN_COUNT(kinds)];
        const int *size = sizes[i / 4 / NN_COUNT(kinds)];
        variant v = { kind[0], kind[1], i & 1, i & 2, size[0], size[1] };
        if (v.transparent && (v.color & PNG_COLOR_MASK_ALPHA)) continue; /* not allowed */
        check_variant(&v);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    static const variant variants[] = {
        { PNG_COLOR_TYPE_RGB, 8, false, false, 9, 7 },
        { PNG_COLOR_TYPE_PALETTE, 4, true, true, 9, 7 },
        { PNG_COLOR_TYPE_RGB_ALPHA, 16, true, false, 9, 7 },
    };
    for (int i = 0; i < NN_COUNT(variants); i++) {
        nn_text file = make_png(&variants[i]);
        check_truncations(&file);
        check_refused(file.text, file.length - 1, NN_FORMAT, "truncated");
        nn_text_free(&file);
    }
}

/* The checksums of the format see every changed byte but those of the lengths and names of skipped
 * chunks, of which this file has none. */
static void test_damaged(void **state)
{
    (void)state;
    variant v = { PNG_COLOR_TYPE_PALETTE, 4, false, true, 9, 7 };
    nn_text file = make_png(&v);
    for (int64_t i = 0; i < file.length; i++) {
        nn_image image;
        file.text[i] ^= 0x10;
        assert_int_not_equal(nn_image_decode(file.text, file.length, "damaged", &image), NN_OK);
        file.text[i] ^= 0x10;
    }
    nn_text_free(&file);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    variant v = { PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false, 9, 7 };
    nn_text file = make_png(&v);
    check_allocations(&file, 6);
    nn_text_free(&file);
}

/* Header and a few bytes of pixels, with right checksums. */
static nn_text make_liar(uint32_t width, uint32_t height)
{
    nn_text out = { 0 };
    png_structp png = open_writer(&out);
    png_byte header[13] = { [8] = 8, [9] = PNG_COLOR_TYPE_RGB };
    png_save_uint_32(header, width);
    png_save_uint_32(header + 4, height);
    png_byte pixels[8192] = { 0x78, 0x9c };
    png_write_sig(png);
    png_write_chunk(png, (png_const_bytep) "IHDR", header, sizeof(header));
    png_write_chunk(png, (png_const_bytep) "IDAT", pixels, sizeof(pixels));
    png_write_chunk(png, (png_const_bytep) "IEND", NULL, 0);
    png_destroy_write_struct(&png, NULL);
    return out;
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        uint32_t width, height;
        const char *words;
    } liars[] = {
        { 20001, 1, "20001 x 1" },
        { 1, 20001, "1 x 20001" },
        { 8193, 8192, "cannot hold 8193 x 8192" },
        { 2000, 2000, "cannot hold 2000 x 2000" },
        { 0x7fffffff, 0x7fffffff, "PNG" },
        { 0, 5, "PNG" },
    };
    for (int i = 0; i < NN_COUNT(liars); i++) {
        nn_text file = make_liar(liars[i].width, liars[i].height);
        check_refused(file.text, file.length, NN_FORMAT, liars[i].words);
        nn_text_free(&file);
    }
}

static void count_lines(void *ctx, nn_log_level level, const char *line)
{
    (void)level;
    if (strstr(line, "profile")) ++*(int *)ctx;
}

/* The chunk is not even a valid profile: nobody looks inside. */
static void test_profile_is_noted_once(void **state)
{
    (void)state;
    nn_text file = { 0 };
    png_structp png = open_writer(&file);
    png_infop info = png_create_info_struct(png);
    png_set_IHDR(png, info, 1, 1, 8, PNG_COLOR_TYPE_RGB, 0, 0, 0);
    png_write_info(png, info);
    png_write_chunk(png, (png_const_bytep) "iCCP", (png_const_bytep) "junk", 4);
    png_write_row(png, (png_const_bytep) "\1\2\3");
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    int n_lines = 0;
    nn_log_open(count_lines, &n_lines, NN_LOG_DEBUG);
    for (int i = 0; i < 3; i++) {
        nn_image image = decode_ok(&file);
        assert_memory_equal(image.rgb, "\1\2\3", 3);
        nn_image_free(&image);
    }
    nn_log_open(NULL, NULL, NN_LOG_DEBUG);
    assert_int_equal(n_lines, 1);
    nn_text_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants), cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),  cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_limits),   cmocka_unit_test(test_profile_is_noted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
