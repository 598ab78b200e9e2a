/* softmax_xent and its gradient. A block owns a row of logits. Forward reads it once and keeps a
 * maximum and a sum that is scaled when the maximum grows; one block then adds up the rows in a
 * fixed order. Backward makes the probabilities from the saved log of the sum, and may write over
 * the logits. Traffic: forward the logits read once, backward read and written once. f32.
 *
 * Rows whose last dim is packed go by 16 bytes between a head and a tail of single elements, for
 * they begin anywhere (30,524 bf16 are no whole number of pieces). */
#include "kernels/cuda/map.cuh"

constexpr int SOFTMAX_XENT_THREADS = 256;
constexpr int SOFTMAX_XENT_WARPS = SOFTMAX_XENT_THREADS / NN_WARP;

/* Where rows are. Steps: logits (or logits and their gradient, and the saved logs) and labels,
 * over the leading dims. */
struct softmax_xent_rows {
    int n;        /* logits of a row */
    int64_t step; /* between them */
    float smoothing;
};

struct softmax_xent_sum {
    float most, sum; /* largest logit, sum of exp(logit - most) */
    float total;     /* sum of logits */
};

template <int W>
__device__ __forceinline__ void softmax_xent_take(softmax_xent_sum &s, const float (&x)[W])
{
    float most = s.most;
#pragma unroll
    for (int k = 0; k < W; k++) most = fmaxf(most, x[k]);
    s.sum *= __expf(s.most - most);
    s.most = most;
#pragma unroll
    for (int k = 0; k < W; k++) {
        s.sum += __expf(x[k] - most);
        s.total += x[k];
    }
}

template <class T> __device__ __forceinline__ void softmax_xent_take_one(softmax_xent_sum &s, T x)
{
    const float one[1] = { nn_float(x) };
    softmax_xent_take(s, one);
}

/* Elements before the first 16-byte boundary, at most n. */
template <class T> __device__ __forceinline__ int softmax_xent_head(const T *row, int n)
{
    const int head = (int)((16 - reinterpret_cast<uintptr_t>(row) % 16) % 16 / sizeof(T));
    return head < n ? head : n;
}

template <class T, bool PACKED>
__device__ __forceinline__ softmax_xent_sum softmax_xent_read(const T *row, int n, int64_t step)
{
    softmax_xent_sum s = { -3.0e38f, 0, 0 };
    int i = (int)threadIdx.x;
    if constexpr (PACKED) {
        constexpr int W = nn_wide<T>;
        const int head = softmax_xent_head(row, n), pieces = (n - head) / W;
        if (i < head) softmax_xent_take_one(s, row[i]);
        for (int p = i; p < pieces; p += SOFTMAX_XENT_THREADS) {
            const nn_vec<T, W> v = nn_load<W>(row + head + p * W);
            float x[W];
#pragma unroll
            for (int k = 0; k < W; k++) x[k] = nn_float(v.at[k]);
            softmax_xent_take(s, x);
        }
        i += head + pieces * W;
    }
    for (; i < n; i += SOFTMAX_XENT_THREADS) softmax_xent_take_one(s, row[i * step]);
    return s;
}

/* lse and, to be added up, the loss of each row: lse - (1 - s) x[label] - s mean(x). Views of
 * steps: logits, labels. */
template <class T, bool PACKED>
__global__ void __launch_bounds__(SOFTMAX_XENT_THREADS)
    softmax_xent_forward(const T *logits, const int *labels, const nn_steps<2> steps,
                         const softmax_xent_rows r, float *lse, float *loss, nn_cuda_fault *fault)
{
    NN_SHARED(float, scratch, SOFTMAX_XENT_WARPS);
    int64_t at[2];
    nn_offsets(steps, blockIdx.x, at);
    const T *row = logits + at[0];
    const int label = labels[at[1]];
    if (label < 0 || label >= r.n) {
        if (threadIdx.x == 0) lse[blockIdx.x] = loss[blockIdx.x] = 0;
        if (label >= r.n && threadIdx.x == 0 &&
            atomicCAS(&fault->kind, (int)NN_CUDA_FAULT_NONE, (int)NN_CUDA_FAULT_LABEL) ==
                NN_CUDA_FAULT_NONE)
            fault->value = label;
        return;
    }
    const softmax_xent_sum s = softmax_xent_read<T, PACKED>(row, r.n, r.step);
    const float most = nn_block_max<SOFTMAX_XENT_THREADS>(s.most, scratch);
    const float sum = nn_block_sum<SOFTMAX_XENT_THREADS>(s.sum * __expf(s.most - most), scratch);
    const float total = nn_block_sum<SOFTMAX_XENT_THREADS>(s.total, scratch);
    if (threadIdx.x > 0) return;
    const float log_sum = most + logf(sum), right = nn_float(row[label * r.step]);
    lse[blockIdx.x] = log_sum;
    loss[blockIdx.x] =
        (1 - r.smoothing) * (log_sum - right) + r.smoothing * (log_sum - total / (float)r.n);
}

