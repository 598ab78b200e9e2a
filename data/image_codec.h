/* What the decoders of data/image_*.c share. Not for other folders. */
#ifndef DATA_IMAGE_CODEC_H
#define DATA_IMAGE_CODEC_H

#include "data/image.h"

/* One per format: out is empty at the call and may hold a buffer after a failure, which the caller
 * frees. Messages do not name the file; the caller puts the name in front. */
nn_status nn_png_decode(const uint8_t *bytes, int64_t n, nn_image *out) NN_CHECKED;
nn_status nn_jpeg_decode(const uint8_t *bytes, int64_t n, nn_image *out) NN_CHECKED;
nn_status nn_webp_decode(const uint8_t *bytes, int64_t n, nn_image *out) NN_CHECKED;

/* Within NN_IMAGE_MAX_SIDE and NN_IMAGE_MAX_PIXELS, and not empty. */
bool nn_image_size_is_legal(int64_t width, int64_t height);

/* Allocate width x height x channels (3 or 4) bytes in out->rgb, after the size limits. */
nn_status nn_image_reserve(int64_t width, int64_t height, int channels, nn_image *out) NN_CHECKED;

/* A buffer of four channels becomes RGB in place, and is shrunk to its new size. */
typedef enum nn_fourth { NN_FOURTH_ALPHA, NN_FOURTH_INVERTED_BLACK } nn_fourth;
nn_status nn_image_flatten(nn_image *image, nn_fourth meaning) NN_CHECKED;

/* Turn and mirror a stored picture so that it stands as EXIF orientation 1 .. 8 says. */
nn_status nn_image_orient(nn_image *image, int orientation) NN_CHECKED;

/* Orientation 1 .. 8 from the contents of a JPEG APP1 segment; 1 when it has none or is damaged. */
int nn_exif_orientation(const uint8_t *segment, int64_t n);

/* Note, once per process, that colour profiles are ignored. */
void nn_image_note_profile(void);

#endif
