/* Operands of conv2d's products, brought into the form that the products read, and how products
 * are cut into blocks. */
#include "kernels/cuda/conv2d.cuh"

#include <math.h>

enum {
    CONV2D_LAYOUT_THREADS = 256,
    CONV2D_FILL_ELEMS = 2048,   /* of a block, at least */
    CONV2D_FILTER_CHANNELS = 64 /* of a block */
};

/* -- images ------------------------------------------------------------------------------------ */

struct conv2d_source {
    int64_t dim[4], stride[4];
};

/* conv2d_fill_image: a thread owns one element of the packed copy, so that neighbouring threads
 * read neighbouring channels. Traffic: the image once (where its rows begin within a sector, that
 * twice, from the first-level cache), the copy once. */
template <class T>
__global__ void __launch_bounds__(CONV2D_LAYOUT_THREADS)
    conv2d_fill_image(const T *x, const conv2d_source v, T *copy, uint32_t channels,
                      uint32_t block_pixels, uint32_t pixels)
{
    const uint32_t first = blockIdx.x * block_pixels;
    const uint32_t end = pixels - first < block_pixels ? pixels - first : block_pixels;
    for (uint32_t i = threadIdx.x; i < end * channels; i += CONV2D_LAYOUT_THREADS) {
        const uint32_t pixel = first + i / channels, channel = i % channels;
        const uint32_t row = pixel / (uint32_t)v.dim[2], sample = row / (uint32_t)v.dim[1];
        const T *from = x + sample * v.stride[0] +
                        (row - sample * (uint32_t)v.dim[1]) * v.stride[1] +
                        (pixel - row * (uint32_t)v.dim[2]) * v.stride[2];
        copy[(int64_t)first * channels + i] =
            channel < v.dim[3] ? from[channel * v.stride[3]] : nn_from<T>(0.0f);
    }
}

bool conv2d_image_small(const nn_view *v)
{
    bool fit = true;
    for (int d = 0; d < 4; d++) fit = fit && v->dim[d] > 0 && v->dim[d] < 1 << 24;
    fit = fit && v->dim[0] * v->dim[1] < 1 << 30;
    return fit && v->dim[0] * v->dim[1] * v->dim[2] < 1 << 30 &&
           (v->dim[1] + 32) * (v->dim[2] + 32) < INT32_MAX / (v->dim[3] + 8);
}

/* A step along a dim of size 1 is never made. */
static int64_t step_of(const nn_view *v, int d)
{
    return v->dim[d] == 1 ? 0 : v->stride[d];
}

int64_t conv2d_pixel_step(const nn_view *v)
{
    const int64_t width = v->dim[2], area = v->dim[1] * width;
    const int64_t pitch = area > 1 ? v->stride[width > 1 ? 2 : 1] : v->stride[0];
    const bool even = (width == 1 || v->stride[2] == pitch) &&
                      (v->dim[1] == 1 || v->stride[1] == width * pitch) &&
                      (v->dim[0] == 1 || v->stride[0] == area * pitch);
    return even && v->stride[3] == 1 && pitch >= v->dim[3] ? pitch : 0;
}

bool conv2d_image_usable(const nn_view *v)
{
    const int64_t group = 16 / nn_dtype_bytes(v->dtype);
    bool fit = nn_aligned16(v) && v->dim[3] % group == 0 && v->stride[3] == 1;
    for (int d = 0; d < 3; d++) fit = fit && step_of(v, d) % group == 0 && step_of(v, d) >= 0;
    return fit && (v->dim[1] + 32) * step_of(v, 1) + (v->dim[2] + 32) * step_of(v, 2) < INT32_MAX;
}

size_t conv2d_image_bytes(const nn_view *v)
{
    if (conv2d_image_usable(v)) return 0;
    return (size_t)(v->dim[0] * v->dim[1] * v->dim[2] * conv2d_filled(v, v->dim[3]) *
                    nn_dtype_bytes(v->dtype));
}

