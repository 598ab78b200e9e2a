/* fill: one element a thread. Traffic: the result once. Constants are small and filled once a run.
 */
#include "kernels/cuda/map.cuh"

template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS) fill_packed(T *y, T value, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i < n) y[i] = value;
}

static bool accepts(const nn_call *c)
{
    return nn_is_float(&c->out[0]) || c->out[0].dtype == NN_I32;
}

template <class T> static nn_status fill_as(const nn_call *c, T value)
{
    const int64_t n = nn_view_elems(&c->out[0]);
    if (!n) return NN_OK;
    return NN_LAUNCH(fill_packed<T>, (unsigned)nn_ceil_div(n, NN_MAP_THREADS), NN_MAP_THREADS, 0, c,
                     static_cast<T *>(c->out[0].data), value, n);
}

static nn_status run(const nn_call *c)
{
    const double value = static_cast<const nn_fill_params *>(c->params)->value;
    if (c->out[0].dtype == NN_I32) return fill_as<int32_t>(c, (int32_t)value);
    if (c->out[0].dtype == NN_BF16) return fill_as<bf16>(c, __float2bfloat16_rn((float)value));
    return fill_as<float>(c, (float)value);
}

extern "C" const nn_kernel nn_cuda_fill[] = {
    { .name = "fill_packed", .accepts = accepts, .run = run }, {}
};
