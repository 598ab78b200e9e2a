/* groupnorm and its gradient for operands of any stride: a block owns a group of one sample, or a
 * channel of all. f32, every sum in a fixed order: deterministic. */
#include "kernels/cuda/groupnorm.cuh"

constexpr int GROUPNORM_ANY_THREADS = 256;

struct groupnorm_any_layout {
    int64_t x_sample, x_group, y_sample, y_group; /* elements */
    int64_t gamma, beta;                          /* steps */
    int groups, wide;
    float eps;
    bool silu;
};

/* groupnorm_any: a block owns a group of one sample and reads it three times. Views of steps: x, y,
 * over one group. */
template <class T>
__global__ void __launch_bounds__(GROUPNORM_ANY_THREADS)
    groupnorm_any(const T *x, const float *gamma, const float *beta, T *y, float *mean, float *rstd,
                  const nn_steps<2> steps, const groupnorm_any_layout l)
{
    NN_SHARED(float, scratch, GROUPNORM_ANY_THREADS / NN_WARP);
    const int group = (int)blockIdx.x;
    x += blockIdx.y * l.x_sample + group * l.x_group;
    y += blockIdx.y * l.y_sample + group * l.y_group;
    const float shift = nn_float(x[0]), n = (float)steps.n;
    int64_t at[2];
    float sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
        nn_offsets(steps, i, at);
        sum += nn_float(x[at[0]]) - shift;
    }
    const float offset = nn_block_sum<GROUPNORM_ANY_THREADS>(sum, scratch) / n;
    for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
        nn_offsets(steps, i, at);
        const float d = nn_float(x[at[0]]) - shift - offset;
        squares += d * d;
    }
    squares = nn_block_sum<GROUPNORM_ANY_THREADS>(squares, scratch);
    const float scale = rsqrtf(squares / n + l.eps);
    if (threadIdx.x == 0) {
        mean[blockIdx.y * l.groups + group] = shift + offset;
        rstd[blockIdx.y * l.groups + group] = scale;
    }
    for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
        const int64_t channel = group * l.wide + i % l.wide;
        nn_offsets(steps, i, at);
        const float h = (nn_float(x[at[0]]) - shift - offset) * scale;
        const float z = h * gamma[channel * l.gamma] + beta[channel * l.beta];
        y[at[1]] = nn_from<T>(l.silu ? z * nn_sigmoid(z) : z);
    }
}

struct groupnorm_bwd_any_layout {
    int64_t dy_sample, dy_channel, x_sample, x_channel, dx_sample; /* elements */
    int64_t gamma, beta;                                           /* steps */
    int64_t samples;
    int groups, wide;
    bool silu;
};

/* h and d of one element. */
struct groupnorm_bwd_element {
    float h, d;
};

template <class T>
__device__ __forceinline__ groupnorm_bwd_element groupnorm_bwd_any_at(T dy, T x, float mean,
                                                                      float rstd, float gamma,
                                                                      float beta, bool silu)
{
    const float h = (nn_float(x) - mean) * rstd;
    return { h, nn_float(dy) * (silu ? nn_act_slope<NN_ACT_SILU>(h * gamma + beta) : 1.0f) };
}

/* groupnorm_bwd_any_dx: a block owns a group of one sample and reads it twice. Views of steps: dy,
 * x, dx, over one group. */
