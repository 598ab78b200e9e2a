/* Pillow's resampling in fixed point. */
#include "data/resize.h"

#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"

/* Weights are integers in units of 2^-22: 32 bits less 8 of the pixel and 2 of overshoot. */
enum { PRECISION = 22 };

typedef struct kernel {
    double (*at)(double x);
    double radius;
} kernel;

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1 : 0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double hamming(double x)
{
    x = fabs(x);
    return x < 1 ? sinc(x) * (0.54 + 0.46 * cos(M_PI * x)) : 0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double lanczos(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const kernel kernels[] = {
    [NN_RESIZE_BOX] = { box, 0.5 },       [NN_RESIZE_BILINEAR] = { bilinear, 1 },
    [NN_RESIZE_HAMMING] = { hamming, 1 }, [NN_RESIZE_BICUBIC] = { bicubic, 2 },
    [NN_RESIZE_LANCZOS] = { lanczos, 3 },
};

/* The taps of one axis: output i is the sum of weights[i * stride + j] * input[first[i] + j] over
 * j < count[i]. */
typedef struct taps {
    int64_t n_out, stride;
    int64_t *first, *count;
    int32_t *weights;
} taps;

static void taps_free(taps *t)
{
    nn_free(t->first);
    nn_free(t->count);
    nn_free(t->weights);
}

/* Allocates for an axis whose filter reaches `support` input pixels to either side. */
static nn_status taps_alloc(int64_t n_out, double support, taps *t)
{
    t->n_out = n_out;
    t->stride = (int64_t)ceil(support) * 2 + 1;
    t->first = nn_alloc(n_out, sizeof(*t->first));
    NN_NEED(t->first);
    t->count = nn_alloc(n_out, sizeof(*t->count));
    NN_NEED(t->count);
    t->weights = nn_alloc(n_out * t->stride, sizeof(*t->weights));
    NN_NEED(t->weights);
    return NN_OK;
}

static int32_t to_fixed(double weight)
{
    return (int32_t)(weight * (1 << PRECISION) + (weight < 0 ? -0.5 : 0.5));
}

/* row is scratch for one output's weights in double. The order of the operations is Pillow's. */
static void taps_fill(taps *t, int64_t n_in, const kernel *k, double *row)
{
    double scale = (double)n_in / (double)t->n_out;
    double stretch = scale < 1 ? 1 : scale;
    double support = k->radius * stretch, shrink = 1 / stretch;
    for (int64_t i = 0; i < t->n_out; i++) {
        double center = ((double)i + 0.5) * scale;
        int64_t first = nn_max((int64_t)(center - support + 0.5), 0);
        int64_t count = nn_min((int64_t)(center + support + 0.5), n_in) - first;
        double sum = 0;
        for (int64_t j = 0; j < count; j++) {
            row[j] = k->at(((double)(j + first) - center + 0.5) * shrink);
            sum += row[j];
        }
        for (int64_t j = 0; j < count; j++)
            t->weights[i * t->stride + j] = to_fixed(sum != 0 ? row[j] / sum : row[j]);
        t->first[i] = first;
        t->count[i] = count;
    }
}

static nn_status taps_init(taps *t, int64_t n_in, int64_t n_out, nn_resize_filter filter)
{
    const kernel *k = &kernels[filter];
    double scale = (double)n_in / (double)n_out;
    nn_status status = taps_alloc(n_out, k->radius * (scale < 1 ? 1 : scale), t);
    double *row = status == NN_OK ? nn_alloc(t->stride, sizeof(*row)) : NULL;
    if (row)
        taps_fill(t, n_in, k, row);
    else
        taps_free(t);
    nn_free(row);
    return row ? NN_OK : NN_MEMORY;
}

static uint8_t to_byte(int32_t sum)
{
    int32_t value = sum >> PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static void filter_rows(const nn_image *in, const taps *t, nn_image *out)
{
    for (int64_t y = 0; y < out->height; y++) {
        const uint8_t *row = in->rgb + y * in->width * 3;
        uint8_t *to = out->rgb + y * out->width * 3;
        for (int64_t x = 0; x < out->width; x++, to += 3) {
            const uint8_t *p = row + 3 * t->first[x];
            const int32_t *weight = t->weights + x * t->stride;
            int32_t r = 1 << (PRECISION - 1), g = r, b = r;
            for (int64_t j = 0; j < t->count[x]; j++, p += 3) {
                r += weight[j] * p[0];
                g += weight[j] * p[1];
                b += weight[j] * p[2];
            }
            to[0] = to_byte(r);
            to[1] = to_byte(g);
            to[2] = to_byte(b);
        }
    }
}

/* sum is scratch for one row of the output. */
static void filter_columns(const nn_image *in, const taps *t, nn_image *out, int32_t *sum)
{
    int64_t n = in->width * 3;
    for (int64_t y = 0; y < out->height; y++) {
        for (int64_t i = 0; i < n; i++) sum[i] = 1 << (PRECISION - 1);
        for (int64_t j = 0; j < t->count[y]; j++) {
            const uint8_t *row = in->rgb + (t->first[y] + j) * n;
            int32_t weight = t->weights[y * t->stride + j];
            for (int64_t i = 0; i < n; i++) sum[i] += weight * row[i];
        }
        for (int64_t i = 0; i < n; i++) out->rgb[y * n + i] = to_byte(sum[i]);
    }
}

static nn_status resize_width(const nn_image *in, int64_t width, nn_resize_filter filter,
                              nn_image *out)
{
    taps t = { 0 };
    NN_TRY(nn_image_create(width, in->height, out));
    nn_status status = taps_init(&t, in->width, width, filter);
    if (status != NN_OK) {
        nn_image_free(out);
        return status;
    }
    filter_rows(in, &t, out);
    taps_free(&t);
    return NN_OK;
}

static nn_status resize_height(const nn_image *in, int64_t height, nn_resize_filter filter,
                               nn_image *out)
{
    taps t = { 0 };
    NN_TRY(nn_image_create(in->width, height, out));
    int32_t *sum = nn_alloc(in->width * 3, sizeof(*sum));
    nn_status status = sum ? taps_init(&t, in->height, height, filter) : NN_MEMORY;
    if (status == NN_OK) {
        filter_columns(in, &t, out, sum);
        taps_free(&t);
    } else {
        nn_image_free(out);
    }
    nn_free(sum);
    return status;
}

static nn_status copy(const nn_image *src, nn_image *out)
{
    NN_TRY(nn_image_create(src->width, src->height, out));
    memcpy(out->rgb, src->rgb, (size_t)(src->width * src->height * 3));
    return NN_OK;
}

nn_status nn_image_resize(const nn_image *src, int64_t width, int64_t height,
                          nn_resize_filter filter, nn_resize_order order, nn_image *out)
{
    *out = (nn_image){ 0 };
    int64_t dw = src->width - width, dh = src->height - height;
    if (dw == 0 && dh == 0) return copy(src, out);
    if (dh == 0) return resize_width(src, width, filter, out);
    if (dw == 0) return resize_height(src, height, filter, out);
    nn_image between;
    nn_status status;
    if (order == NN_RESIZE_PILLOW_13 && dh > 0 && dh > 2 * dw) {
        NN_TRY(resize_height(src, height, filter, &between));
        status = resize_width(&between, width, filter, out);
    } else {
        NN_TRY(resize_width(src, width, filter, &between));
        status = resize_height(&between, height, filter, out);
    }
    nn_image_free(&between);
    return status;
}
