/* Pictures: PNG, JPEG and WebP in, PNG out.
 *
 * Inside the program a picture is always 8-bit RGB. What the files can hold beyond that is reduced
 * here, in one way for all formats:
 *   - alpha is composited on white;
 *   - 16-bit samples keep their high byte (>> 8, libpng's "strip", what Pillow does);
 *   - grey and palettes are expanded; gamma, colour profiles and significant bits are ignored;
 *   - four-component JPEGs hold inverted inks, the convention of Adobe and of every reader;
 *   - the EXIF orientation of a JPEG is applied.
 * A file is decoded whole or not at all: truncation and damage are errors, never grey areas. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "engine/base/status.h"
#include "engine/base/str.h"

enum {
    NN_IMAGE_MAX_SIDE = 20000,     /* pixels along one side */
    NN_IMAGE_MAX_PIXELS = 64 << 20 /* pixels in all */
};

/* {0} is the empty picture. rgb is [height, width, 3], no padding; owner: nn_image_free. */
typedef struct nn_image {
    int64_t width, height;
    uint8_t *rgb;
} nn_image;

/* A black picture. NN_ARGUMENT when a side is below 1 or a limit above is exceeded. */
nn_status nn_image_create(int64_t width, int64_t height, nn_image *out) NN_CHECKED;
void nn_image_free(nn_image *image); /* leaves it empty; legal on the empty picture */

/* Decode n bytes of PNG, JPEG or WebP, told apart by their first bytes. `name` is what errors call
 * the file. *out is overwritten, not freed; on failure it is empty. NN_FORMAT: not a picture,
 * truncated, damaged, or larger than the limits. NN_UNSUPPORTED: animated WebP, colour spaces
 * without a rule. NN_MEMORY. */
nn_status nn_image_decode(const void *bytes, int64_t n, const char *name, nn_image *out) NN_CHECKED;

/* A text stored in a PNG. Both in UTF-8; the key has 1 to 79 printable ASCII characters. */
typedef struct nn_png_text {
    const char *key, *text;
} nn_png_text;

/* Append the picture as a PNG file to *out: RGB8, not interlaced, texts (may be NULL when there are
 * none) before the pixels. A text in ASCII becomes a tEXt chunk, any other an iTXt chunk. Equal
 * pictures and texts give equal bytes. On failure *out is as it was. NN_ARGUMENT: bad size, key or
 * UTF-8. */
nn_status nn_image_encode_png(const nn_image *image, const nn_png_text *texts, int n_texts,
                              nn_text *out) NN_CHECKED;

/* Append the first text stored under key in a PNG file (tEXt, zTXt or iTXt; Latin-1 is turned into
 * UTF-8) to *out. NN_NOT_FOUND when there is none; NN_FORMAT when the file is not a whole PNG. */
nn_status nn_image_png_text(const void *bytes, int64_t n, const char *key, nn_text *out) NN_CHECKED;

#endif
