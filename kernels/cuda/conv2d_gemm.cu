/* conv2d and conv2d_bwd_x as implicit matrix products: results x columns, summed over taps and
 * channels. */
#include "kernels/cuda/conv2d_sink.cuh"
#include "kernels/cuda/conv2d_tile.cuh"

template <class T> struct conv2d_product {
    conv2d_image<T> image = {};
    const T *filter;
    conv2d_axis h, w;
    bool backward;
    int splits;
    float *partial; /* [splits][places or pixels][pitch] if splits > 1 */
    int pitch;
    unsigned *arrivals; /* of the splits of each tile */
    conv2d_sink<T> sink;
};

/* What one thread copies of each slice: the same group of several lines. */
template <class T, int ROWS, int COLUMNS> struct conv2d_feed {
    static constexpr int LINES = conv2d_threads<T, ROWS, COLUMNS> / CONV2D_GROUPS; /* at a time */
    static constexpr int A = ROWS / LINES, B = COLUMNS < LINES ? 1 : COLUMNS / LINES;
    const T *image[A];
    int row[A], column[A]; /* source of the first tap */
    const T *filter[B];    /* NULL = no such column */
    int tap_h, tap_w, channel;
};

template <class T, int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_feed_begin(conv2d_feed<T, ROWS, COLUMNS> &f,
                                                  const conv2d_product<T> &p, const conv2d_span &h,
                                                  const conv2d_span &w, int first_row,
                                                  int first_column, int first_slice)
{
    typedef conv2d_feed<T, ROWS, COLUMNS> feed;
    const int line = (int)threadIdx.x / CONV2D_GROUPS, group = (int)threadIdx.x % CONV2D_GROUPS;
    const int area = h.n * w.n, taps = p.h.kernel * p.w.kernel;
#pragma unroll
    for (int j = 0; j < feed::A; j++) {
        const int row = first_row + line + j * feed::LINES, sample = row / area;
        const int at = row - sample * area, y = at / w.n;
        const bool exists = sample < p.image.samples;
        f.row[j] = exists ? y * h.scale + h.base : INT32_MIN / 2;
        f.column[j] = (at - y * w.n) * w.scale + w.base;
        f.image[j] =
            p.image.data + (exists ? sample * p.image.sample + (int64_t)f.row[j] * p.image.row +
                                         (int64_t)f.column[j] * p.image.column
                                   : 0);
    }
#pragma unroll
    for (int j = 0; j < feed::B; j++) {
        const int column = first_column + line + j * feed::LINES;
        const bool exists = line < COLUMNS && column < p.sink.columns;
        f.filter[j] = exists ? p.filter + (int64_t)column * taps * p.image.channels : NULL;
    }
    const int k = first_slice * conv2d_depth<T> + group * nn_wide<T>, tap = k / p.image.channels;
    const int per_row = w.taps > 0 ? w.taps : 1;
    f.channel = k - tap * p.image.channels;
    f.tap_h = tap / per_row;
    f.tap_w = tap - f.tap_h * per_row;
}

/* Starts the copies of a slice, and goes on to the next. */
template <class T, int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_feed_slice(conv2d_feed<T, ROWS, COLUMNS> &f,
                                                  const conv2d_product<T> &p, const conv2d_span &h,
                                                  const conv2d_span &w, T *slice)
{
    typedef conv2d_feed<T, ROWS, COLUMNS> feed;
    const int line = (int)threadIdx.x / CONV2D_GROUPS, group = (int)threadIdx.x % CONV2D_GROUPS;
    const int down = h.sign * f.tap_h, right = w.sign * f.tap_w;
    const int offset = down * p.image.row + right * p.image.column + f.channel;
    const int tap =
        (h.first_tap + f.tap_h * h.tap_step) * p.w.kernel + w.first_tap + f.tap_w * w.tap_step;
    const bool deep = f.tap_h < h.taps;
    T *filters = slice + ROWS * conv2d_depth<T>;
#pragma unroll
    for (int j = 0; j < feed::A; j++) {
        const bool inside = (unsigned)(f.row[j] + down) < (unsigned)p.image.height &&
                            (unsigned)(f.column[j] + right) < (unsigned)p.image.width;
        cp_async16(conv2d_line(slice, line + j * feed::LINES, group), f.image[j] + offset,
                   deep && inside);
    }
#pragma unroll
    for (int j = 0; j < feed::B; j++)
        if (feed::LINES <= COLUMNS || line < COLUMNS)
            cp_async16(conv2d_line(filters, line + j * feed::LINES, group),
                       f.filter[j] + tap * p.image.channels + f.channel, deep && f.filter[j]);
    for (f.channel += conv2d_depth<T>; f.channel >= p.image.channels;) {
        f.channel -= p.image.channels;
        if (++f.tap_w < w.taps) continue;
        f.tap_w = 0;
        f.tap_h++;
    }
}

