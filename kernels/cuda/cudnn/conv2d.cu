/* conv2d and its gradients by cuDNN: channels last, one type, sums in f32 (of f32 operands in full
 * f32 arithmetic), by the first algorithm of the library's choice that is deterministic.
 *
 * Images are read where they lie if our products could (conv2d_image_usable), else as packed
 * copies; the filter is the one of our products, [O][kh][kw][I]. y is rounded before bias, shift
 * and residual are added. The library makes dw of the operands' type: of bf16 operands, whose dw is
 * to be f32, it makes none for us. */
#include "kernels/cuda/conv2d_sink.cuh"
#include "kernels/cuda/cudnn/conv2d.cuh"
#include "kernels/cuda/cudnn/cudnn.cuh"
#include "kernels/cuda/linear.cuh"

extern "C" {
#include "engine/base/alloc.h"
}

enum { CUDNN_ROOM = 256 << 20 /* of workspace, at most */, CONV2D_CUDNN_THREADS = 256 };

typedef struct conv2d_cudnn {
    cudnnTensorDescriptor_t image, places; /* x or dx, y or dy */
    cudnnFilterDescriptor_t filter;
    cudnnConvolutionDescriptor_t conv;
    int algorithm;
    size_t bytes;                                   /* of the library's workspace; behind it: */
    size_t image_at, places_at, filter_at, bias_at; /* copies of operands, w or dw, parts of db */
} conv2d_cudnn;

/* The operands of a call by what they are. */
typedef struct operands {
    const nn_view *image, *places, *filter;
} operands;

template <conv2d_kind KIND> static operands operands_of(const nn_call *c)
{
    if (KIND == CONV2D_FORWARD) return { &c->in[CONV2D_X], &c->out[0], &c->in[CONV2D_W] };
    if (KIND == CONV2D_BWD_X) return { &c->out[0], &c->in[0], &c->in[1] };
    return { &c->in[1], &c->in[0], &c->out[0] };
}

/* -- what it takes ----------------------------------------------------------------------------- */

/* cuDNN pads both sides alike: the zeros behind the last pixel may differ from ours only where no
 * place sees them. */
static bool padded_alike(int64_t pixels, int64_t places, int64_t kernel, int stride, int before)
{
    return (pixels + 2 * before - kernel) / stride + 1 == places;
}

/* Steps that a descriptor can hold. */
static bool steps_fit(const nn_view *v)
{
    bool fit = true;
    for (int d = 0; d < 3; d++)
        fit = fit && (v->dim[d] == 1 || (v->stride[d] > 0 && v->stride[d] <= INT32_MAX));
    return fit;
}

template <conv2d_kind KIND> static bool fits(const nn_call *c)
{
    const nn_conv2d_params *p = conv2d_params(c);
    const operands o = operands_of<KIND>(c);
    const nn_view *image = o.image, *places = o.places, *filter = o.filter;
    const bool types = KIND == CONV2D_FORWARD ? conv2d_any_accepts(c)
                       : KIND == CONV2D_BWD_X ? conv2d_bwd_x_any_accepts(c)
                                              : conv2d_bwd_w_any_accepts(c);
    return types && conv2d_image_small(image) && conv2d_image_small(places) && steps_fit(image) &&
           steps_fit(places) && conv2d_filled(image, image->dim[3]) == image->dim[3] &&
           conv2d_filled(places, places->dim[3]) == places->dim[3] &&
           padded_alike(image->dim[1], places->dim[1], filter->dim[2], p->stride, p->top) &&
           padded_alike(image->dim[2], places->dim[2], filter->dim[3], p->stride, p->left) &&
           nn_view_contiguous(&c->out[0]) && nn_aligned16(&c->out[0]) &&
           (KIND != CONV2D_BWD_W ||
            (c->out[0].dtype == image->dtype && nn_view_contiguous(&c->out[1])));
}

/* -- descriptors ------------------------------------------------------------------------------- */

