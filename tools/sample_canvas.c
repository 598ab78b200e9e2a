/* Pictures to start from. */
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/sample.h"

enum { MOST_BYTES = 256 << 20 };

static nn_status read_picture(const char *path, nn_image *out)
{
    char *bytes;
    int64_t n;
    NN_TRY(nn_file_read(path, MOST_BYTES, &bytes, &n));
    nn_status status = nn_image_decode(bytes, n, path, out);
    nn_free(bytes);
    return status;
}

static nn_status resize(nn_image *image, int64_t width, int64_t height)
{
    nn_image out;
    if (image->width == width && image->height == height) return NN_OK;
    NN_TRY(nn_image_resize(image, width, height, NN_RESIZE_LANCZOS, NN_RESIZE_PILLOW_13, &out));
    nn_image_free(image);
    *image = out;
    return NN_OK;
}

/* Pillow's luminance. */
static int grey(const uint8_t *p)
{
    return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16;
}

static nn_status make_mask(const nn_image *image, int64_t stride, sample_canvas *out)
{
    const int64_t h = image->height / stride, w = image->width / stride;
    out->cover = nn_alloc(image->height * image->width, 1);
    NN_NEED(out->cover);
    out->mask = nn_alloc(h * w, 1);
    NN_NEED(out->mask);
    for (int64_t i = 0; i < image->height * image->width; i++)
        out->cover[i] = grey(image->rgb + 3 * i) >= 128;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            out->mask[y * w + x] = out->cover[(y * image->width + x) * stride];
    return NN_OK;
}

static nn_status read_mask(const char *path, int64_t width, int64_t height, int64_t stride,
                           sample_canvas *out)
{
    nn_image image;
    NN_TRY(read_picture(path, &image));
    nn_status status = resize(&image, width, height);
    if (status == NN_OK) status = make_mask(&image, stride, out);
    nn_image_free(&image);
    return status;
}

/* A side that is not given. */
static int64_t side(int64_t given, int64_t of_picture, int64_t stride, int64_t usual)
{
    if (given) return given;
    return of_picture ? nn_max(of_picture / stride, 1) * stride : usual;
}

nn_status sample_canvas_read(const sample_settings *set, int64_t stride, int64_t usual,
                             int64_t *height, int64_t *width, sample_canvas *out)
{
    *out = (sample_canvas){ 0 };
    nn_status status = set->init_image ? read_picture(set->init_image, &out->picture) : NN_OK;
    *height = side(set->height, out->picture.height, stride, usual);
    *width = side(set->width, out->picture.width, stride, usual);
    if (status == NN_OK && (*height % stride || *width % stride))
        status = nn_fail(NN_ARGUMENT, "pictures of %lld x %lld: both must be multiples of %lld",
                         (long long)*width, (long long)*height, (long long)stride);
    if (status == NN_OK && set->init_image) status = resize(&out->picture, *width, *height);
    if (status == NN_OK && set->mask_image)
        status = read_mask(set->mask_image, *width, *height, stride, out);
    if (status != NN_OK) sample_canvas_free(out);
    return status;
}

void sample_canvas_free(sample_canvas *c)
{
    nn_image_free(&c->picture);
    nn_free(c->cover);
    nn_free(c->mask);
    *c = (sample_canvas){ 0 };
}