template <int W> __device__ __forceinline__ void conv2d_put_part(float *to, const float (&v)[W])
{
#pragma unroll
    for (int i = 0; i < W; i += 4)
        nn_store(to + i, nn_vec<float, 4>{ v[i], v[i + 1], v[i + 2], v[i + 3] });
}

template <int W> __device__ __forceinline__ void conv2d_add_part(const float *from, float (&v)[W])
{
#pragma unroll
    for (int i = 0; i < W; i += 4) {
        const nn_vec<float, 4> x = nn_load<4>(from + i);
#pragma unroll
        for (int e = 0; e < 4; e++) v[i + e] += x.at[e];
    }
}

/* From where to where a block delivers: its sums to the result or to its part of the workspace, or
 * the parts of all splits, added in their order, to the result. */
typedef enum conv2d_way { CONV2D_WHOLE, CONV2D_PART, CONV2D_PARTS } conv2d_way;

/* A thread moves W neighbouring sums; W = 1 is for results whose rows do not begin at multiples of
 * 16 bytes: then neighbouring threads store neighbouring elements. tile: this block's sums. */
template <conv2d_way WAY, int W, class T, int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_deliver(const conv2d_product<T> &p, const conv2d_span &h,
                                               const conv2d_span &w, int first_row,
                                               int first_column, int split, const float *tile)
{
    const conv2d_sink<T> &s = p.sink;
    const int64_t part = (int64_t)p.image.samples * s.height * s.width * p.pitch;
    const int left = s.columns - first_column;
    const int area = h.n * w.n, groups = W > 1 || left > COLUMNS ? COLUMNS / W : left;
    for (int e = (int)threadIdx.x; e < ROWS * groups; e += conv2d_threads<T, ROWS, COLUMNS>) {
        const int column = e % groups * W, channel = first_column + column;
        const int row = first_row + e / groups, sample = row / area;
        const int at = row - sample * area, down = at / w.n;
        const int y = h.first + down * h.apart, x = w.first + (at - down * w.n) * w.apart;
        if (sample >= p.image.samples || channel >= s.columns) continue;
        float v[W] = {};
        if constexpr (WAY != CONV2D_PARTS) conv2d_get<COLUMNS>(tile, e / groups, column, v);
        if constexpr (WAY != CONV2D_WHOLE) {
            const int64_t place = ((int64_t)sample * s.height + y) * s.width + x;
            float *at = p.partial + place * p.pitch + channel;
            if constexpr (WAY == CONV2D_PART)
                conv2d_put_part(at + split * part, v);
            else
                for (int k = 0; k < p.splits; k++) conv2d_add_part(at + k * part, v);
        }
        if constexpr (WAY != CONV2D_PART) conv2d_emit(s, sample, y, x, channel, v);
    }
}

/* Whether all other splits of this block's tile have written their parts. Any block may be the last
 * one; it leaves the counter at 0. said: a place in shared memory that is free. */
template <class T>
__device__ __forceinline__ bool conv2d_is_last(const conv2d_product<T> &p, unsigned tile,
                                               unsigned *said)
{
    __threadfence(); /* the parts before the arrival */
    __syncthreads();
    if (threadIdx.x == 0) {
        *said = atomicAdd(p.arrivals + tile, 1u);
        if (*said == (unsigned)p.splits - 1) atomicExch(p.arrivals + tile, 0u);
        __threadfence(); /* the arrival before the parts */
    }
    __syncthreads();
    return *said == (unsigned)p.splits - 1;
}