__global__ void __launch_bounds__(SOFTMAX_XENT_THREADS)
    softmax_xent_join(const float *losses, const int *labels, const nn_steps<1> steps, float *loss,
                      float *count)
{
    NN_SHARED(float, scratch, SOFTMAX_XENT_WARPS);
    float sum = 0, counted = 0;
    for (int64_t i = threadIdx.x; i < steps.n; i += SOFTMAX_XENT_THREADS) {
        int64_t at[1];
        nn_offsets(steps, i, at);
        sum += losses[i];
        counted += labels[at[0]] >= 0 ? 1.0f : 0.0f;
    }
    sum = nn_block_sum<SOFTMAX_XENT_THREADS>(sum, scratch);
    counted = nn_block_sum<SOFTMAX_XENT_THREADS>(counted, scratch);
    if (threadIdx.x > 0) return;
    *loss = counted > 0 ? sum / counted : 0.0f;
    *count = counted;
}

/* Of one row; an ignored one has scale 0, lse 0. */
struct softmax_xent_slope {
    float scale, lse, spread, right; /* spread: s / V; right: 1 - s at the label */
    int label;
};

__device__ __forceinline__ float softmax_xent_at(const softmax_xent_slope &s, float x, int k)
{
    if (s.label < 0) return 0;
    return s.scale * (__expf(x - s.lse) - s.spread - (k == s.label ? s.right : 0.0f));
}

/* A row of which both sides have their 16-byte boundaries at the same places goes by pieces. */
template <class T>
__device__ __forceinline__ int softmax_xent_write(const T *x, T *dx, int n,
                                                  const softmax_xent_slope &s)
{
    constexpr int W = nn_wide<T>;
    const uintptr_t apart = reinterpret_cast<uintptr_t>(x) - reinterpret_cast<uintptr_t>(dx);
    if (apart % 16) return 0;
    const int head = softmax_xent_head(x, n), pieces = (n - head) / W;
    const int i = (int)threadIdx.x;
    if (i < head) dx[i] = nn_from<T>(softmax_xent_at(s, nn_float(x[i]), i));
    for (int p = i; p < pieces; p += SOFTMAX_XENT_THREADS) {
        const int first = head + p * W;
        nn_vec<T, W> v = nn_load<W>(x + first);
#pragma unroll
        for (int k = 0; k < W; k++)
            v.at[k] = nn_from<T>(softmax_xent_at(s, nn_float(v.at[k]), first + k));
        nn_store(dx + first, v);
    }
    return head + pieces * W;
}

/* Views of steps: logits, labels, lse, dlogits. */
template <class T, bool PACKED>
__global__ void __launch_bounds__(SOFTMAX_XENT_THREADS)
    softmax_xent_backward(const float *dy, const float *count, const T *logits, const int *labels,
                          const float *lse, T *dlogits, const nn_steps<4> steps,
                          const softmax_xent_rows r, int64_t dlogits_step)
{
    int64_t at[4];
    nn_offsets(steps, blockIdx.x, at);
    const T *x = logits + at[0];
    T *dx = dlogits + at[3];
    const softmax_xent_slope s = { *dy / *count, lse[at[2]], r.smoothing / (float)r.n,
                                   1 - r.smoothing, labels[at[1]] };
    int done = 0;
    if constexpr (PACKED) done = softmax_xent_write(x, dx, r.n, s);
    for (int i = done + (int)threadIdx.x; i < r.n; i += SOFTMAX_XENT_THREADS)
        dx[i * dlogits_step] = nn_from<T>(softmax_xent_at(s, nn_float(x[i * r.step]), i));
}

/* The leading dims of logits. */
static nn_view leading(const nn_view *v)
{
    nn_view rows = *v;
    rows.rank--;
    return rows;
}

