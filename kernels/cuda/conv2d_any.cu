/* conv2d and its gradients for every stride of every operand, in the order of ref. */
#include "kernels/cuda/conv2d.cuh"

enum { CONV2D_ANY_THREADS = 128 };

template <class T> struct conv2d_view {
    T *data; /* NULL = absent */
    int64_t dim[4], stride[4];
};

template <class T> static conv2d_view<T> view_of(const nn_view *v)
{
    conv2d_view<T> out = {};
    if (!nn_present(v)) return out;
    out.data = static_cast<T *>(v->data);
    for (int d = 0; d < v->rank; d++) {
        out.dim[d] = v->dim[d];
        out.stride[d] = v->stride[d];
    }
    return out;
}

template <class T>
__device__ __forceinline__ T &conv2d_at(const conv2d_view<T> &v, int64_t a, int64_t b, int64_t c,
                                        int64_t d)
{
    return v.data[a * v.stride[0] + b * v.stride[1] + c * v.stride[2] + d * v.stride[3]];
}

template <class T>
__device__ __forceinline__ bool conv2d_inside(const conv2d_view<T> &image, int64_t h, int64_t w)
{
    return h >= 0 && h < image.dim[1] && w >= 0 && w < image.dim[2];
}

/* Coordinates of element i of a 4-dimensional view. */
template <class T>
__device__ __forceinline__ void conv2d_locate(const conv2d_view<T> &v, int64_t i, int64_t (&at)[4])
{
#pragma unroll
    for (int d = 3; d >= 0; d--) {
        at[d] = i % v.dim[d];
        i /= v.dim[d];
    }
}

static __device__ __forceinline__ int64_t conv2d_any_index()
{
    return (int64_t)blockIdx.x * CONV2D_ANY_THREADS + threadIdx.x;
}

/* conv2d_any: a thread owns one element of the result; f32 sum over the kernel, then the channels:
 * deterministic. Traffic: what the caches do not catch. */
template <class T>
__global__ void __launch_bounds__(CONV2D_ANY_THREADS)
    conv2d_any(const conv2d_view<const T> x, const conv2d_view<const T> w,
               const conv2d_view<const float> b, const conv2d_view<const T> shift,
               const conv2d_view<const T> residual, const conv2d_view<T> y,
               const nn_conv2d_params p, int64_t n)
{
    int64_t at[4];
    float sum = 0;
    if (conv2d_any_index() >= n) return;
    conv2d_locate(y, conv2d_any_index(), at);
    for (int64_t kh = 0; kh < w.dim[2]; kh++)
        for (int64_t kw = 0; kw < w.dim[3]; kw++) {
            const int64_t row = at[1] * p.stride + kh - p.top, col = at[2] * p.stride + kw - p.left;
            if (!conv2d_inside(x, row, col)) continue;
            for (int64_t i = 0; i < w.dim[1]; i++)
                sum += nn_float(conv2d_at(x, at[0], row, col, i)) *
                       nn_float(conv2d_at(w, at[3], i, kh, kw));
        }
    if (b.data) sum += b.data[at[3] * b.stride[0]];
    if (shift.data) sum += nn_float(shift.data[at[0] * shift.stride[0] + at[3] * shift.stride[1]]);
    if (residual.data) sum += nn_float(conv2d_at(residual, at[0], at[1], at[2], at[3]));
    conv2d_at(y, at[0], at[1], at[2], at[3]) = nn_from<T>(sum);
}

/* conv2d_bwd_x_any: as conv2d_any, for the pixels. */
template <class T>
__global__ void __launch_bounds__(CONV2D_ANY_THREADS)
    conv2d_bwd_x_any(const conv2d_view<const T> dy, const conv2d_view<const T> w,
                     const conv2d_view<T> dx, const nn_conv2d_params p, int64_t n)
{
    int64_t at[4];
    float sum = 0;
    if (conv2d_any_index() >= n) return;
    conv2d_locate(dx, conv2d_any_index(), at);
    for (int64_t kh = 0; kh < w.dim[2]; kh++)
        for (int64_t kw = 0; kw < w.dim[3]; kw++) {
            const int row = (int)(at[1] + p.top - kh), col = (int)(at[2] + p.left - kw);
            if (row % p.stride || col % p.stride) continue;
            if (!conv2d_inside(dy, row / p.stride, col / p.stride)) continue;
            for (int64_t o = 0; o < w.dim[0]; o++)
                sum += nn_float(conv2d_at(dy, at[0], row / p.stride, col / p.stride, o)) *
                       nn_float(conv2d_at(w, o, at[3], kh, kw));
        }
    conv2d_at(dx, at[0], at[1], at[2], at[3]) = nn_from<T>(sum);
}

/* conv2d_bwd_w_any: a block owns one element of dw and walks the places, thread by thread in a
 * fixed order: deterministic. The element whose index is beyond dw is one of db. */
