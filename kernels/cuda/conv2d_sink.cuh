/* Where the sums of conv2d and conv2d_bwd_x go: bias, shift and residual are added in f32, and the
 * result is stored. */
#ifndef KERNELS_CUDA_CONV2D_SINK_CUH
#define KERNELS_CUDA_CONV2D_SINK_CUH

#include "kernels/cuda/conv2d.cuh"

/* Something added to the result: steps by sample, row, column, channel. */
template <class T> struct conv2d_addend {
    const T *data; /* NULL = nothing */
    int64_t step[4];
    bool wide; /* groups of channels are groups of 16 bytes */
};

/* The result, [N, height, width, columns], whose pixels lie evenly. */
template <class T> struct conv2d_sink {
    T *y;
    int height, width, columns;
    int pitch; /* from pixel to pixel */
    bool wide;
    conv2d_addend<float> bias = {};
    conv2d_addend<T> shift = {}, residual = {};
};

/* v += WIDTH channels of an addend, the first `n` of which exist. */
template <class U, int WIDTH>
__device__ __forceinline__ void conv2d_add(float (&v)[WIDTH], const conv2d_addend<U> &a,
                                           int64_t sample, int64_t row, int64_t column,
                                           int64_t channel, int n)
{
    if (!a.data) return;
    const U *from =
        a.data + sample * a.step[0] + row * a.step[1] + column * a.step[2] + channel * a.step[3];
    if (a.wide && n == WIDTH) {
        constexpr int W = nn_wide<U> < WIDTH ? nn_wide<U> : WIDTH;
#pragma unroll
        for (int i = 0; i < WIDTH; i += W) {
            const nn_vec<U, W> x = nn_load<W>(from + i);
#pragma unroll
            for (int e = 0; e < W; e++) v[i + e] += nn_float(x.at[e]);
        }
        return;
    }
#pragma unroll
    for (int e = 0; e < WIDTH; e++)
        if (e < n) v[e] += nn_float(from[e * a.step[3]]);
}

/* Adds what is to be added to a group of sums, and stores it. */
template <int W, class T>
__device__ __forceinline__ void conv2d_emit(const conv2d_sink<T> &s, int64_t sample, int row,
                                            int column, int channel, float (&v)[W])
{
    const int n = s.columns - channel < W ? s.columns - channel : W;
    T *y = s.y + ((sample * s.height + row) * s.width + column) * s.pitch + channel;
    conv2d_add(v, s.bias, 0, 0, 0, channel, n);
    conv2d_add(v, s.shift, sample, 0, 0, channel, n);
    conv2d_add(v, s.residual, sample, row, column, channel, n);
    nn_vec<T, W> out;
#pragma unroll
    for (int e = 0; e < W; e++) out.at[e] = nn_from<T>(v[e]);
    if (s.wide && n == W) {
        nn_store(y, out);
        return;
    }
#pragma unroll
    for (int e = 0; e < W; e++)
        if (e < n) y[e] = out.at[e];
}

template <class U> static inline conv2d_addend<U> conv2d_addend_of(const nn_view *v)
{
    conv2d_addend<U> a = {};
    if (!nn_present(v)) return a;
    a.data = static_cast<const U *>(v->data);
    a.step[3] = v->stride[v->rank - 1];
    if (v->rank > 1) a.step[0] = v->stride[0];
    if (v->rank == 4) a.step[1] = v->stride[1], a.step[2] = v->stride[2];
    a.wide = nn_aligned16(v) && a.step[3] == 1;
    for (int d = 0; d < 3; d++) a.wide = a.wide && a.step[d] % nn_wide<U> == 0;
    return a;
}

template <class T> static inline conv2d_sink<T> conv2d_sink_of(const nn_call *c, bool backward)
{
    const nn_view *y = &c->out[0];
    const int pitch = (int)conv2d_pixel_step(y);
    conv2d_sink<T> s = { .y = static_cast<T *>(y->data),
                         .height = (int)y->dim[1],
                         .width = (int)y->dim[2],
                         .columns = (int)y->dim[3],
                         .pitch = pitch,
                         .wide = nn_aligned16(y) && y->dim[3] % nn_wide<T> == 0 &&
                                 pitch % nn_wide<T> == 0 };
    if (backward) return s;
    s.bias = conv2d_addend_of<float>(&c->in[CONV2D_B]);
    s.shift = conv2d_addend_of<T>(&c->in[CONV2D_SHIFT]);
    s.residual = conv2d_addend_of<T>(&c->in[CONV2D_RESIDUAL]);
    return s;
}

#endif