template <class T>
__global__ void __launch_bounds__(GROUPNORM_ANY_THREADS)
    groupnorm_bwd_any_dx(const T *dy, const T *x, const float *gamma, const float *beta,
                         const float *mean, const float *rstd, T *dx, const nn_steps<3> steps,
                         const groupnorm_bwd_any_layout l)
{
    NN_SHARED(float, scratch, GROUPNORM_ANY_THREADS / NN_WARP);
    const int64_t first = (int64_t)blockIdx.x * l.wide;
    const float m = mean[blockIdx.y * l.groups + blockIdx.x];
    const float r = rstd[blockIdx.y * l.groups + blockIdx.x];
    dy += blockIdx.y * l.dy_sample + first * l.dy_channel;
    x += blockIdx.y * l.x_sample + first * l.x_channel;
    dx += blockIdx.y * l.dx_sample + first;
    int64_t at[3];
    float sum = 0, sum_h = 0;
    for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
        const int64_t k = first + i % l.wide;
        nn_offsets(steps, i, at);
        const groupnorm_bwd_element e = groupnorm_bwd_any_at(
            dy[at[0]], x[at[1]], m, r, gamma[k * l.gamma], beta[k * l.beta], l.silu);
        sum += e.d * gamma[k * l.gamma];
        sum_h += e.d * gamma[k * l.gamma] * e.h;
    }
    sum = nn_block_sum<GROUPNORM_ANY_THREADS>(sum, scratch) / (float)steps.n;
    sum_h = nn_block_sum<GROUPNORM_ANY_THREADS>(sum_h, scratch) / (float)steps.n;
    for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
        const int64_t k = first + i % l.wide;
        nn_offsets(steps, i, at);
        const groupnorm_bwd_element e = groupnorm_bwd_any_at(
            dy[at[0]], x[at[1]], m, r, gamma[k * l.gamma], beta[k * l.beta], l.silu);
        dx[at[2]] = nn_from<T>(r * (e.d * gamma[k * l.gamma] - sum - e.h * sum_h));
    }
}

/* groupnorm_bwd_any_params: a block owns a channel of all samples. Views of steps: dy, x, over the
 * channel of one sample. */
template <class T>
__global__ void __launch_bounds__(GROUPNORM_ANY_THREADS)
    groupnorm_bwd_any_params(const T *dy, const T *x, const float *gamma, const float *beta,
                             const float *mean, const float *rstd, float *dgamma, float *dbeta,
                             const nn_steps<2> steps, const groupnorm_bwd_any_layout l)
{
    NN_SHARED(float, scratch, GROUPNORM_ANY_THREADS / NN_WARP);
    const int64_t k = blockIdx.x, group = k / l.wide;
    const float g = gamma[k * l.gamma], b = beta[k * l.beta];
    float sum = 0, sum_h = 0;
    dy += k * l.dy_channel;
    x += k * l.x_channel;
    for (int64_t sample = 0; sample < l.samples; sample++) {
        const float m = mean[sample * l.groups + group], r = rstd[sample * l.groups + group];
        for (int64_t i = threadIdx.x; i < steps.n; i += GROUPNORM_ANY_THREADS) {
            int64_t at[2];
            nn_offsets(steps, i, at);
            const groupnorm_bwd_element e =
                groupnorm_bwd_any_at(dy[sample * l.dy_sample + at[0]],
                                     x[sample * l.x_sample + at[1]], m, r, g, b, l.silu);
            sum += e.d;
            sum_h += e.d * e.h;
        }
    }
    sum = nn_block_sum<GROUPNORM_ANY_THREADS>(sum, scratch);
    sum_h = nn_block_sum<GROUPNORM_ANY_THREADS>(sum_h, scratch);
    if (threadIdx.x > 0) return;
    dgamma[k] = sum_h;
    dbeta[k] = sum;
}

/* -- host -------------------------------------------------------------------------------------- */

enum { DY, X, GAMMA, BETA, MEAN, RSTD }; /* of groupnorm_bwd */
enum { DX, DGAMMA, DBETA };

static const nn_groupnorm_params *params_of(const nn_call *c)
{
    return static_cast<const nn_groupnorm_params *>(c->params);
}

static const float *f32_in(const nn_call *c, int k)
{
    return static_cast<const float *>(c->in[k].data);
}

static float *f32_out(const nn_call *c, int k)
{
    return static_cast<float *>(c->out[k].data);
}