template <class T>
static nn_status image_make(const nn_call *c, const nn_view *v, void *copy, conv2d_image<T> *out)
{
    const int channels = conv2d_filled(v, v->dim[3]), width = (int)v->dim[2];
    *out = { .data = static_cast<const T *>(v->data),
             .sample = step_of(v, 0),
             .row = (int)step_of(v, 1),
             .column = (int)step_of(v, 2),
             .samples = (int)v->dim[0],
             .height = (int)v->dim[1],
             .width = width,
             .channels = channels };
    if (conv2d_image_usable(v)) return NN_OK;
    out->data = static_cast<const T *>(copy);
    out->column = channels;
    out->row = width * channels;
    out->sample = v->dim[1] * width * channels;
    conv2d_source from;
    for (int d = 0; d < 4; d++) from.dim[d] = v->dim[d], from.stride[d] = v->stride[d];
    const int64_t pixels = v->dim[0] * v->dim[1] * v->dim[2];
    const int64_t block_pixels = nn_ceil_div(CONV2D_FILL_ELEMS, channels);
    return NN_LAUNCH(conv2d_fill_image<T>, (unsigned)nn_ceil_div(pixels, block_pixels),
                     CONV2D_LAYOUT_THREADS, 0, c, static_cast<const T *>(v->data), from,
                     static_cast<T *>(copy), (uint32_t)channels, (uint32_t)block_pixels,
                     (uint32_t)pixels);
}

nn_status conv2d_image_make(const nn_call *c, const nn_view *v, void *copy,
                            conv2d_image<float> *out)
{
    return image_make(c, v, copy, out);
}

nn_status conv2d_image_make(const nn_call *c, const nn_view *v, void *copy, conv2d_image<bf16> *out)
{
    return image_make(c, v, copy, out);
}

bool conv2d_fold(nn_view *v, const conv2d_axis *w, const nn_conv2d_params *p)
{
    nn_view wide = *v;
    if (w->kernel == 1 || w->kernel != w->stride || p->left || p->right || v->stride[3] != 1 ||
        v->stride[2] != v->dim[3])
        return false;
    wide.dim[2] = v->dim[2] / w->kernel;
    wide.dim[3] = wide.stride[2] = v->dim[3] * w->kernel;
    if (!conv2d_image_usable(&wide)) return false;
    *v = wide;
    return true;
}

/* -- filters ----------------------------------------------------------------------------------- */

struct conv2d_weights {
    int columns, channels, filled, kernel_w, taps;
    int64_t column, channel, row, tap; /* steps; of taps by rows and along a row of the kernel */
};

/* conv2d_pack: a block owns `block_columns` columns by 64 channels of the filter, all taps. They
 * are read in the order of the weights (whole sectors, where these are packed), turned over in
 * shared memory (up to four threads of a warp meet in a bank) and stored by 16 bytes. Traffic:
 * weights once, filter once. */
template <class T>
__global__ void __launch_bounds__(CONV2D_LAYOUT_THREADS)
    conv2d_pack(const T *weights, const conv2d_weights w, int block_columns, T *filter)
{
    constexpr int W = nn_wide<T>, PITCH = CONV2D_FILTER_CHANNELS + W;
    NN_SHARED_DYN(T, turned); /* [columns][taps][channels] */
    const int first_column = (int)blockIdx.x * block_columns;
    const int first = (int)blockIdx.y * CONV2D_FILTER_CHANNELS, lines = block_columns * w.taps;
    for (int e = (int)threadIdx.x; e < CONV2D_FILTER_CHANNELS * lines; e += CONV2D_LAYOUT_THREADS) {
        const int channel = e / lines, line = e - channel * lines, column = line / w.taps,
                  tap = line - column * w.taps;
        T value = nn_from<T>(0.0f);
        if (first + channel < w.channels && first_column + column < w.columns)
            value = weights[(first_column + column) * w.column + (first + channel) * w.channel +
                            tap / w.kernel_w * w.row + tap % w.kernel_w * w.tap];
        turned[line * PITCH + channel] = value;
    }
    __syncthreads();
    for (int e = (int)threadIdx.x; e < CONV2D_FILTER_CHANNELS / W * lines;
         e += CONV2D_LAYOUT_THREADS) {
        const int line = e / (CONV2D_FILTER_CHANNELS / W);
        const int channel = e % (CONV2D_FILTER_CHANNELS / W) * W;
        if (first_column + line / w.taps >= w.columns || first + channel >= w.filled) continue;
        const nn_vec<T, W> v = nn_load<W>(turned + line * PITCH + channel);
        T *to = filter + ((int64_t)first_column * w.taps + line) * w.filled + first + channel;
        if (w.filled % W == 0) {
            nn_store(to, v);
            continue;
        }
#pragma unroll
        for (int i = 0; i < W; i++)
            if (first + channel + i < w.filled) to[i] = v.at[i];
    }
}

