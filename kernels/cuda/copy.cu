/* copy and cast: maps (map.cuh); ids, which are not to pass through f32, by a kernel of their own.
 * Traffic: operand and result once. */
#include "kernels/cuda/map.cuh"

static bool accepts_packed(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && nn_is_float(&c->out[0]) && nn_view_contiguous(&c->in[0]) &&
           nn_view_contiguous(&c->out[0]) && nn_aligned16(&c->in[0]) && nn_aligned16(&c->out[0]);
}

static bool accepts_steps(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && nn_is_float(&c->out[0]);
}

static nn_status run_packed(const nn_call *c)
{
    NN_DISPATCH(
        c->in[0].dtype, T,
        NN_DISPATCH(c->out[0].dtype, U, return (nn_map_run_packed_as<T, U, 1>(c, nn_map_same{}))));
}

static nn_status run_steps(const nn_call *c)
{
    NN_DISPATCH(
        c->in[0].dtype, T,
        NN_DISPATCH(c->out[0].dtype, U, return (nn_map_run_steps_as<T, U, 1>(c, nn_map_same{}))));
}

/* copy_ids: a thread owns one i32 of any strides. */
__global__ void __launch_bounds__(NN_MAP_THREADS)
    copy_ids(const int32_t *x, int32_t *y, const nn_steps<2> steps)
{
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (i >= steps.n) return;
    int64_t at[2];
    nn_offsets(steps, i, at);
    y[at[0]] = x[at[1]];
}

static bool accepts_ids(const nn_call *c)
{
    return c->in[0].dtype == NN_I32 && c->out[0].dtype == NN_I32;
}

static nn_status run_ids(const nn_call *c)
{
    const nn_view *const views[2] = { &c->out[0], &c->in[0] };
    const nn_steps<2> steps = nn_steps_of(&c->out[0], views);
    if (!steps.n) return NN_OK;
    return NN_LAUNCH(copy_ids, (unsigned)nn_ceil_div(steps.n, NN_MAP_THREADS), NN_MAP_THREADS, 0, c,
                     static_cast<const int32_t *>(c->in[0].data),
                     static_cast<int32_t *>(c->out[0].data), steps);
}

extern "C" const nn_kernel nn_cuda_copy[] = {
    { .name = "copy_packed", .accepts = accepts_packed, .run = run_packed },
    { .name = "copy_steps", .accepts = accepts_steps, .run = run_steps },
    { .name = "copy_ids", .accepts = accepts_ids, .run = run_ids },
    {}
};