/* The image as it will be read: where it lies, or packed. */
static nn_status describe_image(cudnnTensorDescriptor_t *d, const nn_view *v)
{
    const bool lies = conv2d_image_usable(v);
    nn_view at = nn_view_make(v->dtype, 4, v->dim);
    for (int k = 0; k < 3; k++)
        if (lies && v->dim[k] > 1) at.stride[k] = v->stride[k];
    NN_CUDNN_TRY(cudnnCreateTensorDescriptor(d));
    return nn_cudnn_status(cudnnSetTensor4dDescriptorEx(*d, nn_cudnn_type(v), (int)v->dim[0],
                                                        (int)v->dim[3], (int)v->dim[1],
                                                        (int)v->dim[2], (int)at.stride[0], 1,
                                                        (int)at.stride[1], (int)at.stride[2]),
                           "an image");
}

static nn_status describe(conv2d_cudnn *s, const operands &o, const nn_conv2d_params *p)
{
    const nn_view *w = o.filter;
    const cudnnDataType_t type = nn_cudnn_type(o.image);
    NN_TRY(describe_image(&s->image, o.image));
    NN_TRY(describe_image(&s->places, o.places));
    NN_CUDNN_TRY(cudnnCreateFilterDescriptor(&s->filter));
    NN_CUDNN_TRY(cudnnSetFilter4dDescriptor(s->filter, type, CUDNN_TENSOR_NHWC, (int)w->dim[0],
                                            (int)w->dim[1], (int)w->dim[2], (int)w->dim[3]));
    NN_CUDNN_TRY(cudnnCreateConvolutionDescriptor(&s->conv));
    NN_CUDNN_TRY(cudnnSetConvolution2dDescriptor(s->conv, p->top, p->left, p->stride, p->stride, 1,
                                                 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    return nn_cudnn_status(cudnnSetConvolutionMathType(s->conv, type == CUDNN_DATA_FLOAT
                                                                    ? CUDNN_FMA_MATH
                                                                    : CUDNN_TENSOR_OP_MATH),
                           "arithmetic of a convolution");
}

template <class PERF> static nn_status pick(conv2d_cudnn *s, const PERF *found, int n)
{
    for (int i = 0; i < n; i++) {
        if (found[i].status != CUDNN_STATUS_SUCCESS || found[i].memory > CUDNN_ROOM ||
            found[i].determinism != CUDNN_DETERMINISTIC)
            continue;
        s->algorithm = (int)found[i].algo;
        s->bytes = found[i].memory;
        return NN_OK;
    }
    return nn_fail(NN_UNSUPPORTED, "cuDNN has no deterministic algorithm for this convolution");
}

/* The library's choices, best first. */
template <conv2d_kind KIND> static nn_status choose(cudnnHandle_t dnn, conv2d_cudnn *s)
{
    enum { MOST = 8 };
    int n = 0;
    if constexpr (KIND == CONV2D_FORWARD) {
        cudnnConvolutionFwdAlgoPerf_t found[MOST];
        NN_CUDNN_TRY(cudnnGetConvolutionForwardAlgorithm_v7(dnn, s->image, s->filter, s->conv,
                                                            s->places, MOST, &n, found));
        return pick(s, found, n);
    } else if constexpr (KIND == CONV2D_BWD_X) {
        cudnnConvolutionBwdDataAlgoPerf_t found[MOST];
        NN_CUDNN_TRY(cudnnGetConvolutionBackwardDataAlgorithm_v7(dnn, s->filter, s->places, s->conv,
                                                                 s->image, MOST, &n, found));
        return pick(s, found, n);
    } else {
        cudnnConvolutionBwdFilterAlgoPerf_t found[MOST];
        NN_CUDNN_TRY(cudnnGetConvolutionBackwardFilterAlgorithm_v7(
            dnn, s->image, s->places, s->conv, s->filter, MOST, &n, found));
        return pick(s, found, n);
    }
}

static void free_cudnn(conv2d_cudnn *s)
{
    if (s->image) cudnnDestroyTensorDescriptor(s->image);
    if (s->places) cudnnDestroyTensorDescriptor(s->places);
    if (s->filter) cudnnDestroyFilterDescriptor(s->filter);
    if (s->conv) cudnnDestroyConvolutionDescriptor(s->conv);
    *s = {};
}

template <conv2d_kind KIND> static nn_status open_cudnn(const nn_call *c, conv2d_cudnn *s)
{
    cudnnHandle_t dnn;
    NN_TRY(nn_cudnn(nn_cuda_of(c), &dnn));
    nn_status status = describe(s, operands_of<KIND>(c), conv2d_params(c));
    if (status == NN_OK) status = choose<KIND>(dnn, s);
    if (status != NN_OK) free_cudnn(s);
    return status;
}

template <conv2d_kind KIND> bool conv2d_cudnn_accepts(const nn_call *c)
{
    conv2d_cudnn s = {};
    if (nn_cuda_of(c)->absent || !fits<KIND>(c) || open_cudnn<KIND>(c, &s) != NN_OK) return false;
    free_cudnn(&s);
    return true;
}

void conv2d_cudnn_release(nn_call *c)
{
    conv2d_cudnn *s = static_cast<conv2d_cudnn *>(c->state);
    if (!s) return;
    free_cudnn(s);
    nn_free(s);
    c->state = NULL;
}

template <conv2d_kind KIND> nn_status conv2d_cudnn_prepare(nn_call *c)
{
    const operands o = operands_of<KIND>(c);
    const size_t packed = conv2d_filter_bytes(o.filter, false, (int)o.filter->dim[1]);
    conv2d_cudnn *s = static_cast<conv2d_cudnn *>(nn_alloc(1, sizeof(*s)));
    NN_NEED(s);
    c->state = s;
    NN_TRY(open_cudnn<KIND>(c, s));
    size_t bytes = s->bytes;
    s->image_at = conv2d_reserve(&bytes, conv2d_image_bytes(o.image));
    s->places_at = conv2d_reserve(&bytes, conv2d_image_bytes(o.places));
    if (KIND == CONV2D_BWD_W) {
        const size_t dw = (size_t)(nn_view_elems(o.filter) * nn_dtype_bytes(o.image->dtype));
        s->filter_at = conv2d_reserve(&bytes, dw);
        s->bias_at = conv2d_reserve(&bytes, linear_bias_bytes(o.places));
    } else {
        s->filter_at = conv2d_reserve(&bytes, c->frozen ? 0 : packed);
        if (c->frozen) c->packed_bytes = packed;
    }
    c->workspace_bytes = bytes;
    return NN_OK;
}

/* -- runs -------------------------------------------------------------------------------------- */

/* conv2d_cudnn_add: a thread owns one group of channels of y and adds bias, shift and residual in
 * f32. Traffic: y twice, the residual once. */
template <class T>
__global__ void __launch_bounds__(CONV2D_CUDNN_THREADS, 4)
    conv2d_cudnn_add(const conv2d_sink<T> s, int64_t groups)
{
    constexpr int W = nn_wide<T>;
    const int64_t i = (int64_t)blockIdx.x * CONV2D_CUDNN_THREADS + threadIdx.x;
    const int64_t place = i / (s.columns / W), row = place / s.width, sample = row / s.height;
    if (i >= groups) return;
    const nn_vec<T, W> sums = nn_load<W>(s.y + i * W);
    float v[W];
#pragma unroll
    for (int e = 0; e < W; e++) v[e] = nn_float(sums.at[e]);
    conv2d_emit(s, sample, (int)(row - sample * s.height), (int)(place - row * s.width),
                (int)(i - place * (s.columns / W)) * W, v);
}

/* The image of the call where the library will read it. */
template <class T>
static nn_status read_image(const nn_call *c, const nn_view *v, size_t copy_at, const void **out)
{
    conv2d_image<T> image;
    NN_TRY(conv2d_image_make(c, v, static_cast<char *>(c->workspace) + copy_at, &image));
    *out = image.data;
    return NN_OK;
}

static nn_status read_filter(const nn_call *c, const conv2d_cudnn *s, const nn_view *w,
                             const void **out)
{
    const int channels = (int)w->dim[1];
    void *filter = c->frozen ? c->packed : static_cast<char *>(c->workspace) + s->filter_at;
    *out = conv2d_filter_bytes(w, false, channels) ? filter : w->data;
    return c->frozen && !c->repack ? NN_OK : conv2d_filter_make(c, w, false, channels, filter);
}

template <class T> static nn_status forward(const nn_call *c, cudnnHandle_t dnn, conv2d_cudnn *s)
{
    const nn_view *y = &c->out[0];
    const float one = 1, none = 0;
    const void *x, *w;
    conv2d_sink<T> sink = conv2d_sink_of<T>(c, false);
    const bool taken = sink.residual.data == sink.y; /* by the result: the library adds to it */
    const int64_t groups = nn_view_elems(y) / nn_wide<T>;
    if (taken) sink.residual.data = NULL;
    NN_TRY(read_image<T>(c, &c->in[CONV2D_X], s->image_at, &x));
    NN_TRY(read_filter(c, s, &c->in[CONV2D_W], &w));
    NN_CUDNN_TRY(cudnnConvolutionForward(dnn, &one, s->image, x, s->filter, w, s->conv,
                                         (cudnnConvolutionFwdAlgo_t)s->algorithm, c->workspace,
                                         s->bytes, taken ? &one : &none, s->places, y->data));
    if (!sink.bias.data && !sink.shift.data && !sink.residual.data) return NN_OK;
    return NN_LAUNCH(conv2d_cudnn_add<T>, (unsigned)nn_ceil_div(groups, CONV2D_CUDNN_THREADS),
                     CONV2D_CUDNN_THREADS, 0, c, sink, groups);
}

template <class T> static nn_status backward_x(const nn_call *c, cudnnHandle_t dnn, conv2d_cudnn *s)
{
    const float one = 1, none = 0;
    const void *dy, *w;
    NN_TRY(read_image<T>(c, &c->in[0], s->places_at, &dy));
    NN_TRY(read_filter(c, s, &c->in[1], &w));
    return nn_cudnn_status(
        cudnnConvolutionBackwardData(dnn, &one, s->filter, w, s->places, dy, s->conv,
                                     (cudnnConvolutionBwdDataAlgo_t)s->algorithm, c->workspace,
                                     s->bytes, &none, s->image, c->out[0].data),
        "cudnnConvolutionBackwardData");
}

/* From [O][kh][kw][I] to dw. */
template <class T> static nn_status turn(const nn_call *c, void *made)
{
    const nn_view *dw = &c->out[0];
    const int64_t height = dw->dim[2], width = dw->dim[3], inputs = dw->dim[1];
    nn_call copy = *c;
    copy.in[0] = *dw;
    copy.in[0].data = made;
    copy.in[0].stride[0] = height * width * inputs;
    copy.in[0].stride[1] = 1;
    copy.in[0].stride[2] = width * inputs;
    copy.in[0].stride[3] = inputs;
    return nn_map_run_steps_as<T, T, 1>(&copy, nn_map_same{});
}

template <class T> static nn_status backward_w(const nn_call *c, cudnnHandle_t dnn, conv2d_cudnn *s)
{
    const float one = 1, none = 0;
    const void *dy, *x;
    char *work = static_cast<char *>(c->workspace);
    NN_TRY(read_image<T>(c, &c->in[0], s->places_at, &dy));
    NN_TRY(read_image<T>(c, &c->in[1], s->image_at, &x));
    NN_CUDNN_TRY(cudnnConvolutionBackwardFilter(dnn, &one, s->image, x, s->places, dy, s->conv,
                                                (cudnnConvolutionBwdFilterAlgo_t)s->algorithm, work,
                                                s->bytes, &none, s->filter, work + s->filter_at));
    NN_TRY(turn<T>(c, work + s->filter_at));
    return linear_bias_run(c, &c->in[0], static_cast<float *>(c->out[1].data),
                           reinterpret_cast<float *>(work + s->bias_at));
}

template <conv2d_kind KIND> nn_status conv2d_cudnn_run(const nn_call *c)
{
    conv2d_cudnn *s = static_cast<conv2d_cudnn *>(c->state);
    cudnnHandle_t dnn;
    NN_TRY(nn_cudnn(nn_cuda_of(c), &dnn));
    nn_cuda_of(c)->n_launches++;
    NN_DISPATCH(c->in[0].dtype, T, {
        if (KIND == CONV2D_FORWARD) return forward<T>(c, dnn, s);
        if (KIND == CONV2D_BWD_X) return backward_x<T>(c, dnn, s);
        return backward_w<T>(c, dnn, s);
    });
}

#define EACH(KIND)                                                                                 \
    template bool conv2d_cudnn_accepts<KIND>(const nn_call *c);                                    \
    template nn_status conv2d_cudnn_prepare<KIND>(nn_call * c);                                    \
    template nn_status conv2d_cudnn_run<KIND>(const nn_call *c);
EACH(CONV2D_FORWARD)
EACH(CONV2D_BWD_X)
EACH(CONV2D_BWD_W)
