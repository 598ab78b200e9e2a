/* mse and its gradient: some megabytes at most, so kernels of any type and stride (any.cuh) serve
 * all. Forward: a total in two steps. Backward: a map; the gradient of the loss is read where it
 * lies, and the result may take the place of x or y. */
#include "kernels/cuda/any.cuh"

struct mse_value { /* x, y */
    float scale;
    __device__ float operator()(const float (&x)[2]) const { return (x[0] - x[1]) * (x[0] - x[1]); }
    __device__ float total(float sum) const { return sum * scale; }
};

struct mse_weighted { /* x, y, weight */
    float scale;
    __device__ float operator()(const float (&x)[3]) const
    {
        return x[2] * (x[0] - x[1]) * (x[0] - x[1]);
    }
    __device__ float total(float sum) const { return sum * scale; }
};

struct mse_slope { /* x, y, dy */
    float scale;
    __device__ float operator()(const float (&x)[3]) const { return scale * x[2] * (x[0] - x[1]); }
};

struct mse_weighted_slope { /* x, y, dy, weight */
    float scale;
    __device__ float operator()(const float (&x)[4]) const
    {
        return scale * x[2] * x[3] * (x[0] - x[1]);
    }
};

/* One weight per sample, as seen in the shape of x. */
static nn_view spread(const nn_view *weight, const nn_view *x)
{
    nn_view v = *x;
    v.data = weight->data;
    v.dtype = weight->dtype;
    for (int d = 0; d < x->rank; d++) v.stride[d] = d ? 0 : weight->stride[0];
    return v;
}

static bool accepts(const nn_call *c)
{
    bool fit = true;
    for (int k = 0; k < c->n_in; k++)
        fit = fit && (!nn_present(&c->in[k]) || nn_is_float(&c->in[k]));
    return fit && nn_is_float(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->in[1];
    const float scale = (float)(1.0 / (double)nn_view_elems(x));
    if (!nn_present(&c->in[2])) {
        const nn_view *const in[2] = { x, y };
        return nn_any_run_total(c, mse_value{ scale }, &c->out[0], in);
    }
    const nn_view weight = spread(&c->in[2], x), *const in[3] = { x, y, &weight };
    return nn_any_run_total(c, mse_weighted{ scale }, &c->out[0], in);
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *x = &c->in[1], *y = &c->in[2];
    const float scale = (float)(2.0 / (double)nn_view_elems(x));
    if (!nn_present(&c->in[3])) {
        const nn_view *const in[3] = { x, y, &c->in[0] };
        return nn_any_run_map(c, mse_slope{ scale }, &c->out[0], in);
    }
    const nn_view weight = spread(&c->in[3], x), *const in[4] = { x, y, &c->in[0], &weight };
    return nn_any_run_map(c, mse_weighted_slope{ scale }, &c->out[0], in);
}

extern "C" const nn_kernel nn_cuda_mse[] = {
    { .name = "mse_any", .accepts = accepts, .run = run, .workspace = nn_total_workspace }, {}
};
extern "C" const nn_kernel nn_cuda_mse_bwd[] = {
    { .name = "mse_bwd_any", .accepts = accepts, .run = run_bwd }, {}
};