static softmax_xent_rows rows_of(const nn_call *c, const nn_view *logits)
{
    const nn_softmax_xent_params *p = static_cast<const nn_softmax_xent_params *>(c->params);
    return { (int)nn_last(logits, 0), logits->stride[logits->rank - 1], (float)p->smoothing };
}

static bool packed(const nn_view *v)
{
    return nn_view_packed_from(v, v->rank - 1);
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[1].dtype == NN_I32 && c->out[0].dtype == NN_F32 &&
           nn_last(&c->in[0], 0) < INT32_MAX && nn_view_contiguous(&c->out[1]);
}

static bool accepts_packed(const nn_call *c)
{
    return accepts_any(c) && packed(&c->in[0]);
}

static size_t workspace(const nn_call *c)
{
    return (size_t)nn_view_elems(&c->in[1]) * sizeof(float);
}

template <class T, bool PACKED> static nn_status run_as(const nn_call *c)
{
    const nn_view *labels = &c->in[1], rows = leading(&c->in[0]);
    const nn_view *const views[2] = { &rows, labels }, *const label_view[1] = { labels };
    const nn_steps<2> steps = nn_steps_of(labels, views);
    const int *label = static_cast<const int *>(labels->data);
    float *losses = static_cast<float *>(c->workspace);
    if (steps.n)
        NN_TRY(NN_LAUNCH((softmax_xent_forward<T, PACKED>), (unsigned)steps.n, SOFTMAX_XENT_THREADS,
                         0, c, static_cast<const T *>(c->in[0].data), label, steps,
                         rows_of(c, &c->in[0]), static_cast<float *>(c->out[1].data), losses,
                         nn_cuda_of(c)->fault));
    return NN_LAUNCH(softmax_xent_join, 1, SOFTMAX_XENT_THREADS, 0, c, losses, label,
                     nn_steps_of(labels, label_view), static_cast<float *>(c->out[0].data),
                     static_cast<float *>(c->out[2].data));
}

static nn_status run_packed(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (run_as<T, true>(c)));
}

static nn_status run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return (run_as<T, false>(c)));
}

static bool accepts_bwd_any(const nn_call *c)
{
    return nn_is_float(&c->in[1]) && c->in[1].dtype == c->out[0].dtype &&
           c->in[0].dtype == NN_F32 && c->in[2].dtype == NN_I32 && c->in[3].dtype == NN_F32 &&
           c->in[4].dtype == NN_F32 && nn_last(&c->in[1], 0) < INT32_MAX;
}

static bool accepts_bwd_packed(const nn_call *c)
{
    return accepts_bwd_any(c) && packed(&c->in[1]) && packed(&c->out[0]);
}

template <class T, bool PACKED> static nn_status run_bwd_as(const nn_call *c)
{
    const nn_view x = leading(&c->in[1]), dx = leading(&c->out[0]);
    const nn_view *const views[4] = { &x, &c->in[2], &c->in[3], &dx };
    const nn_steps<4> steps = nn_steps_of(&x, views);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH((softmax_xent_backward<T, PACKED>), (unsigned)steps.n, SOFTMAX_XENT_THREADS, 0,
                     c, static_cast<const float *>(c->in[0].data),
                     static_cast<const float *>(c->in[4].data),
                     static_cast<const T *>(c->in[1].data), static_cast<const int *>(c->in[2].data),
                     static_cast<const float *>(c->in[3].data), static_cast<T *>(c->out[0].data),
                     steps, rows_of(c, &c->in[1]), c->out[0].stride[c->out[0].rank - 1]);
}

static nn_status run_bwd_packed(const nn_call *c)
{
    NN_DISPATCH(c->in[1].dtype, T, return (run_bwd_as<T, true>(c)));
}

static nn_status run_bwd_any(const nn_call *c)
{
    NN_DISPATCH(c->in[1].dtype, T, return (run_bwd_as<T, false>(c)));
}

extern "C" const nn_kernel nn_cuda_softmax_xent[] = {
    { .name = "softmax_xent_packed",
      .accepts = accepts_packed,
      .run = run_packed,
      .workspace = workspace },
    { .name = "softmax_xent_any", .accepts = accepts_any, .run = run_any, .workspace = workspace },
    {}
};
extern "C" const nn_kernel nn_cuda_softmax_xent_bwd[] = {
    { .name = "softmax_xent_bwd_packed", .accepts = accepts_bwd_packed, .run = run_bwd_packed },
    { .name = "softmax_xent_bwd_any", .accepts = accepts_bwd_any, .run = run_bwd_any },
    {}
};
