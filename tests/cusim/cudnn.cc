// cuDNN's convolutions of images whose channels lie last: descriptors, what the library refuses,
// and the sums in double precision.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include <cuda_bf16.h>

#include "runtime.h"

struct cudnnTensorStruct {
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int n = 0, c = 0, h = 0, w = 0;
    int64_t n_step = 0, c_step = 0, h_step = 0, w_step = 0;
};

struct cudnnFilterStruct {
    cudnnTensorStruct t; // n: outputs
};

struct cudnnConvolutionStruct {
    int pad[2] = { 0, 0 }, stride[2] = { 1, 1 };
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace cusim
{

namespace
{

typedef cudnnTensorStruct tensor;

// The best algorithm of every list does not keep the order of its sums; the second one does, and
// wants workspace.
constexpr size_t algo_workspace[2] = { 0, 4096 };
constexpr size_t alignment = 16;

struct problem {
    tensor x, w, y; // w: [outputs][height][width][inputs]
    cudnnConvolutionStruct conv;
};

size_t element_bytes(cudnnDataType_t type)
{
    return type == CUDNN_DATA_FLOAT ? 4 : 2;
}

int64_t offset(const tensor &t, int n, int h, int w, int c)
{
    return n * t.n_step + h * t.h_step + w * t.w_step + c * t.c_step;
}

int64_t places(int pixels, int pad, int kernel, int stride)
{
    return (pixels + 2 * pad - kernel) / stride + 1;
}

bool sound(const tensor &t)
{
    return t.n > 0 && t.c > 0 && t.h > 0 && t.w > 0 && t.n_step > 0 && t.h_step > 0 &&
           t.w_step > 0 && t.c_step > 0;
}

cudnnStatus_t check(const problem &p)
{
    const tensor &x = p.x, &w = p.w, &y = p.y;
    if (!sound(x) || !sound(w) || !sound(y) || w.h > x.h + 2 * p.conv.pad[0] ||
        w.w > x.w + 2 * p.conv.pad[1])
        return CUDNN_STATUS_BAD_PARAM;
    bool fits = x.n == y.n && x.c == w.c && y.c == w.n &&
                y.h == places(x.h, p.conv.pad[0], w.h, p.conv.stride[0]) &&
                y.w == places(x.w, p.conv.pad[1], w.w, p.conv.stride[1]);
    if (!fits || x.type != w.type || x.type != y.type) return CUDNN_STATUS_BAD_PARAM;
    bool last = x.c_step == 1 && y.c_step == 1 && w.c_step == 1;
    bool half = x.type == CUDNN_DATA_BFLOAT16;
    bool groups = !half || (x.c % 8 == 0 && y.c % 8 == 0); // what tensor cores ask for
    bool exact = half ? p.conv.math != CUDNN_FMA_MATH : p.conv.math == CUDNN_FMA_MATH;
    return last && groups && exact && p.conv.compute == CUDNN_DATA_FLOAT
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_NOT_SUPPORTED;
}

template <class P> cudnnStatus_t answer(const problem &p, int n_wanted, int *n_found, P *found)
{
    if (n_wanted < 1 || !n_found || !found) return CUDNN_STATUS_BAD_PARAM;
    *n_found = 0;
    cudnnStatus_t status = check(p);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    for (int i = 0; i < std::min(n_wanted, 2); i++) {
        P one = {};
        one.algo = static_cast<decltype(one.algo)>(i);
        one.memory = algo_workspace[i];
        one.determinism = i ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
        one.mathType = p.conv.math;
        found[(*n_found)++] = one;
    }
    return CUDNN_STATUS_SUCCESS;
}

std::vector<double> read(const tensor &t, const void *data)
{
    std::vector<double> out(size_t(t.n) * size_t(t.h) * size_t(t.w) * size_t(t.c));
    size_t i = 0;
    for (int n = 0; n < t.n; n++)
        for (int h = 0; h < t.h; h++)
            for (int w = 0; w < t.w; w++)
                for (int c = 0; c < t.c; c++) {
                    int64_t at = offset(t, n, h, w, c);
                    out[i++] = t.type == CUDNN_DATA_FLOAT
                                   ? static_cast<const float *>(data)[at]
                                   : __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[at]);
                }
    return out;
}

void write(const tensor &t, void *data, const std::vector<double> &sums, float alpha, float beta)
{
    std::vector<double> old(sums.size(), 0.0);
    if (beta != 0) old = read(t, data);
    size_t i = 0;
    for (int n = 0; n < t.n; n++)
        for (int h = 0; h < t.h; h++)
            for (int w = 0; w < t.w; w++)
                for (int c = 0; c < t.c; c++, i++) {
                    float v = float(alpha * sums[i] + beta * old[i]);
                    int64_t at = offset(t, n, h, w, c);
                    if (t.type == CUDNN_DATA_FLOAT)
                        static_cast<float *>(data)[at] = v;
                    else
                        static_cast<__nv_bfloat16 *>(data)[at] = __float2bfloat16_rn(v);
                }
}

// Every product of the convolution: offsets, without gaps, of its element of x, of w and of y.
void each(const problem &p, const std::function<void(size_t x, size_t w, size_t y)> &visit)
{
    for (int n = 0; n < p.y.n; n++)
        for (int i = 0; i < p.y.h * p.y.w * p.w.h * p.w.w; i++) {
            int s = i % p.w.w, r = i / p.w.w % p.w.h, q = i / (p.w.w * p.w.h) % p.y.w;
            int row = i / (p.w.w * p.w.h * p.y.w);
            int h = row * p.conv.stride[0] + r - p.conv.pad[0];
            int w = q * p.conv.stride[1] + s - p.conv.pad[1];
            if (h < 0 || h >= p.x.h || w < 0 || w >= p.x.w) continue;
            size_t x_at = size_t((n * p.x.h + h) * p.x.w + w) * size_t(p.x.c);
            size_t y_at = size_t((n * p.y.h + row) * p.y.w + q) * size_t(p.y.c);
            for (int k = 0; k < p.y.c; k++) {
                size_t w_at = size_t((k * p.w.h + r) * p.w.w + s) * size_t(p.w.c);
                for (int c = 0; c < p.x.c; c++)
                    visit(x_at + size_t(c), w_at + size_t(c), y_at + size_t(k));
            }
        }
}

// Where the hardware would fault or write astray.
void need(const tensor &t, const void *data, const char *who, const char *name)
{
    int64_t last = offset(t, t.n - 1, t.h - 1, t.w - 1, t.c - 1) + 1;
    if (!memory_is_device(data, size_t(last) * element_bytes(t.type)))
        fail("%s: %s is not in device memory with all of its %lld elements", who, name,
             (long long)last);
}

typedef enum { FORWARD, BACKWARD_DATA, BACKWARD_FILTER } which;

struct execution {
    problem p;
    which kind;
    const char *name;
    void *x, *w, *y, *workspace;
    size_t bytes;
    float alpha, beta;
};

void execute(const execution &e)
{
    need(e.p.x, e.x, e.name, "x");
    need(e.p.w, e.w, e.name, "w");
    need(e.p.y, e.y, e.name, "y");
    if (e.bytes) memset(e.workspace, poison, e.bytes); // nobody else's results may be there
    const tensor &out = e.kind == FORWARD ? e.p.y : e.kind == BACKWARD_DATA ? e.p.x : e.p.w;
    std::vector<double> sums(size_t(out.n) * size_t(out.h) * size_t(out.w) * size_t(out.c), 0.0);
    if (e.kind == FORWARD) {
        std::vector<double> x = read(e.p.x, e.x), w = read(e.p.w, e.w);
        each(e.p, [&](size_t i, size_t j, size_t k) { sums[k] += x[i] * w[j]; });
    } else if (e.kind == BACKWARD_DATA) {
        std::vector<double> y = read(e.p.y, e.y), w = read(e.p.w, e.w);
        each(e.p, [&](size_t i, size_t j, size_t k) { sums[i] += y[k] * w[j]; });
    } else {
        std::vector<double> y = read(e.p.y, e.y), x = read(e.p.x, e.x);
        each(e.p, [&](size_t i, size_t j, size_t k) { sums[j] += y[k] * x[i]; });
    }
    write(out,
          e.kind == FORWARD         ? e.y
          : e.kind == BACKWARD_DATA ? e.x
                                    : e.w,
          sums, e.alpha, e.beta);
    memory_check(e.name);
}

bool aligned(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

cudnnStatus_t queue(cudnnHandle_t handle, const execution &e, int algo)
{
    entry_lock lock(entry_mutex());
    if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
    if (!e.x || !e.w || !e.y || algo < 0 || algo > 1) return CUDNN_STATUS_BAD_PARAM;
    cudnnStatus_t status = check(e.p);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    if (e.bytes < algo_workspace[algo] || (e.bytes && !e.workspace)) return CUDNN_STATUS_BAD_PARAM;
    if (!aligned(e.x) || !aligned(e.w) || !aligned(e.y) || !aligned(e.workspace))
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (e.bytes && !memory_is_device(e.workspace, e.bytes))
        fail("%s: the workspace of %zu bytes is not in device memory", e.name, e.bytes);
    work run = { e.name, [e] { execute(e); }, false };
    return stream_queue(handle->stream, run) == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                                            : CUDNN_STATUS_EXECUTION_FAILED;
}

float number(const void *p)
{
    return *static_cast<const float *>(p);
}

template <class T> cudnnStatus_t create(T **out)
{
    if (!out) return CUDNN_STATUS_BAD_PARAM;
    *out = new T();
    return CUDNN_STATUS_SUCCESS;
}

template <class T> cudnnStatus_t destroy(T *d)
{
    delete d;
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

} // namespace cusim

using namespace cusim;

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status) {
    case CUDNN_STATUS_SUCCESS:
        return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
        return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM:
        return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED:
        return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case CUDNN_STATUS_NOT_SUPPORTED:
        return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_EXECUTION_FAILED:
        return "CUDNN_STATUS_EXECUTION_FAILED";
    }
    return "unknown";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    return create(handle);
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    return destroy(handle);
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    if (!handle) return CUDNN_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *d)
{
    return create(d);
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t d, cudnnDataType_t type, int n,
                                           int c, int h, int w, int n_step, int c_step, int h_step,
                                           int w_step)
{
    if (!d) return CUDNN_STATUS_BAD_PARAM;
    *d = { type, n, c, h, w, n_step, c_step, h_step, w_step };
    return sound(*d) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d)
{
    return destroy(d);
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *d)
{
    return create(d);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w)
{
    if (!d) return CUDNN_STATUS_BAD_PARAM;
    if (format != CUDNN_TENSOR_NHWC) return CUDNN_STATUS_NOT_SUPPORTED;
    d->t = { type, k, c, h, w, int64_t(h) * w * c, 1, int64_t(w) * c, c };
    return sound(d->t) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d)
{
    return destroy(d);
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *d)
{
    return create(d);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute)
{
    if (!d || pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1) return CUDNN_STATUS_BAD_PARAM;
    if (dilation_h != 1 || dilation_w != 1 || mode != CUDNN_CROSS_CORRELATION)
        return CUDNN_STATUS_NOT_SUPPORTED;
    *d = { { pad_h, pad_w }, { stride_h, stride_w }, compute, d->math };
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math)
{
    if (!d) return CUDNN_STATUS_BAD_PARAM;
    d->math = math;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d)
{
    return destroy(d);
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t y, int n_wanted, int *n_found,
    cudnnConvolutionFwdAlgoPerf_t *found)
{
    if (!handle || !x || !w || !conv || !y) return CUDNN_STATUS_BAD_PARAM;
    return answer({ *x, w->t, *y, *conv }, n_wanted, n_found, found);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t dy,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t dx, int n_wanted, int *n_found,
    cudnnConvolutionBwdDataAlgoPerf_t *found)
{
    if (!handle || !dx || !w || !conv || !dy) return CUDNN_STATUS_BAD_PARAM;
    return answer({ *dx, w->t, *dy, *conv }, n_wanted, n_found, found);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t dy,
    cudnnConvolutionDescriptor_t conv, cudnnFilterDescriptor_t dw, int n_wanted, int *n_found,
    cudnnConvolutionBwdFilterAlgoPerf_t *found)
{
    if (!handle || !x || !dw || !conv || !dy) return CUDNN_STATUS_BAD_PARAM;
    return answer({ *x, dw->t, *dy, *conv }, n_wanted, n_found, found);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha,
                                      cudnnTensorDescriptor_t x_desc, const void *x,
                                      cudnnFilterDescriptor_t w_desc, const void *w,
                                      cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t algo, void *workspace, size_t bytes,
                                      const void *beta, cudnnTensorDescriptor_t y_desc, void *y)
{
    if (!alpha || !beta || !x_desc || !w_desc || !conv || !y_desc) return CUDNN_STATUS_BAD_PARAM;
    return queue(handle,
                 { { *x_desc, w_desc->t, *y_desc, *conv },
                   FORWARD,
                   "cudnnConvolutionForward",
                   const_cast<void *>(x),
                   const_cast<void *>(w),
                   y,
                   workspace,
                   bytes,
                   number(alpha),
                   number(beta) },
                 algo);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha,
                                           cudnnFilterDescriptor_t w_desc, const void *w,
                                           cudnnTensorDescriptor_t dy_desc, const void *dy,
                                           cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algo, void *workspace,
                                           size_t bytes, const void *beta,
                                           cudnnTensorDescriptor_t dx_desc, void *dx)
{
    if (!alpha || !beta || !dx_desc || !w_desc || !conv || !dy_desc) return CUDNN_STATUS_BAD_PARAM;
    return queue(handle,
                 { { *dx_desc, w_desc->t, *dy_desc, *conv },
                   BACKWARD_DATA,
                   "cudnnConvolutionBackwardData",
                   dx,
                   const_cast<void *>(w),
                   const_cast<void *>(dy),
                   workspace,
                   bytes,
                   number(alpha),
                   number(beta) },
                 algo);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                             cudnnTensorDescriptor_t x_desc, const void *x,
                                             cudnnTensorDescriptor_t dy_desc, const void *dy,
                                             cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void *workspace,
                                             size_t bytes, const void *beta,
                                             cudnnFilterDescriptor_t dw_desc, void *dw)
{
    if (!alpha || !beta || !x_desc || !dw_desc || !conv || !dy_desc) return CUDNN_STATUS_BAD_PARAM;
    return queue(handle,
                 { { *x_desc, dw_desc->t, *dy_desc, *conv },
                   BACKWARD_FILTER,
                   "cudnnConvolutionBackwardFilter",
                   const_cast<void *>(x),
                   dw,
                   const_cast<void *>(dy),
                   workspace,
                   bytes,
                   number(alpha),
                   number(beta) },
                 algo);
}
