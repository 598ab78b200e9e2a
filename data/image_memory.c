/* Pixels in memory: how many there may be, and who holds them. */
#include "data/image.h"
#include "data/image_codec.h"
#include "engine/base/alloc.h"

bool nn_image_size_is_legal(int64_t width, int64_t height)
{
    return width >= 1 && height >= 1 && width <= NN_IMAGE_MAX_SIDE && height <= NN_IMAGE_MAX_SIDE &&
           width * height <= NN_IMAGE_MAX_PIXELS;
}

static nn_status allocate(int64_t width, int64_t height, int channels, nn_image *out)
{
    out->rgb = nn_alloc(width * height, (size_t)channels);
    NN_NEED(out->rgb);
    out->width = width;
    out->height = height;
    return NN_OK;
}

nn_status nn_image_create(int64_t width, int64_t height, nn_image *out)
{
    *out = (nn_image){ 0 };
    if (!nn_image_size_is_legal(width, height))
        return nn_fail(NN_ARGUMENT,
                       "a picture of %lld x %lld was asked for; each side must be 1 to %d and the "
                       "area at most %d pixels",
                       (long long)width, (long long)height, NN_IMAGE_MAX_SIDE, NN_IMAGE_MAX_PIXELS);
    return allocate(width, height, 3, out);
}

nn_status nn_image_reserve(int64_t width, int64_t height, int channels, nn_image *out)
{
    if (!nn_image_size_is_legal(width, height))
        return nn_fail(NN_FORMAT,
                       "the picture is %lld x %lld; at most %d along a side and %d pixels in all "
                       "are read: scale it down first",
                       (long long)width, (long long)height, NN_IMAGE_MAX_SIDE, NN_IMAGE_MAX_PIXELS);
    return allocate(width, height, channels, out);
}

void nn_image_free(nn_image *image)
{
    nn_free(image->rgb);
    *image = (nn_image){ 0 };
}
