/* conv2d_bwd_w as an implicit matrix product: outputs x (taps x channels), summed over places. */
#include "kernels/cuda/conv2d_tile.cuh"

/* Between rows of channels in shared memory, so that reads of the taps of four channels meet no
 * conflicts. */
enum { CONV2D_TOTAL_THREADS = 256, CONV2D_TOTAL_PAD = 4 };

/* n / d for n < 2^31 by a multiplication. Source: Granlund and Montgomery 1994, figure 4.1. */
struct conv2d_divisor {
    uint32_t d, factor = 0;
    int shift = 0;
};

__device__ __forceinline__ int conv2d_divide(int n, const conv2d_divisor &d)
{
    const uint32_t high = (uint32_t)((uint64_t)(uint32_t)n * d.factor >> 32);
    return (int)((high + (uint32_t)n) >> d.shift);
}

template <class T> struct conv2d_gradient {
    conv2d_image<T> dy = {}, x = {};
    conv2d_axis h, w;
    conv2d_divisor height, width; /* of dy */
    int places, outputs, columns; /* columns: taps x channels of x */
    int splits, each = 0;         /* places of a split */
    float *partial;               /* [splits][outputs][columns] */
    float *bias;                  /* [splits][outputs] */
};

/* What one thread copies of each slice: a group of outputs, and a group of channels of one tap, of
 * several places. */
struct conv2d_pick {
    int output, channel, down, right; /* down, right: of the tap, from the place's first pixel */
    bool has_output, has_column;
};

template <class T, int ROWS, int COLUMNS>
__device__ __forceinline__ conv2d_pick conv2d_pick_of(const conv2d_gradient<T> &g, int first_row,
                                                      int first_column)
{
    constexpr int W = nn_wide<T>;
    const int output = first_row + (int)threadIdx.x % (ROWS / W) * W;
    const int column = first_column + (int)threadIdx.x % (COLUMNS / W) * W;
    const int tap = column / g.x.channels, tap_h = tap / g.w.kernel;
    return { .output = output,
             .channel = column - tap * g.x.channels,
             .down = tap_h - g.h.before,
             .right = tap - tap_h * g.w.kernel - g.w.before,
             .has_output = output < g.dy.channels,
             .has_column = column < g.columns };
}

