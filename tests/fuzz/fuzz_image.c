/* libFuzzer entry point: any bytes are a picture or an error, and a picture survives being written
 * and read back. */
#include <stdlib.h>
#include <string.h>

#include "data/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check_round_trip(const nn_image *image)
{
    nn_text file = { 0 };
    nn_image back;
    NN_ASSERT(nn_image_encode_png(image, NULL, 0, &file) == NN_OK);
    NN_ASSERT(nn_image_decode(file.text, file.length, "written", &back) == NN_OK);
    NN_ASSERT(back.width == image->width && back.height == image->height);
    NN_ASSERT(memcmp(back.rgb, image->rgb, (size_t)(3 * image->width * image->height)) == 0);
    nn_image_free(&back);
    nn_text_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    enum { SMALL = 4096 }; /* pixels; larger pictures would only slow the search */
    nn_image image;
    if (nn_image_decode(bytes, (int64_t)n, "fuzz", &image) == NN_OK) {
        NN_ASSERT(image.rgb && image.width > 0 && image.height > 0);
        if (image.width * image.height <= SMALL) check_round_trip(&image);
    } else {
        NN_ASSERT(!image.rgb && nn_error_message()[0]);
    }
    nn_image_free(&image);
    nn_text text = { 0 };
    if (nn_image_png_text(bytes, (int64_t)n, "parameters", &text) != NN_OK)
        NN_ASSERT(text.length == 0);
    nn_text_free(&text);
    return 0;
}