/* conv2d_implicit: a block owns ROWS results of one phase (conv2d_span_of) x COLUMNS channels;
 * neighbouring blocks share rows. Four slices in shared memory, three of them on their way; pixels
 * beyond the border and channels beyond the last arrive as zeros. Each operand is read once per
 * ROWS or COLUMNS of the other, the image in addition once per tap (from L2, mostly); the result is
 * written once, 16 bytes per thread where its rows begin at multiples of them, with bias, shift and
 * residual added in f32. Where sums are cut, each block writes its part, 4 bytes per element, and
 * the last one to arrive at a tile reads them all. The residual may be the result's memory: an
 * element is read and written by one thread. f32 sums in a fixed order, whoever is last:
 * deterministic. Registers, shared KiB, blocks that fit a processor of an A100 and of an H100:
 *     bf16 128 x 128  124, 68, 2, 2     64 x 64   98, 32, 4, 4     128 x 16   96, 36, 4, 5
 *          128 x 64   127, 48, 3, 4
 *     f32  128 x 64   128, 48, 2, 2     64 x 64  110, 32, 2, 2     128 x 16  116, 36, 2, 2
 */
template <class T, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(conv2d_threads<T, ROWS, COLUMNS>,
                                  512 / conv2d_threads<T, ROWS, COLUMNS>)
    conv2d_implicit(const conv2d_product<T> p)
{
    constexpr int SLICE = (ROWS + COLUMNS) * conv2d_depth<T>;
    NN_SHARED_DYN(T, slices);
    const int phase = (int)blockIdx.z / p.splits, split = (int)blockIdx.z % p.splits;
    const conv2d_span h = conv2d_span_of(p.h, p.backward, phase / p.w.stride, p.sink.height);
    const conv2d_span w = conv2d_span_of(p.w, p.backward, phase % p.w.stride, p.sink.width);
    const unsigned tiles = (unsigned)(p.sink.columns + COLUMNS - 1) / COLUMNS;
    const int64_t first_row = (int64_t)(blockIdx.x / tiles) * ROWS;
    const int first_column = (int)(blockIdx.x % tiles) * COLUMNS;
    if (first_row >= (int64_t)p.image.samples * h.n * w.n) return;
    const int depth = h.taps * w.taps * p.image.channels;
    const int all = (depth + conv2d_depth<T> - 1) / conv2d_depth<T>;
    const int each = (all + p.splits - 1) / p.splits, first = split * each;
    const int n = all - first < each ? all - first : each;

    conv2d_feed<T, ROWS, COLUMNS> feed;
    conv2d_sums<T, ROWS, COLUMNS> sums = {};
    conv2d_feed_begin(feed, p, h, w, (int)first_row, first_column, first);
#pragma unroll
    for (int i = 0; i < CONV2D_STAGES - 1; i++) {
        if (i < n) conv2d_feed_slice(feed, p, h, w, slices + i * SLICE);
        cp_async_commit();
    }
    for (int i = 0; i < n; i++) {
        const int next = i + CONV2D_STAGES - 1;
        cp_async_wait<CONV2D_STAGES - 2>();
        __syncthreads();
        if (next < n) conv2d_feed_slice(feed, p, h, w, slices + next % CONV2D_STAGES * SLICE);
        cp_async_commit();
        const T *slice = slices + i % CONV2D_STAGES * SLICE;
        conv2d_multiply_lines<ROWS, COLUMNS>(sums, slice, slice + ROWS * conv2d_depth<T>);
    }
    cp_async_wait<0>();
    __syncthreads();
    float *tile = reinterpret_cast<float *>(slices);
    conv2d_put<ROWS, COLUMNS>(sums, false, tile);
    __syncthreads();
    if (p.splits == 1 && p.sink.wide) {
        conv2d_deliver<CONV2D_WHOLE, nn_wide<T>, T, ROWS, COLUMNS>(p, h, w, (int)first_row,
                                                                   first_column, split, tile);
    } else if (p.splits == 1) {
        conv2d_deliver<CONV2D_WHOLE, 1, T, ROWS, COLUMNS>(p, h, w, (int)first_row, first_column,
                                                          split, tile);
    } else {
        conv2d_deliver<CONV2D_PART, nn_wide<T>, T, ROWS, COLUMNS>(p, h, w, (int)first_row,
                                                                  first_column, split, tile);
        if (!conv2d_is_last(p, (unsigned)phase * gridDim.x + blockIdx.x,
                            reinterpret_cast<unsigned *>(slices)))
            return;
        conv2d_deliver<CONV2D_PARTS, nn_wide<T>, T, ROWS, COLUMNS>(p, h, w, (int)first_row,
                                                                   first_column, split, tile);
    }
}