static bool filter_usable(const nn_view *w, bool backward, int channels)
{
    const int64_t taps = w->dim[2] * w->dim[3];
    return nn_aligned16(w) && nn_view_contiguous(w) && !backward && channels == w->dim[1] &&
           (taps == 1 || channels == 1);
}

size_t conv2d_filter_bytes(const nn_view *w, bool backward, int channels)
{
    if (filter_usable(w, backward, channels)) return 0;
    return (size_t)(w->dim[backward ? 1 : 0] * w->dim[2] * w->dim[3] * channels *
                    nn_dtype_bytes(w->dtype));
}

nn_status conv2d_filter_make(const nn_call *c, const nn_view *v, bool backward, int channels,
                             void *filter)
{
    const int column = backward ? 1 : 0, channel = 1 - column;
    const conv2d_weights w = { .columns = (int)v->dim[column],
                               .channels = (int)v->dim[channel],
                               .filled = channels,
                               .kernel_w = (int)v->dim[3],
                               .taps = (int)(v->dim[2] * v->dim[3]),
                               .column = v->stride[column],
                               .channel = v->stride[channel],
                               .row = v->stride[2],
                               .tap = v->stride[3] };
    /* Backward, columns and taps are what is adjacent in the weights. */
    const int block_columns = backward ? nn_max(1, nn_min(8, 72 / w.taps)) : 1;
    const dim3 grid((unsigned)nn_ceil_div(w.columns, block_columns),
                    (unsigned)nn_ceil_div(channels, CONV2D_FILTER_CHANNELS));
    if (filter_usable(v, backward, channels)) return NN_OK;
    NN_DISPATCH(v->dtype, T, {
        const int pitch = CONV2D_FILTER_CHANNELS + nn_wide<T>;
        return NN_LAUNCH(conv2d_pack<T>, grid, CONV2D_LAYOUT_THREADS,
                         (size_t)(block_columns * w.taps * pitch) * sizeof(T), c,
                         static_cast<const T *>(v->data), w, block_columns,
                         static_cast<T *>(filter));
    });
}

/* -- cuts -------------------------------------------------------------------------------------- */

/* Rough weights, in multiplications of one processor: a slice of a tile costs its products and 32
 * for each row and column that is copied; a block costs four slices to begin and end; parts of sums
 * cost their way to memory, and back by a second kernel or by the one block that is the last. */
static double cost_of(double processors, const conv2d_cut *cut, double products, double m, double n,
                      double slices, bool apart)
{
    const double per_slice = 32.0 * (cut->rows * cut->columns + 32.0 * (cut->rows + cut->columns));
    const double blocks =
        products * ceil(m / cut->rows) * ceil(n / cut->columns) * (double)cut->splits;
    const double cost = ceil(blocks / processors) * (ceil(slices / cut->splits) + 4) * per_slice;
    if (cut->splits == 1) return cost;
    const double joined = apart ? 8e6 : 4e6 + 100.0 * cut->splits * cut->rows * cut->columns;
    return cost + joined + 800.0 * cut->splits * products * m * n / processors;
}

conv2d_cut conv2d_cut_of(const nn_call *c, const conv2d_cut *candidates, int64_t products,
                         int64_t m, int64_t n, int64_t slices, bool apart)
{
    conv2d_cut best = {};
    double least = 0;
    for (const conv2d_cut *k = candidates; k->rows; k++)
        for (int splits = 1; splits <= k->splits && (splits == 1 || slices / splits >= 4);
             splits *= 2) {
            const conv2d_cut cut = { k->rows, k->columns, splits };
            const double cost = cost_of(nn_cuda_of(c)->n_processors, &cut, (double)products,
                                        (double)m, (double)n, (double)slices, apart);
            if (!best.rows || cost < least) best = cut, least = cost;
        }
    return best;
}
