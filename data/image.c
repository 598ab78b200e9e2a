/* Format sniffing, size limits, and what all decoders do to pixels. */
#include "data/image.h"

#include <stdatomic.h>
#include <string.h>

#include "data/image_codec.h"
#include "engine/base/alloc.h"
#include "engine/base/log.h"

typedef nn_status decode_fn(const uint8_t *bytes, int64_t n, nn_image *out);

static bool has_bytes(const uint8_t *bytes, int64_t n, int64_t at, const char *magic, int64_t size)
{
    return n >= at + size && memcmp(bytes + at, magic, (size_t)size) == 0;
}

static decode_fn *find_decoder(const uint8_t *bytes, int64_t n)
{
    if (has_bytes(bytes, n, 0, "\x89PNG\r\n\x1a\n", 8)) return nn_png_decode;
    if (has_bytes(bytes, n, 0, "\xff\xd8\xff", 3)) return nn_jpeg_decode;
    if (has_bytes(bytes, n, 0, "RIFF", 4) && has_bytes(bytes, n, 8, "WEBP", 4))
        return nn_webp_decode;
    return NULL;
}

nn_status nn_image_decode(const void *bytes, int64_t n, const char *name, nn_image *out)
{
    *out = (nn_image){ 0 };
    decode_fn *decode = find_decoder(bytes, n);
    if (!decode)
        return nn_fail(NN_FORMAT,
                       "%s: the %lld bytes do not begin like a PNG, JPEG or WebP file; "
                       "convert the picture to one of these",
                       name, (long long)n);
    nn_status status = decode(bytes, n, out);
    if (status == NN_OK) return NN_OK;
    nn_image_free(out);
    nn_trace(__FILE__, __LINE__);
    return nn_fail_prefix(status, "%s: ", name);
}

/* a * b / 255 rounded to nearest, for sums of products up to 255 * 255. */
static unsigned divide_255(unsigned product)
{
    unsigned t = product + 128;
    return (t + (t >> 8)) >> 8;
}

static void composite_on_white(uint8_t *rgb, const uint8_t rgba[4])
{
    unsigned alpha = rgba[3];
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)divide_255(rgba[c] * alpha + 255 * (255 - alpha));
}

/* rgb = light left by black, less the share of it that the ink takes; the stored byte is 255 - ink.
 */
static void mix_inks(uint8_t *rgb, const uint8_t cmyk[4])
{
    unsigned light = cmyk[3];
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(light - divide_255((255u - cmyk[c]) * light));
}

nn_status nn_image_flatten(nn_image *image, nn_fourth meaning)
{
    int64_t n = image->width * image->height;
    for (int64_t i = 0; i < n; i++) {
        uint8_t pixel[4];
        memcpy(pixel, image->rgb + 4 * i, 4); /* the target may overlap it */
        if (meaning == NN_FOURTH_ALPHA)
            composite_on_white(image->rgb + 3 * i, pixel);
        else
            mix_inks(image->rgb + 3 * i, pixel);
    }
    uint8_t *shrunk = nn_realloc(image->rgb, n, 3);
    NN_NEED(shrunk);
    image->rgb = shrunk;
    return NN_OK;
}

nn_status nn_image_orient(nn_image *image, int orientation)
{
    NN_ASSERT(orientation >= 1 && orientation <= 8);
    if (orientation == 1) return NN_OK;
    /* Each orientation is a choice of three: exchange the axes, then run x or y backwards. */
    bool exchange = orientation >= 5;
    bool back_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool back_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    int64_t w = exchange ? image->height : image->width;
    int64_t h = exchange ? image->width : image->height;
    nn_image upright = { 0 };
    NN_TRY(nn_image_create(w, h, &upright));
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            int64_t from_x = back_x ? w - 1 - x : x, from_y = back_y ? h - 1 - y : y;
            int64_t from =
                exchange ? from_x * image->width + from_y : from_y * image->width + from_x;
            memcpy(upright.rgb + 3 * (y * w + x), image->rgb + 3 * from, 3);
        }
    }
    nn_image_free(image);
    *image = upright;
    return NN_OK;
}

void nn_image_note_profile(void)
{
    static atomic_flag noted = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&noted))
        nn_log(NN_LOG_INFO, "colour profiles in pictures are ignored; pixels are taken as sRGB");
}