/* Starts the copies of the slice that begins at place `first`; places from `end` on are zeros. */
template <class T, int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_pick_slice(const conv2d_gradient<T> &g, const conv2d_pick &k,
                                                  int first, int end, T *slice)
{
    constexpr int W = nn_wide<T>, THREADS = conv2d_threads<T, ROWS, COLUMNS>;
    constexpr int A = THREADS / (ROWS / W), B = THREADS / (COLUMNS / W); /* places at a time */
    T *pixels = slice + ROWS * conv2d_depth<T>;
#pragma unroll
    for (int j = 0; j < conv2d_depth<T>; j += A) {
        const int step = (int)threadIdx.x / (ROWS / W) + j, place = first + step;
        const int row = conv2d_divide(place, g.width), sample = conv2d_divide(row, g.height);
        const T *from = g.dy.data + sample * g.dy.sample +
                        (row - sample * (int)g.height.d) * g.dy.row +
                        (place - row * (int)g.width.d) * g.dy.column + k.output;
        cp_async16(conv2d_bed<ROWS>(slice, step, (int)threadIdx.x % (ROWS / W)), from,
                   place < end && k.has_output);
    }
#pragma unroll
    for (int j = 0; j < conv2d_depth<T>; j += B) {
        const int step = (int)threadIdx.x / (COLUMNS / W) + j, place = first + step;
        const int row = conv2d_divide(place, g.width), sample = conv2d_divide(row, g.height);
        const int y = (row - sample * (int)g.height.d) * g.h.stride + k.down;
        const int x = (place - row * (int)g.width.d) * g.w.stride + k.right;
        const bool inside = (unsigned)y < (unsigned)g.x.height && (unsigned)x < (unsigned)g.x.width;
        const T *from = g.x.data + sample * g.x.sample + y * g.x.row + x * g.x.column + k.channel;
        cp_async16(conv2d_bed<COLUMNS>(pixels, step, (int)threadIdx.x % (COLUMNS / W)), from,
                   place < end && k.has_column && inside);
    }
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_put_rows(const conv2d_row_sums<bf16, ROWS, COLUMNS> &sums,
                                                float *bias, int first, int n)
{
    if (nn_lane() % 4 || conv2d_warp_column<COLUMNS>()) return;
#pragma unroll
    for (int i = 0; i < conv2d_warp_rows<ROWS, COLUMNS> / 16; i++) {
        const int row = first + conv2d_warp_row<ROWS, COLUMNS>() + 16 * i + nn_lane() / 4;
        if (row < n) bias[row] = sums.at[i][0];
        if (row + 8 < n) bias[row + 8] = sums.at[i][2];
    }
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_put_rows(const conv2d_row_sums<float, ROWS, COLUMNS> &sums,
                                                float *bias, int first, int n)
{
    if (threadIdx.x % CONV2D_SIDE) return;
#pragma unroll
    for (int i = 0; i < ROWS / CONV2D_SIDE; i++) {
        const int row = first + conv2d_bed_place((int)threadIdx.x / CONV2D_SIDE, i);
        if (row < n) bias[row] = sums.at[i];
    }
}

/* conv2d_weights_part: a block owns ROWS outputs x COLUMNS (tap, channel) pairs of one part of the
 * places; the blocks of the first columns sum dy over the places as well. Four slices in shared
 * memory, three of them on their way. dy is read once per COLUMNS, x once per tap and ROWS (both
 * mostly from L2); parts are written once as f32. Fixed order: deterministic. Registers, shared
 * KiB, blocks that fit a processor:
 *     bf16 128 x 128  128, 68, 2     64 x 64  103, 32, 4
 *     f32  128 x 64   127, 48, 2     64 x 64   80, 32, 3
 */
template <class T, int ROWS, int COLUMNS>
__global__ void __launch_bounds__(conv2d_threads<T, ROWS, COLUMNS>,
                                  512 / conv2d_threads<T, ROWS, COLUMNS>)
    conv2d_weights_part(const conv2d_gradient<T> g)
{
    constexpr int SLICE = (ROWS + COLUMNS) * conv2d_depth<T>, FOURS = COLUMNS / 4;
    NN_SHARED_DYN(T, slices);
    const unsigned tiles = (unsigned)(g.columns + COLUMNS - 1) / COLUMNS;
    const int first_row = (int)(blockIdx.x / tiles) * ROWS;
    const int first_column = (int)(blockIdx.x % tiles) * COLUMNS;
    const int split = (int)blockIdx.z, first = split * g.each;
    const int end = g.places - first < g.each ? g.places : first + g.each;
    const int n = (end - first + conv2d_depth<T> - 1) / conv2d_depth<T>;
    const conv2d_pick pick = conv2d_pick_of<T, ROWS, COLUMNS>(g, first_row, first_column);
    conv2d_sums<T, ROWS, COLUMNS> sums = {};
    conv2d_row_sums<T, ROWS, COLUMNS> row_sums = {};
#pragma unroll
    for (int i = 0; i < CONV2D_STAGES - 1; i++) {
        if (i < n)
            conv2d_pick_slice<T, ROWS, COLUMNS>(g, pick, first + i * conv2d_depth<T>, end,
                                                slices + i * SLICE);
        cp_async_commit();
    }
    for (int i = 0; i < n; i++) {
        const int next = i + CONV2D_STAGES - 1;
        cp_async_wait<CONV2D_STAGES - 2>();
        __syncthreads();
        if (next < n)
            conv2d_pick_slice<T, ROWS, COLUMNS>(g, pick, first + next * conv2d_depth<T>, end,
                                                slices + next % CONV2D_STAGES * SLICE);
        cp_async_commit();
        const T *slice = slices + i % CONV2D_STAGES * SLICE;
        conv2d_multiply_beds<ROWS, COLUMNS>(sums, row_sums, first_column == 0, slice,
                                            slice + ROWS * conv2d_depth<T>);
    }
    cp_async_wait<0>();
    __syncthreads();
    float *tile = reinterpret_cast<float *>(slices);
    conv2d_put<ROWS, COLUMNS>(sums, true, tile);
    if (first_column == 0)
        conv2d_put_rows<ROWS, COLUMNS>(row_sums, g.bias + (int64_t)split * g.outputs, first_row,
                                       g.outputs);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < ROWS * FOURS; e += conv2d_threads<T, ROWS, COLUMNS>) {
        const int row = first_row + e / FOURS, column = first_column + e % FOURS * 4;
        if (row >= g.outputs || column >= g.columns) continue;
        const nn_vec<float, 4> v =
            nn_load<4>(tile + conv2d_sum_at<COLUMNS>(e / FOURS, e % FOURS * 4));
        nn_store(g.partial + ((int64_t)split * g.outputs + row) * g.columns + column, v);
    }
}

/* conv2d_weights_total: a block owns `channels` channels of one output and all their taps; it adds
 * the parts in order and turns [taps][channels] into [channels][taps] in shared memory. Traffic:
 * parts once, dw once. */
template <class U>
__global__ void __launch_bounds__(CONV2D_TOTAL_THREADS)
    conv2d_weights_total(const float *partial, const float *bias, int splits, int outputs, int taps,
                         int filled, int inputs, int channels, U *dw, float *db)
{
    NN_SHARED_DYN(float, turned);
    const int pitch = channels + CONV2D_TOTAL_PAD;
    const int output = (int)blockIdx.x, first = (int)blockIdx.y * channels;
    const int n = inputs - first < channels ? inputs - first : channels;
    const int64_t step = (int64_t)outputs * taps * filled;
    partial += (int64_t)output * taps * filled + first;
    for (int e = (int)threadIdx.x; e < n * taps; e += CONV2D_TOTAL_THREADS) {
        const int tap = e / n, channel = e - tap * n;
        float sum = 0;
        for (int k = 0; k < splits; k++) sum += partial[k * step + (int64_t)tap * filled + channel];
        turned[tap * pitch + channel] = sum;
    }
    __syncthreads();
    dw += ((int64_t)output * inputs + first) * taps;
    for (int e = (int)threadIdx.x; e < n * taps; e += CONV2D_TOTAL_THREADS) {
        const int channel = e / taps, tap = e - channel * taps;
        dw[e] = nn_from<U>(turned[tap * pitch + channel]);
    }
    if (threadIdx.x || blockIdx.y) return;
    float sum = 0;
    for (int k = 0; k < splits; k++) sum += bias[(int64_t)k * outputs + output];
    db[output] = sum;
}

/* -- the call ---------------------------------------------------------------------------------- */

struct conv2d_gradient_plan {
    nn_view x; /* folded */
    conv2d_axis h, w;
    int inputs, taps; /* of dw */
    int64_t places, columns = 0;
    int filled = 0; /* channels of x in groups */
    conv2d_cut cut = {};
    size_t dy_at = 0, x_at = 0, partial_at = 0, bias_at = 0, bytes = 0; /* of the workspace */
};

static const conv2d_cut bf16_cuts[] = { { 128, 128, 64 }, { 64, 64, 64 }, {} };
static const conv2d_cut f32_cuts[] = { { 128, 64, 64 }, { 64, 64, 64 }, {} };

static conv2d_gradient_plan plan_of(const nn_call *c)
{
    const nn_conv2d_params *k = conv2d_params(c);
    const nn_view *dy = &c->in[0], *dw = &c->out[0];
    conv2d_gradient_plan p = { .x = c->in[1],
                               .h = { (int)dw->dim[2], k->stride, k->top },
                               .w = { (int)dw->dim[3], k->stride, k->left },
                               .inputs = (int)dw->dim[1],
                               .taps = (int)(dw->dim[2] * dw->dim[3]),
                               .places = dy->dim[0] * dy->dim[1] * dy->dim[2] };
    const bool folded = conv2d_fold(&p.x, &p.w, k);
    if (folded) p.w = { 1, 1, 0 };
    p.filled = folded ? p.inputs : conv2d_filled(&p.x, p.inputs);
    p.columns = (int64_t)p.taps * p.filled;
    p.cut = conv2d_cut_of(
        c, dy->dtype == NN_F32 ? f32_cuts : bf16_cuts, 1, dy->dim[3], p.columns,
        nn_ceil_div(p.places * nn_dtype_bytes(dy->dtype), 16 * 4 /* bytes of a step */), true);
    p.dy_at = conv2d_reserve(&p.bytes, conv2d_image_bytes(dy));
    p.x_at = conv2d_reserve(&p.bytes, conv2d_image_bytes(&p.x));
    p.partial_at =
        conv2d_reserve(&p.bytes, (size_t)(p.cut.splits * dy->dim[3] * p.columns) * sizeof(float));
    p.bias_at = conv2d_reserve(&p.bytes, (size_t)(p.cut.splits * dy->dim[3]) * sizeof(float));
    return p;
}

static conv2d_divisor divisor_of(int64_t d)
{
    conv2d_divisor v = { .d = (uint32_t)d };
    while ((int64_t)1 << v.shift < d) v.shift++;
    v.factor = (uint32_t)(((((uint64_t)1 << v.shift) - (uint64_t)d) << 32) / (uint64_t)d + 1);
    return v;
}

template <class T, int ROWS, int COLUMNS>
static nn_status sum_parts(const nn_call *c, conv2d_gradient<T> g)
{
    const int64_t slices = nn_ceil_div(g.places, conv2d_depth<T>);
    g.each = (int)nn_ceil_div(slices, g.splits) * conv2d_depth<T>;
    const dim3 grid((unsigned)(nn_ceil_div(g.outputs, ROWS) * nn_ceil_div(g.columns, COLUMNS)), 1,
                    (unsigned)g.splits);
    return NN_LAUNCH((conv2d_weights_part<T, ROWS, COLUMNS>), grid,
                     (conv2d_threads<T, ROWS, COLUMNS>), (conv2d_shared_bytes<T, ROWS, COLUMNS>()),
                     c, g);
}

template <class T> static nn_status run_as(const nn_call *c)
{
    const conv2d_gradient_plan p = plan_of(c);
    const nn_view *dy = &c->in[0], *dw = &c->out[0];
    char *work = static_cast<char *>(c->workspace);
    conv2d_gradient<T> g = { .h = p.h,
                             .w = p.w,
                             .height = divisor_of(dy->dim[1]),
                             .width = divisor_of(dy->dim[2]),
                             .places = (int)p.places,
                             .outputs = (int)dy->dim[3],
                             .columns = (int)p.columns,
                             .splits = p.cut.splits,
                             .partial = reinterpret_cast<float *>(work + p.partial_at),
                             .bias = reinterpret_cast<float *>(work + p.bias_at) };
    NN_TRY(conv2d_image_make(c, dy, work + p.dy_at, &g.dy));
    NN_TRY(conv2d_image_make(c, &p.x, work + p.x_at, &g.x));
    if (p.cut.rows == 64)
        NN_TRY((sum_parts<T, 64, 64>(c, g)));
    else
        NN_TRY((sum_parts < T, 128, sizeof(T) == 2 ? 128 : 64 > (c, g)));
    const int channels = p.taps <= 16 ? 64 : 16;
    const dim3 grid((unsigned)g.outputs, (unsigned)nn_ceil_div(p.inputs, channels));
    NN_DISPATCH(dw->dtype, U,
                return NN_LAUNCH(conv2d_weights_total<U>, grid, CONV2D_TOTAL_THREADS,
                                 (size_t)(p.taps * (channels + CONV2D_TOTAL_PAD)) * sizeof(float),
                                 c, (const float *)g.partial, (const float *)g.bias, g.splits,
                                 g.outputs, p.taps, p.filled, p.inputs, channels,
                                 static_cast<U *>(dw->data), static_cast<float *>(c->out[1].data)));
}

/* Sizes that fit the kernels' 32-bit indices; what is larger goes to conv2d_bwd_w_any. */
bool conv2d_bwd_w_gemm_accepts(const nn_call *c)
{
    const nn_view *dw = &c->out[0];
    bool fit = conv2d_bwd_w_any_accepts(c) && conv2d_params(c)->stride <= 64 &&
               nn_view_contiguous(dw) && nn_view_contiguous(&c->out[1]);
    for (int i = 0; fit && i < 2; i++) fit = conv2d_image_small(&c->in[i]);
    return fit && dw->dim[2] * dw->dim[3] * (dw->dim[1] + 8) < 1 << 28 && dw->dim[0] < 1 << 19 &&
           dw->dim[1] < 1 << 19;
}

size_t conv2d_bwd_w_gemm_workspace(const nn_call *c)
{
    return plan_of(c).bytes;
}

nn_status conv2d_bwd_w_gemm_run(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return run_as<T>(c));
}
