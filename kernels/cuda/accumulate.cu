/* accumulate: in[0] += in[1], in the memory of in[0]. Traffic: the sum read and written, x read. */
#include "kernels/cuda/any.cuh"

struct accumulate_value {
    __device__ float operator()(const float (&x)[2]) const { return x[0] + x[1]; }
};

/* The sum as the result. The op's own has nothing to be read and is left alone. */
static nn_call into_sum(const nn_call *c)
{
    nn_call into = *c;
    into.out[0] = c->in[0];
    return into;
}

static bool accepts_packed(const nn_call *c)
{
    const nn_call into = into_sum(c);
    return nn_map_accepts_packed<2>(&into);
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && nn_is_float(&c->in[1]);
}

static nn_status run_packed(const nn_call *c)
{
    const nn_call into = into_sum(c);
    return nn_map_run_packed<2>(&into, accumulate_value{});
}

static nn_status run_any(const nn_call *c)
{
    const nn_view *const x[2] = { &c->in[0], &c->in[1] };
    return nn_any_run_map(c, accumulate_value{}, &c->in[0], x);
}

extern "C" const nn_kernel nn_cuda_accumulate[] = {
    { .name = "accumulate_packed", .accepts = accepts_packed, .run = run_packed },
    { .name = "accumulate_any", .accepts = accepts_any, .run = run_any },
    {}
};
