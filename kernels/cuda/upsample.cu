/* upsample and its gradient. A block owns a part of one row of the result, a thread W neighbouring
 * channels of one place (16 bytes, or one element where x cannot be read so). Traffic: forward the
 * result written once, x read once from memory and again from the cache; backward dy read and dx
 * written once. f32 sums in fixed order: deterministic. */
#include "kernels/cuda/map.cuh"

/* The operand, [N, H, W, C] of any strides, and the result's places and channels. */
struct upsample_layout {
    int64_t step[4]; /* of the operand, elements */
    int from_height, from_width;
    int height, width; /* of the result */
    int channels;
};

/* nn_upsample_source on the device. */
__device__ __forceinline__ int upsample_source(int to, int in, int out)
{
    const int from = (int)__fmul_rn((float)to, (float)in / (float)out);
    return from < in ? from : in - 1;
}

/* The first place of `out` whose source is `from` or later. */
__device__ __forceinline__ int upsample_first(int from, int in, int out)
{
    int to = (int)((float)from * ((float)out / (float)in)) - 2;
    if (to < 0) to = 0;
    while (to < out && upsample_source(to, in, out) < from) to++;
    return to;
}

struct upsample_place {
    int sample, y, x, channel;
    int64_t at; /* in the packed result */
    bool valid;
};

template <int W> __device__ __forceinline__ upsample_place upsample_here(const upsample_layout &l)
{
    const int pieces = l.channels / W, i = (int)(blockIdx.y * NN_MAP_THREADS + threadIdx.x);
    upsample_place p;
    p.sample = (int)blockIdx.x / l.height;
    p.y = (int)blockIdx.x - p.sample * l.height;
    p.x = i / pieces;
    p.channel = (i - p.x * pieces) * W;
    p.at = ((int64_t)blockIdx.x * l.width + p.x) * l.channels + p.channel;
    p.valid = p.x < l.width;
    return p;
}

template <class T, int W>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    upsample_gather(const T *x, T *y, const upsample_layout l)
{
    const upsample_place p = upsample_here<W>(l);
    if (!p.valid) return;
    const int from_y = upsample_source(p.y, l.from_height, l.height);
    const int from_x = upsample_source(p.x, l.from_width, l.width);
    nn_store(y + p.at, nn_load<W>(x + p.sample * l.step[0] + from_y * l.step[1] +
                                  from_x * l.step[2] + p.channel * l.step[3]));
}

template <class T, int W>
__global__ void __launch_bounds__(NN_MAP_THREADS, 3)
    upsample_bwd_gather(const T *dy, T *dx, const upsample_layout l)
{
    const upsample_place p = upsample_here<W>(l);
    if (!p.valid) return;
    const int top = upsample_first(p.y, l.height, l.from_height);
    const int bottom = upsample_first(p.y + 1, l.height, l.from_height);
    const int left = upsample_first(p.x, l.width, l.from_width);
    const int right = upsample_first(p.x + 1, l.width, l.from_width);
    const T *from = dy + p.sample * l.step[0] + p.channel * l.step[3];
    float sum[W] = {};
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            const nn_vec<T, W> v = nn_load<W>(from + y * l.step[1] + x * l.step[2]);
#pragma unroll
            for (int k = 0; k < W; k++) sum[k] += nn_float(v.at[k]);
        }
    }
    nn_vec<T, W> out;
#pragma unroll
    for (int k = 0; k < W; k++) out.at[k] = nn_from<T>(sum[k]);
    nn_store(dx + p.at, out);
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype &&
           nn_view_contiguous(&c->out[0]);
}

static bool accepts_wide(const nn_call *c)
{
    const nn_view *x = &c->in[0];
    const int64_t wide = 16 / nn_dtype_bytes(x->dtype);
    bool fit = accepts_any(c) && nn_aligned16(x) && nn_aligned16(&c->out[0]) &&
               nn_view_packed_from(x, 3) && x->dim[3] % wide == 0;
    for (int d = 0; d < 3; d++) fit = fit && x->stride[d] % wide == 0;
    return fit;
}

static upsample_layout layout_of(const nn_view *x, const nn_view *y)
{
    return { .step = { x->stride[0], x->stride[1], x->stride[2], x->stride[3] },
             .from_height = (int)x->dim[1],
             .from_width = (int)x->dim[2],
             .height = (int)y->dim[1],
             .width = (int)y->dim[2],
             .channels = (int)y->dim[3] };
}

template <class T, int W> static nn_status gather_as(const nn_call *c, bool backward)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const T *from = static_cast<const T *>(x->data);
    T *to = static_cast<T *>(y->data);
    if (!nn_view_elems(y)) return NN_OK;
    const dim3 grid((unsigned)(y->dim[0] * y->dim[1]),
                    (unsigned)nn_ceil_div(y->dim[2] * (y->dim[3] / W), NN_MAP_THREADS));
    if (backward)
        return NN_LAUNCH((upsample_bwd_gather<T, W>), grid, NN_MAP_THREADS, 0, c, from, to,
                         layout_of(x, y));
    return NN_LAUNCH((upsample_gather<T, W>), grid, NN_MAP_THREADS, 0, c, from, to,
                     layout_of(x, y));
}

static nn_status run_wide(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (gather_as<T, nn_wide<T>>(c, false)));
}

static nn_status run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (gather_as<T, 1>(c, false)));
}

static nn_status run_bwd_wide(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (gather_as<T, nn_wide<T>>(c, true)));
}

static nn_status run_bwd_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (gather_as<T, 1>(c, true)));
}

extern "C" const nn_kernel nn_cuda_upsample[] = {
    { .name = "upsample_wide", .accepts = accepts_wide, .run = run_wide },
    { .name = "upsample_any", .accepts = accepts_any, .run = run_any },
    {}
};
extern "C" const nn_kernel nn_cuda_upsample_bwd[] = {
    { .name = "upsample_bwd_wide", .accepts = accepts_wide, .run = run_bwd_wide },
    { .name = "upsample_bwd_any", .accepts = accepts_any, .run = run_bwd_any },
    {}
};
