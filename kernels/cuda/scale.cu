/* scale: a map (map.cuh). Traffic: operand and result once. */
#include "kernels/cuda/map.cuh"

struct scale_line {
    float factor, offset;
    __device__ float operator()(const float (&x)[1]) const { return x[0] * factor + offset; }
};

static scale_line line_of(const nn_call *c)
{
    const nn_scale_params *p = static_cast<const nn_scale_params *>(c->params);
    return { (float)p->factor, (float)p->offset };
}

static nn_status run_packed(const nn_call *c)
{
    return nn_map_run_packed<1>(c, line_of(c));
}

static nn_status run_steps(const nn_call *c)
{
    return nn_map_run_steps<1>(c, line_of(c));
}

extern "C" const nn_kernel nn_cuda_scale[] = {
    { .name = "scale_packed", .accepts = nn_map_accepts_packed<1>, .run = run_packed },
    { .name = "scale_steps", .accepts = nn_map_accepts_steps<1>, .run = run_steps },
    {}
};
