/* norm: a total in two steps of fixed order (any.cuh), divided by the number of elements alone. */
#include "kernels/cuda/any.cuh"

struct norm_square {
    __device__ float operator()(const float (&x)[1]) const { return x[0] * x[0]; }
    __device__ float total(float sum) const { return sqrtf(sum); }
};

/* norm_packed: a block owns a run of x, a thread every 256th 16 bytes of it, with one sum per
 * element of these: of 860 M elements a sum takes 820, and 2^20 sums are joined as a tree, so
 * the relative error is about 1e-6. Traffic: x once. */
template <class T>
__global__ void __launch_bounds__(NN_TOTAL_THREADS)
    norm_packed(const T *x, float *part, int64_t run, int64_t n)
{
    NN_SHARED(float, scratch, NN_TOTAL_THREADS / NN_WARP);
    constexpr int W = nn_wide<T>;
    const int64_t begin = blockIdx.x * run, end = begin + run < n ? begin + run : n;
    float sum[W] = {};
    int64_t i = begin + (int64_t)threadIdx.x * W;
#pragma unroll 4
    for (; i + W <= end; i += NN_TOTAL_THREADS * W) {
        const nn_vec<T, W> v = nn_load<W>(x + i);
#pragma unroll
        for (int k = 0; k < W; k++) sum[k] += nn_float(v.at[k]) * nn_float(v.at[k]);
    }
    for (; i < end; i++) sum[0] += nn_float(x[i]) * nn_float(x[i]);
#pragma unroll
    for (int step = W / 2; step > 0; step /= 2)
#pragma unroll
        for (int k = 0; k < step; k++) sum[k] += sum[k + step];
    const float all = nn_block_sum<NN_TOTAL_THREADS>(sum[0], scratch);
    if (threadIdx.x == 0) part[blockIdx.x] = all;
}

static bool accepts_packed(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && nn_view_contiguous(&c->in[0]) && nn_aligned16(&c->in[0]);
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]);
}

static nn_status run_packed(const nn_call *c)
{
    const nn_view *x = &c->in[0];
    const int64_t n = nn_view_elems(x), run = nn_total_run(n), blocks = nn_ceil_div(n, run);
    if (blocks)
        NN_DISPATCH(x->dtype, T,
                    NN_TRY(NN_LAUNCH(norm_packed<T>, (unsigned)blocks, NN_TOTAL_THREADS, 0, c,
                                     static_cast<const T *>(x->data),
                                     static_cast<float *>(c->workspace), run, n)));
    return nn_total_run_join(c, norm_square{}, (int)blocks, &c->out[0]);
}

static nn_status run_any(const nn_call *c)
{
    const nn_view *const in[1] = { &c->in[0] };
    return nn_any_run_total(c, norm_square{}, &c->out[0], in);
}

extern "C" const nn_kernel nn_cuda_norm[] = {
    { .name = "norm_packed",
      .accepts = accepts_packed,
      .run = run_packed,
      .workspace = nn_total_workspace },
    { .name = "norm_any", .accepts = accepts_any, .run = run_any, .workspace = nn_total_workspace },
    {}
};
