/* fill: one element a thread. Traffic: the result once. Constants are small and filled once a run.
 */
#include "kernels/cuda/map.cuh"

template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS) fill_packed(T *y, float value, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i < n) y[i] = nn_from<T>(value);
}

static bool accepts(const nn_call *c)
{
    return nn_is_float(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    const nn_fill_params *p = static_cast<const nn_fill_params *>(c->params);
    const int64_t n = nn_view_elems(&c->out[0]);
    if (!n) return NN_OK;
    NN_DISPATCH(c->out[0].dtype, T,
                return NN_LAUNCH(fill_packed<T>, (unsigned)nn_ceil_div(n, NN_MAP_THREADS),
                                 NN_MAP_THREADS, 0, c, static_cast<T *>(c->out[0].data),
                                 (float)p->value, n));
}

extern "C" const nn_kernel nn_cuda_fill[] = {
    { .name = "fill_packed", .accepts = accepts, .run = run }, {}
};
