/* timestep: a thread owns one frequency of one sample and writes its cosine and sine. A few
 * kilobytes. Each step is rounded to f32 as published; the angle is brought to [-pi, pi] in two
 * parts (good for angles up to 1e5), the rest is left to the special functions (absolute error
 * 4e-7). */
#include "kernels/cuda/map.cuh"

template <class T>
__global__ void __launch_bounds__(NN_MAP_THREADS)
    timestep_any(const T *t, int64_t t_step, T *y, int64_t half, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= n) return;
    const int64_t sample = i / half, k = i - sample * half;
    const float power = __fmul_rn(-9.210340371976184f, (float)k);
    const float angle = __fmul_rn(nn_float(t[sample * t_step]), expf(power / (float)half));
    const float turns = rintf(angle * 0.15915494f);
    const float rest = fmaf(turns, 1.7484555e-7f, fmaf(turns, -6.2831855f, angle));
    y[sample * 2 * half + k] = nn_from<T>(__cosf(rest));
    y[sample * 2 * half + half + k] = nn_from<T>(__sinf(rest));
}

static bool accepts(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype &&
           nn_view_contiguous(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    const nn_view *t = &c->in[0], *y = &c->out[0];
    const int64_t half = nn_last(y, 0) / 2, n = t->dim[0] * half;
    if (!n) return NN_OK;
    NN_DISPATCH(t->dtype, T,
                return NN_LAUNCH(timestep_any<T>, (unsigned)nn_ceil_div(n, NN_MAP_THREADS),
                                 NN_MAP_THREADS, 0, c, static_cast<const T *>(t->data),
                                 t->stride[0], static_cast<T *>(y->data), half, n));
}

extern "C" const nn_kernel nn_cuda_timestep[] = {
    { .name = "timestep_any", .accepts = accepts, .run = run }, {}
};