/* -- the calls --------------------------------------------------------------------------------- */

struct conv2d_plan {
    bool backward;
    nn_view image; /* x or dy, folded */
    conv2d_axis h, w;
    int phases;
    int channels = 0; /* of the filter */
    conv2d_cut cut = {};
    size_t image_at = 0, filter_at = 0, partial_at = 0,
           bytes = 0; /* of the workspace; filter_at unless frozen */
};

static const conv2d_cut bf16_cuts[] = {
    { 128, 128, 8 }, { 128, 64, 8 }, { 64, 64, 8 }, { 128, 16, 8 }, {}
};
static const conv2d_cut f32_cuts[] = { { 128, 64, 8 }, { 64, 64, 8 }, { 128, 16, 8 }, {} };

static const nn_view *weights_of(const nn_call *c)
{
    return &c->in[1]; /* of both ops */
}

static int pitch_of(const nn_view *y)
{
    return (int)nn_ceil_div(y->dim[3], 8) * 8;
}

/* Blocks of a phase and split. */
static int64_t tiles_of(const nn_view *y, const conv2d_plan *p)
{
    const int64_t steps = p->backward ? p->w.stride : 1;
    const int64_t rows = y->dim[0] * nn_ceil_div(y->dim[1], steps) * nn_ceil_div(y->dim[2], steps);
    return nn_ceil_div(rows, p->cut.rows) * nn_ceil_div(y->dim[3], p->cut.columns);
}

static conv2d_plan plan_of(const nn_call *c, bool backward)
{
    const nn_conv2d_params *k = conv2d_params(c);
    const nn_view *w = weights_of(c), *y = &c->out[0];
    conv2d_plan p = { .backward = backward,
                      .image = c->in[0],
                      .h = { (int)w->dim[2], k->stride, k->top },
                      .w = { (int)w->dim[3], k->stride, k->left },
                      .phases = backward ? k->stride * k->stride : 1 };
    const bool folded = !backward && conv2d_fold(&p.image, &p.w, k);
    if (folded) p.w = { 1, 1, 0 };
    p.channels = folded ? (int)w->dim[1] : conv2d_filled(w, w->dim[backward ? 0 : 1]);
    const int64_t depth =
        nn_ceil_div(p.h.kernel * p.w.kernel * (folded ? p.image.dim[3] : p.channels), p.phases);
    const int64_t places = nn_view_elems(y) / y->dim[3];
    p.cut = conv2d_cut_of(c, y->dtype == NN_F32 ? f32_cuts : bf16_cuts, p.phases,
                          nn_ceil_div(places, p.phases), y->dim[3],
                          nn_ceil_div(depth * nn_dtype_bytes(y->dtype), 16 * CONV2D_GROUPS), false);
    if (p.phases * tiles_of(y, &p) > NN_CUDA_ARRIVALS) p.cut.splits = 1;
    p.image_at = conv2d_reserve(&p.bytes, conv2d_image_bytes(&p.image));
    p.filter_at =
        conv2d_reserve(&p.bytes, c->frozen ? 0 : conv2d_filter_bytes(w, backward, p.channels));
    p.partial_at = conv2d_reserve(
        &p.bytes,
        p.cut.splits > 1 ? (size_t)(p.cut.splits * places * pitch_of(y)) * sizeof(float) : 0);
    return p;
}

