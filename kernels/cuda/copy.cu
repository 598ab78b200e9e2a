/* copy and cast: maps (map.cuh). Traffic: operand and result once. */
#include "kernels/cuda/map.cuh"

struct copy_value {
    __device__ float operator()(const float (&x)[1]) const { return x[0]; }
};

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
        NN_DISPATCH(c->out[0].dtype, U, return (nn_map_run_packed_as<T, U, 1>(c, copy_value{}))));
}

static nn_status run_steps(const nn_call *c)
{
    NN_DISPATCH(
        c->in[0].dtype, T,
        NN_DISPATCH(c->out[0].dtype, U, return (nn_map_run_steps_as<T, U, 1>(c, copy_value{}))));
}

extern "C" const nn_kernel nn_cuda_copy[] = {
    { .name = "copy_packed", .accepts = accepts_packed, .run = run_packed },
    { .name = "copy_steps", .accepts = accepts_steps, .run = run_steps },
    {}
};
