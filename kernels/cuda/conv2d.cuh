/* conv2d: what its files share.
 *
 * conv2d_any.cu     thread by thread, whatever infer allows
 * conv2d_gemm.cu    conv2d and conv2d_bwd_x as matrix products whose left operand is read through
 *                   the geometry below (no im2col buffer)
 * conv2d_wgrad.cu   conv2d_bwd_w as such a product, over the places
 * conv2d_layout.cu  operands brought into the form that the products read
 *
 * "Places" are the pixels of y and dy, "pixels" those of x and dx, a "tap" is a position in the
 * kernel. Source of the algorithm: CUTLASS, "Implicit GEMM Convolution". */
#ifndef KERNELS_CUDA_CONV2D_CUH
#define KERNELS_CUDA_CONV2D_CUH

#include "kernels/cuda/cuda.cuh"

enum { CONV2D_X, CONV2D_W, CONV2D_B, CONV2D_SHIFT, CONV2D_RESIDUAL }; /* operands of conv2d */

static inline const nn_conv2d_params *conv2d_params(const nn_call *c)
{
    return static_cast<const nn_conv2d_params *>(c->params);
}

/* -- geometry ---------------------------------------------------------------------------------- */

/* Channels-last images as a product reads them: channels are adjacent and fill groups of 16 bytes,
 * addresses of groups are multiples of 16. Steps are in elements; one image has less than 2^31. */
template <class T> struct conv2d_image {
    const T *data;
    int64_t sample;
    int row, column;
    int samples, height, width, channels;
};

/* One direction of a convolution: kernel, stride, and the zeros before the first pixel. */
typedef struct conv2d_axis {
    int kernel, stride, before;
} conv2d_axis;

/* How result q = 0 .. n - 1 of one direction is made: from sources q * scale + base + sign * tap,
 * tap = 0 .. taps - 1, through kernel position first_tap + tap * tap_step. It is result number
 * first + q * apart of the image. */
typedef struct conv2d_span {
    int n, first, apart;
    int scale, base, sign;
    int taps, first_tap, tap_step;
} conv2d_span;

/* Forward, results are places and there is one phase. Backward, results are pixels; pixel p has
 * seen the places (p + before - k) / stride for those kernel positions k where this is whole: all
 * pixels of one phase p % stride share them, so that a phase is a convolution of stride 1. */
__device__ __forceinline__ conv2d_span conv2d_span_of(const conv2d_axis &a, bool backward,
                                                      int phase, int results)
{
    conv2d_span s = { results, 0, 1, a.stride, -a.before, 1, a.kernel, 0, 1 };
    if (!backward) return s;
    const int first_tap = (phase + a.before) % a.stride;
    s.n = phase < results ? (results - phase - 1) / a.stride + 1 : 0;
    s.first = phase;
    s.apart = a.stride;
    s.scale = 1;
    s.base = (phase + a.before) / a.stride;
    s.sign = -1;
    s.taps = first_tap < a.kernel ? (a.kernel - first_tap - 1) / a.stride + 1 : 0;
    s.first_tap = first_tap;
    s.tap_step = a.stride;
    return s;
}

/* -- layout ------------------------------------------------------------------------------------ */

/* Bytes of an image of these dims, packed and with its channels filled up to whole groups. */
size_t conv2d_image_bytes(const nn_view *v);

/* Whether the places, steps and elements of an image fit the 32-bit indices of the products. */
bool conv2d_image_small(const nn_view *v);

/* Elements from pixel to pixel where all pixels of an image lie evenly; 0 where they do not, or
 * channels are not adjacent. */
int64_t conv2d_pixel_step(const nn_view *v);

/* Whether products can read v where it lies. */
bool conv2d_image_usable(const nn_view *v);

/* v as an operand: where it lies if that is usable, else as a copy at `copy`. */
nn_status conv2d_image_make(const nn_call *c, const nn_view *v, void *copy, conv2d_image<float> *);
nn_status conv2d_image_make(const nn_call *c, const nn_view *v, void *copy, conv2d_image<bf16> *);

/* A filter is the weights as [columns][kernel height][kernel width][channels], columns being the
 * outputs O and channels the inputs I, or the other way round for bwd_x; channels beyond those of
 * the weights are 0. Where the weights lie like this already, no bytes are needed, and the filter
 * is the weights. */
size_t conv2d_filter_bytes(const nn_view *w, bool backward, int channels);
nn_status conv2d_filter_make(const nn_call *c, const nn_view *w, bool backward, int channels,
                             void *filter);

/* Where kernel and stride of a row are one, and none is padded, kw neighbouring pixels are one wide
 * pixel: v becomes [N, H, W / kw, kw C], a kernel 1 wide sees it, and few channels fill groups. */
bool conv2d_fold(nn_view *v, const conv2d_axis *w, const nn_conv2d_params *p);

/* Channels with the zeros that fill the last group. */
static inline int conv2d_filled(const nn_view *v, int64_t channels)
{
    const int64_t group = 16 / nn_dtype_bytes(v->dtype);
    return (int)(nn_ceil_div(channels, group) * group);
}

/* Parts of the workspace begin at multiples of 64 bytes. */
static inline size_t conv2d_reserve(size_t *bytes, size_t more)
{
    const size_t at = (*bytes + 63) / 64 * 64;
    *bytes = at + more;
    return at;
}

/* -- how a product is cut ---------------------------------------------------------------------- */

/* A block of the grid computes rows x columns of the result; the sum is cut into `splits` parts,
 * added in order by the last block of a tile or by a second kernel. */
typedef struct conv2d_cut {
    int rows, columns, splits;
} conv2d_cut;

/* The cut that keeps the processors busiest, for `products` independent matrix products of m x n
 * results and `slices` slices of the sum (conv2d_tile.cuh). The candidates, whose `splits` are the
 * most they may have, end with rows = 0. apart: a second kernel adds the parts. */
conv2d_cut conv2d_cut_of(const nn_call *c, const conv2d_cut *candidates, int64_t products,
                         int64_t m, int64_t n, int64_t slices, bool apart);

/* -- kernels ----------------------------------------------------------------------------------- */

bool conv2d_any_accepts(const nn_call *c);
bool conv2d_bwd_x_any_accepts(const nn_call *c);
bool conv2d_bwd_w_any_accepts(const nn_call *c);
nn_status conv2d_any_run(const nn_call *c);
nn_status conv2d_bwd_x_any_run(const nn_call *c);
nn_status conv2d_bwd_w_any_run(const nn_call *c);

bool conv2d_gemm_accepts(const nn_call *c);
bool conv2d_bwd_x_gemm_accepts(const nn_call *c);
size_t conv2d_gemm_workspace(const nn_call *c);
size_t conv2d_bwd_x_gemm_workspace(const nn_call *c);
nn_status conv2d_gemm_prepare(nn_call *c);
nn_status conv2d_bwd_x_gemm_prepare(nn_call *c);
nn_status conv2d_gemm_run(const nn_call *c);
nn_status conv2d_bwd_x_gemm_run(const nn_call *c);

bool conv2d_bwd_w_gemm_accepts(const nn_call *c);
size_t conv2d_bwd_w_gemm_workspace(const nn_call *c);
nn_status conv2d_bwd_w_gemm_run(const nn_call *c);

#endif
