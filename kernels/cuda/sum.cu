/* sum over the dims that shrink to 1. */
#include "kernels/cuda/map.cuh"

constexpr int SUM_THREADS = 128;

/* sum_steps: a block owns one element of the result and walks what it sums over, of any strides,
 * in a fixed order: deterministic. Traffic: x once (in whole sectors only where the last dim is
 * summed), the result once. */
template <class T>
__global__ void __launch_bounds__(SUM_THREADS)
    sum_steps(const T *x, T *y, const nn_steps<1> kept, const nn_steps<1> summed)
{
    NN_SHARED(float, scratch, SUM_THREADS / NN_WARP);
    int64_t base[1], at[1];
    float sum = 0;
    nn_offsets(kept, blockIdx.x, base);
    for (int64_t i = threadIdx.x; i < summed.n; i += SUM_THREADS) {
        nn_offsets(summed, i, at);
        sum += nn_float(x[base[0] + at[0]]);
    }
    sum = nn_block_sum<SUM_THREADS>(sum, scratch);
    if (threadIdx.x == 0) y[blockIdx.x] = nn_from<T>(sum);
}

static bool accepts(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype &&
           nn_view_contiguous(&c->out[0]);
}

/* x with its kept dims alone, or its summed ones. */
static nn_steps<1> part(const nn_view *x, const nn_view *y, bool kept)
{
    nn_view v = *x;
    for (int d = 0; d < x->rank; d++)
        if ((y->dim[d] == x->dim[d]) != kept) v.dim[d] = 1;
    const nn_view *const views[1] = { &v };
    return nn_steps_of(&v, views);
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const int64_t n = nn_view_elems(y);
    if (!n) return NN_OK;
    NN_DISPATCH(x->dtype, T,
                return NN_LAUNCH(sum_steps<T>, (unsigned)n, SUM_THREADS, 0, c,
                                 static_cast<const T *>(x->data), static_cast<T *>(y->data),
                                 part(x, y, true), part(x, y, false)));
}

extern "C" const nn_kernel nn_cuda_sum[] = {
    { .name = "sum_steps", .accepts = accepts, .run = run }, {}
};
