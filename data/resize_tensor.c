/* Sizes, crops, and the step from bytes to f32. */
#include "data/resize.h"

#include <math.h>
#include <string.h>

void nn_resize_shortest_edge(int64_t width, int64_t height, int64_t edge, int64_t *new_width,
                             int64_t *new_height)
{
    bool upright = width <= height;
    *new_width = upright ? edge : edge * width / height;
    *new_height = upright ? edge * height / width : edge;
}

/* First input coordinate of a centered window; floor also when the window is the larger. */
static int64_t window_start(int64_t n_in, int64_t n_out)
{
    int64_t spare = n_in - n_out;
    return spare >= 0 ? spare / 2 : -((-spare + 1) / 2);
}

nn_status nn_image_crop_center(const nn_image *src, int64_t width, int64_t height, nn_image *out)
{
    NN_TRY(nn_image_create(width, height, out));
    int64_t left = window_start(src->width, width), top = window_start(src->height, height);
    int64_t from_x = nn_max(left, 0), to_x = from_x - left;
    int64_t n = nn_min(src->width, width) * 3;
    for (int64_t y = nn_max(-top, 0); y < nn_min(height, src->height - top); y++) {
        const uint8_t *from = src->rgb + ((top + y) * src->width + from_x) * 3;
        memcpy(out->rgb + (y * width + to_x) * 3, from, (size_t)n);
    }
    return NN_OK;
}

void nn_image_to_tensor(const nn_image *image, float *out, const float mean[3], const float std[3])
{
    int64_t n = image->width * image->height;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            out[3 * i + c] = ((float)image->rgb[3 * i + c] / 255.0f - mean[c]) / std[c];
}

/* The four taps of one output coordinate: input indices, clamped to the border, and weights. */
typedef struct cubic_taps {
    int64_t at[4];
    float weight[4];
} cubic_taps;

static float cubic_near(float x) /* |x| <= 1 */
{
    const float a = -0.75f;
    return ((a + 2) * x - (a + 3)) * x * x + 1;
}

static float cubic_far(float x) /* 1 < |x| <= 2 */
{
    const float a = -0.75f;
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}

static cubic_taps cubic_at(int64_t i, int64_t n_in, int64_t n_out)
{
    float scale = (float)n_in / (float)n_out;
    float source = ((float)i + 0.5f) * scale - 0.5f;
    float whole = floorf(source), t = source - whole;
    cubic_taps taps = { .weight = { cubic_far(1 + t), cubic_near(t), cubic_near(1 - t),
                                    cubic_far(2 - t) } };
    for (int j = 0; j < 4; j++) taps.at[j] = nn_max(0, nn_min((int64_t)whole - 1 + j, n_in - 1));
    return taps;
}

void nn_grid_resize_bicubic(const float *in, int64_t height, int64_t width, int64_t channels,
                            int64_t new_height, int64_t new_width, float *out)
{
    for (int64_t y = 0; y < new_height; y++) {
        cubic_taps rows = cubic_at(y, height, new_height);
        for (int64_t x = 0; x < new_width; x++) {
            cubic_taps columns = cubic_at(x, width, new_width);
            float *to = out + (y * new_width + x) * channels;
            memset(to, 0, (size_t)channels * sizeof(*to));
            for (int tap = 0; tap < 16; tap++) {
                const float *from =
                    in + (rows.at[tap / 4] * width + columns.at[tap % 4]) * channels;
                float weight = rows.weight[tap / 4] * columns.weight[tap % 4];
                for (int64_t c = 0; c < channels; c++) to[c] += weight * from[c];
            }
        }
    }
}

void nn_image_from_pixels(const float *pixels, nn_image *out)
{
    for (int64_t i = 0; i < out->width * out->height * 3; i++) {
        const float y = fminf(fmaxf(pixels[i] * 0.5f + 0.5f, 0), 1);
        out->rgb[i] = (uint8_t)nearbyintf(y * 255.0f);
    }
}