template <class T, class U>
__global__ void __launch_bounds__(CONV2D_ANY_THREADS)
    conv2d_bwd_w_any(const conv2d_view<const T> dy, const conv2d_view<const T> x,
                     const conv2d_view<U> dw, const conv2d_view<float> db, const nn_conv2d_params p,
                     int64_t n)
{
    NN_SHARED(float, scratch, CONV2D_ANY_THREADS / NN_WARP);
    const bool bias = blockIdx.x >= n;
    const int64_t places = dy.dim[0] * dy.dim[1] * dy.dim[2];
    int64_t at[4] = { (int64_t)blockIdx.x - n };
    float sum = 0;
    if (!bias) conv2d_locate(dw, blockIdx.x, at);
    for (int64_t i = threadIdx.x; i < places; i += CONV2D_ANY_THREADS) {
        const int64_t column = i % dy.dim[2], row = i / dy.dim[2] % dy.dim[1],
                      sample = i / dy.dim[2] / dy.dim[1];
        const float slope = nn_float(conv2d_at(dy, sample, row, column, at[0]));
        const int64_t h = row * p.stride + at[2] - p.top, w = column * p.stride + at[3] - p.left;
        if (bias)
            sum += slope;
        else if (conv2d_inside(x, h, w))
            sum += slope * nn_float(conv2d_at(x, sample, h, w, at[1]));
    }
    sum = nn_block_sum<CONV2D_ANY_THREADS>(sum, scratch);
    if (threadIdx.x) return;
    if (bias)
        db.data[at[0] * db.stride[0]] = sum;
    else
        conv2d_at(dw, at[0], at[1], at[2], at[3]) = nn_from<U>(sum);
}

static unsigned blocks_for(int64_t n)
{
    return (unsigned)nn_ceil_div(n, CONV2D_ANY_THREADS);
}

static bool absent_or(const nn_view *v, nn_dtype dtype)
{
    return !nn_present(v) || v->dtype == dtype;
}

bool conv2d_any_accepts(const nn_call *c)
{
    const nn_dtype dtype = c->out[0].dtype;
    return nn_is_float(&c->out[0]) && c->in[CONV2D_X].dtype == dtype &&
           c->in[CONV2D_W].dtype == dtype && absent_or(&c->in[CONV2D_B], NN_F32) &&
           absent_or(&c->in[CONV2D_SHIFT], dtype) && absent_or(&c->in[CONV2D_RESIDUAL], dtype);
}

nn_status conv2d_any_run(const nn_call *c)
{
    const int64_t n = nn_view_elems(&c->out[0]);
    if (!n) return NN_OK;
    NN_DISPATCH(c->out[0].dtype, T,
                return NN_LAUNCH(
                    conv2d_any<T>, blocks_for(n), CONV2D_ANY_THREADS, 0, c,
                    view_of<const T>(&c->in[CONV2D_X]), view_of<const T>(&c->in[CONV2D_W]),
                    view_of<const float>(&c->in[CONV2D_B]), view_of<const T>(&c->in[CONV2D_SHIFT]),
                    view_of<const T>(&c->in[CONV2D_RESIDUAL]), view_of<T>(&c->out[0]),
                    *conv2d_params(c), n));
}

bool conv2d_bwd_x_any_accepts(const nn_call *c)
{
    return nn_is_float(&c->out[0]) && c->in[0].dtype == c->out[0].dtype &&
           c->in[1].dtype == c->out[0].dtype;
}

nn_status conv2d_bwd_x_any_run(const nn_call *c)
{
    const int64_t n = nn_view_elems(&c->out[0]);
    if (!n) return NN_OK;
    NN_DISPATCH(c->out[0].dtype, T,
                return NN_LAUNCH(conv2d_bwd_x_any<T>, blocks_for(n), CONV2D_ANY_THREADS, 0, c,
                                 view_of<const T>(&c->in[0]), view_of<const T>(&c->in[1]),
                                 view_of<T>(&c->out[0]), *conv2d_params(c), n));
}

bool conv2d_bwd_w_any_accepts(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[1].dtype == c->in[0].dtype && nn_is_float(&c->out[0]) &&
           c->out[1].dtype == NN_F32;
}

nn_status conv2d_bwd_w_any_run(const nn_call *c)
{
    const int64_t n = nn_view_elems(&c->out[0]), all = n + c->out[1].dim[0];
    if (!all) return NN_OK;
    NN_DISPATCH(c->in[0].dtype, T,
                NN_DISPATCH(c->out[0].dtype, U,
                            return NN_LAUNCH((conv2d_bwd_w_any<T, U>), (unsigned)all,
                                             CONV2D_ANY_THREADS, 0, c, view_of<const T>(&c->in[0]),
                                             view_of<const T>(&c->in[1]), view_of<U>(&c->out[0]),
                                             view_of<float>(&c->out[1]), *conv2d_params(c), n)));
}