template <class T> static const T *data_in(const nn_call *c, int k)
{
    return static_cast<const T *>(c->in[k].data);
}

/* Neighbouring channels of the first sample. */
static nn_view part_of(const nn_view *v, int channels)
{
    nn_view part = *v;
    part.dim[0] = 1;
    part.dim[v->rank - 1] = channels;
    return part;
}

template <class T> static nn_status any_as(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const int last = x->rank - 1, groups = params_of(c)->groups;
    const int wide = (int)(x->dim[last] / groups);
    const nn_view x_group = part_of(x, wide), y_group = part_of(y, wide);
    const nn_view *const views[2] = { &x_group, &y_group };
    const groupnorm_any_layout l = { .x_sample = x->stride[0],
                                     .x_group = wide * x->stride[last],
                                     .y_sample = y->stride[0],
                                     .y_group = wide * y->stride[last],
                                     .gamma = c->in[1].stride[0],
                                     .beta = c->in[2].stride[0],
                                     .groups = groups,
                                     .wide = wide,
                                     .eps = (float)params_of(c)->eps,
                                     .silu = params_of(c)->silu };
    const dim3 grid((unsigned)groups, (unsigned)x->dim[0]);
    return NN_LAUNCH(groupnorm_any<T>, grid, GROUPNORM_ANY_THREADS, 0, c,
                     static_cast<const T *>(x->data), f32_in(c, 1), f32_in(c, 2),
                     static_cast<T *>(y->data), f32_out(c, 1), f32_out(c, 2),
                     nn_steps_of(&x_group, views), l);
}

nn_status groupnorm_run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return any_as<T>(c));
}

template <class T> static nn_status bwd_as(const nn_call *c)
{
    const nn_view *dy = &c->in[DY], *x = &c->in[X], *dx = &c->out[DX];
    const int last = x->rank - 1, groups = params_of(c)->groups, channels = (int)x->dim[last];
    const int wide = channels / groups;
    const nn_view dy_group = part_of(dy, wide), x_group = part_of(x, wide);
    const nn_view dx_group = part_of(dx, wide);
    const nn_view dy_one = part_of(dy, 1), x_one = part_of(x, 1);
    const nn_view *const of_group[3] = { &dy_group, &x_group, &dx_group };
    const nn_view *const of_one[2] = { &dy_one, &x_one };
    const groupnorm_bwd_any_layout l = { .dy_sample = dy->stride[0],
                                         .dy_channel = dy->stride[last],
                                         .x_sample = x->stride[0],
                                         .x_channel = x->stride[last],
                                         .dx_sample = dx->stride[0],
                                         .gamma = c->in[GAMMA].stride[0],
                                         .beta = c->in[BETA].stride[0],
                                         .samples = x->dim[0],
                                         .groups = groups,
                                         .wide = wide,
                                         .silu = params_of(c)->silu };
    const dim3 grid((unsigned)groups, (unsigned)x->dim[0]);
    NN_TRY(NN_LAUNCH(groupnorm_bwd_any_dx<T>, grid, GROUPNORM_ANY_THREADS, 0, c, data_in<T>(c, DY),
                     data_in<T>(c, X), f32_in(c, GAMMA), f32_in(c, BETA), f32_in(c, MEAN),
                     f32_in(c, RSTD), static_cast<T *>(dx->data), nn_steps_of(&x_group, of_group),
                     l));
    return NN_LAUNCH(groupnorm_bwd_any_params<T>, (unsigned)channels, GROUPNORM_ANY_THREADS, 0, c,
                     data_in<T>(c, DY), data_in<T>(c, X), f32_in(c, GAMMA), f32_in(c, BETA),
                     f32_in(c, MEAN), f32_in(c, RSTD), f32_out(c, DGAMMA), f32_out(c, DBETA),
                     nn_steps_of(&x_one, of_one), l);
}

nn_status groupnorm_bwd_run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[X].dtype, T, return bwd_as<T>(c));
}