template <class T, int ROWS, int COLUMNS>
static nn_status multiply(const nn_call *c, const conv2d_plan *p, const conv2d_product<T> &product)
{
    const dim3 grid((unsigned)tiles_of(&c->out[0], p), 1, (unsigned)(p->phases * p->cut.splits));
    return NN_LAUNCH((conv2d_implicit<T, ROWS, COLUMNS>), grid, (conv2d_threads<T, ROWS, COLUMNS>),
                     (conv2d_shared_bytes<T, ROWS, COLUMNS>()), c, product);
}

template <class T>
static nn_status multiply_cut(const nn_call *c, const conv2d_plan *p,
                              const conv2d_product<T> &product)
{
    if (p->cut.columns == 16) return multiply<T, 128, 16>(c, p, product);
    if (p->cut.rows == 64) return multiply<T, 64, 64>(c, p, product);
    if constexpr (sizeof(T) == 2)
        if (p->cut.columns == 128) return multiply<T, 128, 128>(c, p, product);
    return multiply<T, 128, 64>(c, p, product);
}

template <class T> static nn_status run_as(const nn_call *c, bool backward)
{
    const conv2d_plan p = plan_of(c, backward);
    const nn_view *w = weights_of(c);
    char *work = static_cast<char *>(c->workspace);
    void *filter = c->frozen ? c->packed : work + p.filter_at;
    const bool as_it_lies = conv2d_filter_bytes(w, backward, p.channels) == 0;
    conv2d_product<T> product = { .filter = static_cast<const T *>(as_it_lies ? w->data : filter),
                                  .h = p.h,
                                  .w = p.w,
                                  .backward = backward,
                                  .splits = p.cut.splits,
                                  .partial = reinterpret_cast<float *>(work + p.partial_at),
                                  .pitch = pitch_of(&c->out[0]),
                                  .arrivals = nn_cuda_of(c)->arrivals,
                                  .sink = conv2d_sink_of<T>(c, backward) };
    NN_TRY(conv2d_image_make(c, &p.image, work + p.image_at, &product.image));
    if (!c->frozen || c->repack) NN_TRY(conv2d_filter_make(c, w, backward, p.channels, filter));
    return multiply_cut(c, &p, product);
}

/* Sizes that fit the kernels' 32-bit indices; what is larger goes to conv2d_any. */
static bool small_enough(const nn_call *c)
{
    const nn_view *x = &c->in[0], *w = weights_of(c), *y = &c->out[0];
    return conv2d_image_small(x) && conv2d_image_small(y) && conv2d_params(c)->stride <= 64 &&
           conv2d_pixel_step(y) && conv2d_pixel_step(y) < 1 << 19 && w->dim[0] < 1 << 19 &&
           w->dim[1] < 1 << 19 &&
           w->dim[2] * w->dim[3] * (nn_max(w->dim[0], w->dim[1]) + 8) < 1 << 28;
}

bool conv2d_gemm_accepts(const nn_call *c)
{
    return conv2d_any_accepts(c) && small_enough(c);
}

bool conv2d_bwd_x_gemm_accepts(const nn_call *c)
{
    return conv2d_bwd_x_any_accepts(c) && small_enough(c);
}

size_t conv2d_gemm_workspace(const nn_call *c)
{
    return plan_of(c, false).bytes;
}

size_t conv2d_bwd_x_gemm_workspace(const nn_call *c)
{
    return plan_of(c, true).bytes;
}

static nn_status prepare(nn_call *c, bool backward)
{
    const conv2d_plan p = plan_of(c, backward);
    if (c->frozen) c->packed_bytes = conv2d_filter_bytes(weights_of(c), backward, p.channels);
    return NN_OK;
}

nn_status conv2d_gemm_prepare(nn_call *c)
{
    return prepare(c, false);
}

nn_status conv2d_bwd_x_gemm_prepare(nn_call *c)
{
    return prepare(c, true);
}

nn_status conv2d_gemm_run(const nn_call *c)
{
    NN_DISPATCH(c->out[0].dtype, T, return run_as<T>(c, false));
}

nn_status conv2d_bwd_x_gemm_run(const nn_call *c)
{
    NN_DISPATCH(c->out[0].dtype, T, return run_as<T>(c, true));
}
