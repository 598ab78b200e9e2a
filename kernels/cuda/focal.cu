/* focal and its gradient: small, so kernels of any type and stride (any.cuh) serve all. Forward: a
 * total in two steps. Backward: a map that may take the place of x or y. */
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/any.cuh"

__device__ __forceinline__ float focal_power(float miss, float gamma)
{
    return gamma == 0 ? 1.0f : gamma == 2 ? miss * miss : powf(miss, gamma);
}

__device__ __forceinline__ float focal_cross_entropy(float x, float y)
{
    return fmaxf(x, 0.0f) - x * y + log1pf(expf(-fabsf(x)));
}

struct focal_value { /* x, y */
    float gamma, scale;
    __device__ float operator()(const float (&x)[2]) const
    {
        const float miss = fabsf(nn_sigmoid(x[0]) - x[1]);
        return focal_power(miss, gamma) * focal_cross_entropy(x[0], x[1]);
    }
    __device__ float total(float sum) const { return sum * scale; }
};

struct focal_slope { /* x, y, dy */
    float gamma, scale;
    __device__ float operator()(const float (&x)[3]) const
    {
        const float p = nn_sigmoid(x[0]), gap = p - x[1], miss = fabsf(gap);
        float slope = focal_power(miss, gamma) * gap;
        if (miss > 0 && gamma != 0)
            slope += gamma * focal_power(miss, gamma - 1) * copysignf(p * (1 - p), gap) *
                     focal_cross_entropy(x[0], x[1]);
        return scale * x[2] * slope;
    }
};

static float gamma_of(const nn_call *c)
{
    return (float)static_cast<const nn_focal_params *>(c->params)->gamma;
}

static bool accepts(const nn_call *c)
{
    bool fit = nn_is_float(&c->out[0]);
    for (int k = 0; k < c->n_in; k++) fit = fit && nn_is_float(&c->in[k]);
    return fit;
}

static nn_status run(const nn_call *c)
{
    const nn_view *const in[2] = { &c->in[0], &c->in[1] };
    const focal_value f = { gamma_of(c), 1.0f / (float)c->in[0].dim[0] };
    return nn_any_run_total(c, f, &c->out[0], in);
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *const in[3] = { &c->in[1], &c->in[2], &c->in[0] };
    const focal_slope f = { gamma_of(c), 1.0f / (float)c->in[1].dim[0] };
    return nn_any_run_map(c, f, &c->out[0], in);
}

extern "C" const nn_kernel nn_cuda_focal[] = {
    { .name = "focal_any", .accepts = accepts, .run = run, .workspace = nn_total_workspace }, {}
};
extern "C" const nn_kernel nn_cuda_focal_bwd[] = {
    { .name = "focal_bwd_any", .accepts = accepts, .run = run_bwd }, {}
};
