/* Geometry between a decoded picture and the tensor a network takes.
 *
 * The resampling is Pillow's (src/libImaging/Resample.c), bit for bit: separable, antialiased,
 * 22-bit fixed-point weights, rounded to 8 bits between the two passes. No gamma. */
#ifndef DATA_RESIZE_H
#define DATA_RESIZE_H

#include "data/image.h"

typedef enum nn_resize_filter {
    NN_RESIZE_BOX,
    NN_RESIZE_BILINEAR,
    NN_RESIZE_HAMMING,
    NN_RESIZE_BICUBIC, /* a = -0.5 */
    NN_RESIZE_LANCZOS  /* three lobes */
} nn_resize_filter;

/* Which axis goes first; visible because the picture between the passes is rounded and clipped. */
typedef enum nn_resize_order {
    NN_RESIZE_PILLOW_13, /* Pillow from 13.0 on: vertical first where it saves more */
    NN_RESIZE_PILLOW_12  /* Pillow up to 12: always horizontal first */
} nn_resize_order;

/* out = src at width x height. An axis that keeps its size is not filtered. *out is overwritten,
 * not freed, and may not be src; on failure it is empty. NN_ARGUMENT: size beyond the limits of
 * data/image.h. NN_MEMORY. */
nn_status nn_image_resize(const nn_image *src, int64_t width, int64_t height,
                          nn_resize_filter filter, nn_resize_order order, nn_image *out) NN_CHECKED;

/* The size of a picture whose shorter edge becomes `edge`: the longer becomes
 * floor(edge * longer / shorter), as torchvision and transformers compute it. */
void nn_resize_shortest_edge(int64_t width, int64_t height, int64_t edge, int64_t *new_width,
                             int64_t *new_height);

/* The middle width x height of src; the first row is floor((src height - height) / 2) and may be
 * negative: what lies outside src is black (transformers' center_crop). Ownership and errors as
 * nn_image_resize. */
nn_status nn_image_crop_center(const nn_image *src, int64_t width, int64_t height,
                               nn_image *out) NN_CHECKED;

/* out[y, x, c] = (p / 255 - mean[c]) / std[c], computed in f32; out is [height, width, 3], the
 * caller's. */
void nn_image_to_tensor(const nn_image *image, float *out, const float mean[3], const float std[3]);

/* Fill an image from pixels [height, width, 3] in [-1, 1], to the nearest byte (halves to the even
 * one); beyond the range is its end. They must be finite. */
void nn_image_from_pixels(const float *pixels, nn_image *out);

/* Bicubic interpolation of an f32 grid of vectors, for position embeddings: torch's interpolate
 * with mode 'bicubic' (a = -0.75), align_corners=False, antialias=False. in is
 * [height, width, channels], out [new_height, new_width, channels]; they may not overlap. All sizes
 * at least 1. */
void nn_grid_resize_bicubic(const float *in, int64_t height, int64_t width, int64_t channels,
                            int64_t new_height, int64_t new_width, float *out);

#endif
