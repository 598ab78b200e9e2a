/* Operands of any type and stride, for the kernels that end a list: the type is looked at when an
 * element is read, so that one kernel serves all combinations of f32 and bf16. Deterministic; a
 * thread moves single elements. */
#ifndef KERNELS_CUDA_ANY_CUH
#define KERNELS_CUDA_ANY_CUH

#include "kernels/cuda/map.cuh"

struct nn_any {
    void *data;
    bool half; /* bf16 */
};

template <int N> struct nn_anys {
    nn_any x[N];
};

__device__ __forceinline__ float nn_any_get(const nn_any &x, int64_t at)
{
    if (x.half) return nn_float(static_cast<const bf16 *>(x.data)[at]);
    return static_cast<const float *>(x.data)[at];
}

__device__ __forceinline__ void nn_any_put(const nn_any &x, int64_t at, float value)
{
    if (x.half)
        static_cast<bf16 *>(x.data)[at] = nn_from<bf16>(value);
    else
        static_cast<float *>(x.data)[at] = value;
}

static inline nn_any nn_any_of(const nn_view *v)
{
    return { v->data, v->dtype == NN_BF16 };
}

/* y = f(x_0, x_1, ...) element by element. View 0 is the result. */
template <class F, int ARITY>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    nn_any_map(const F f, const nn_anys<ARITY> in, const nn_any y, const nn_steps<ARITY + 1> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[ARITY + 1];
    float x[ARITY];
    nn_offsets(steps, i, at);
#pragma unroll
    for (int k = 0; k < ARITY; k++) x[k] = nn_any_get(in.x[k], at[k + 1]);
    nn_any_put(y, at[0], f(x));
}

template <int ARITY, class F>
static inline nn_status nn_any_run_map(const nn_call *c, F f, const nn_view *y,
                                       const nn_view *const (&x)[ARITY])
{
    const nn_view *views[ARITY + 1] = { y };
    nn_anys<ARITY> in;
    for (int k = 0; k < ARITY; k++) {
        views[k + 1] = x[k];
        in.x[k] = nn_any_of(x[k]);
    }
    const nn_steps<ARITY + 1> steps = nn_steps_of(y, views);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH((nn_any_map<F, ARITY>), (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS),
                     NN_MAP_THREADS, 0, c, f, in, nn_any_of(y), steps);
}

/* y = g(the sum of f(x_0, x_1, ...) over all elements), in two steps of fixed order. A block owns a
 * run of elements and leaves its sum in `part`; one block adds these up. F has both functions:
 * operator() for an element, `float total(float sum) const` for the end. */
constexpr int NN_TOTAL_THREADS = 256, NN_TOTAL_BLOCKS = 1024;
constexpr int64_t NN_TOTAL_LEAST = 4 * NN_TOTAL_THREADS; /* elements of a run */

template <class F, int ARITY>
__global__ void __launch_bounds__(NN_TOTAL_THREADS)
    nn_any_total(const F f, const nn_anys<ARITY> in, float *part, int64_t run,
                 const nn_steps<ARITY> steps)
{
    NN_SHARED(float, scratch, NN_TOTAL_THREADS / NN_WARP);
    const int64_t begin = blockIdx.x * run;
    const int64_t end = begin + run < steps.n ? begin + run : steps.n;
    float sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += NN_TOTAL_THREADS) {
        int64_t at[ARITY];
        float x[ARITY];
        nn_offsets(steps, i, at);
#pragma unroll
        for (int k = 0; k < ARITY; k++) x[k] = nn_any_get(in.x[k], at[k]);
        sum += f(x);
    }
    sum = nn_block_sum<NN_TOTAL_THREADS>(sum, scratch);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

template <class F>
__global__ void __launch_bounds__(NN_TOTAL_THREADS)
    nn_total_join(const F f, const float *part, int n, const nn_any y)
{
    NN_SHARED(float, scratch, NN_TOTAL_THREADS / NN_WARP);
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += NN_TOTAL_THREADS) sum += part[i];
    sum = nn_block_sum<NN_TOTAL_THREADS>(sum, scratch);
    if (threadIdx.x == 0) nn_any_put(y, 0, f.total(sum));
}

/* Elements of a block's run; depends on n alone, so that results do not depend on the GPU. */
static inline int64_t nn_total_run(int64_t n)
{
    const int64_t run = nn_ceil_div(n, NN_TOTAL_BLOCKS);
    return nn_ceil_div(run > NN_TOTAL_LEAST ? run : NN_TOTAL_LEAST, NN_TOTAL_THREADS) *
           NN_TOTAL_THREADS;
}

static inline size_t nn_total_workspace(const nn_call *c)
{
    (void)c;
    return NN_TOTAL_BLOCKS * sizeof(float);
}

template <class F>
static inline nn_status nn_total_run_join(const nn_call *c, F f, int n, const nn_view *y)
{
    return NN_LAUNCH(nn_total_join<F>, 1, NN_TOTAL_THREADS, 0, c, f,
                     static_cast<const float *>(c->workspace), n, nn_any_of(y));
}

template <int ARITY, class F>
static inline nn_status nn_any_run_total(const nn_call *c, F f, const nn_view *y,
                                         const nn_view *const (&x)[ARITY])
{
    nn_anys<ARITY> in;
    for (int k = 0; k < ARITY; k++) in.x[k] = nn_any_of(x[k]);
    const nn_steps<ARITY> steps = nn_steps_of(x[0], x);
    const int64_t run = nn_total_run(steps.n), blocks = nn_ceil_div(steps.n, run);
    if (blocks)
        NN_TRY(NN_LAUNCH((nn_any_total<F, ARITY>), (unsigned)blocks, NN_TOTAL_THREADS, 0, c, f, in,
                         static_cast<float *>(c->workspace), run, steps));
    return nn_total_run_join(c, f, (int)blocks, y);
}

#endif
