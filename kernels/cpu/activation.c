/* activation and its gradient: one loop per kind, made from one function on vectors. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/binary.h"

/* 1 where x > 0, NaN where x is. */
static nn_vf relu(nn_vf x)
{
    return nn_vmax(nn_set(0), x);
}

static nn_vf relu_slope(nn_vf x)
{
    return nn_select(x > 0.0f, nn_set(1), nn_set(0));
}

/* gelu_tanh(x) = x / 2 * (1 + tanh(u)) = x * sigmoid(2 u) */
static nn_vf gelu_2u(nn_vf x)
{
    return x * (1.59576912f + 0.0713548162f * x * x);
}

static nn_vf gelu_tanh(nn_vf x)
{
    return x * nn_vsigmoid(gelu_2u(x));
}

static nn_vf gelu_tanh_slope(nn_vf x)
{
    nn_vf s = nn_vsigmoid(gelu_2u(x));
    return s + x * (s * (1.0f - s)) * (1.59576912f + 0.214064449f * x * x);
}

static nn_vf quick_gelu(nn_vf x)
{
    return x * nn_vsigmoid(1.702f * x);
}

static nn_vf quick_gelu_slope(nn_vf x)
{
    nn_vf s = nn_vsigmoid(1.702f * x);
    return s * (1.0f + 1.702f * x * (1.0f - s));
}

static nn_vf gelu_slope(nn_vf x)
{
    return nn_vgelu_slope(x, nn_vnormal_cdf(x));
}

static nn_vf sigmoid_slope(nn_vf x)
{
    nn_vf s = nn_vsigmoid(x);
    return s * (1.0f - s);
}

static nn_vf tanh_slope(nn_vf x)
{
    nn_vf t = nn_vtanh(x);
    return 1.0f - t * t;
}

static nn_vf abs_slope(nn_vf x)
{
    return nn_select(x > 0.0f, nn_set(1), nn_select(x < 0.0f, nn_set(-1), nn_set(0)));
}

static nn_vf square(nn_vf x)
{
    return x * x;
}

static nn_vf square_slope(nn_vf x)
{
    return 2.0f * x;
}

typedef struct job {
    nn_walk walk; /* views: y, x */
    float *y;
    const float *x;
} job;

NN_INLINE void forward(const job *j, int64_t begin, int64_t end, nn_vf f(nn_vf))
{
    int64_t step = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        float *y = j->y + r.at[0];
        const float *x = j->x + r.at[1];
        int64_t i = 0;
        for (; i + NN_LANES <= r.n; i += NN_LANES)
            nn_store(y + i, f(nn_load_step(x + i * step, step, NN_LANES)));
        if (i < r.n) nn_store_n(y + i, f(nn_load_step(x + i * step, step, r.n - i)), r.n - i);
    }
}

#define KIND(name, value, slope)                                                                   \
    static void name##_part(void *ctx, int thread, int64_t begin, int64_t end)                     \
    {                                                                                              \
        (void)thread;                                                                              \
        forward(ctx, begin, end, value);                                                           \
    }                                                                                              \
    static nn_vf name##_bwd(nn_vf dy, nn_vf x)                                                     \
    {                                                                                              \
        return dy * slope(x);                                                                      \
    }                                                                                              \
    static void name##_bwd_part(void *ctx, int thread, int64_t begin, int64_t end)                 \
    {                                                                                              \
        (void)thread;                                                                              \
        nn_binary_part(ctx, begin, end, name##_bwd);                                               \
    }

KIND(relu, relu, relu_slope)
KIND(silu, nn_vsilu, nn_vsilu_slope)
KIND(gelu, nn_vgelu, gelu_slope)
KIND(gelu_tanh, gelu_tanh, gelu_tanh_slope)
KIND(quick_gelu, quick_gelu, quick_gelu_slope)
KIND(sigmoid, nn_vsigmoid, sigmoid_slope)
KIND(tanh, nn_vtanh, tanh_slope)
KIND(exp, nn_vexp, nn_vexp)
KIND(abs, nn_vabs, abs_slope)
KIND(square, square, square_slope)

static bool accepts(const nn_call *c)
{
    return c->in[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    static nn_pool_fn *const part[] = {
        [NN_ACT_RELU] = relu_part,
        [NN_ACT_SILU] = silu_part,
        [NN_ACT_GELU] = gelu_part,
        [NN_ACT_GELU_TANH] = gelu_tanh_part,
        [NN_ACT_QUICK_GELU] = quick_gelu_part,
        [NN_ACT_SIGMOID] = sigmoid_part,
        [NN_ACT_TANH] = tanh_part,
        [NN_ACT_EXP] = exp_part,
        [NN_ACT_ABS] = abs_part,
        [NN_ACT_SQUARE] = square_part,
    };
    const nn_activation_params *p = c->params;
    const nn_view *views[] = { &c->out[0], &c->in[0] };
    job j = { nn_walk_make(views[0], 2, views), c->out[0].data, c->in[0].data };
    nn_pool_for(c->pool, j.walk.n, NN_WALK_GRAIN, part[p->kind], &j);
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    static nn_pool_fn *const part[] = {
        [NN_ACT_RELU] = relu_bwd_part,
        [NN_ACT_SILU] = silu_bwd_part,
        [NN_ACT_GELU] = gelu_bwd_part,
        [NN_ACT_GELU_TANH] = gelu_tanh_bwd_part,
        [NN_ACT_QUICK_GELU] = quick_gelu_bwd_part,
        [NN_ACT_SIGMOID] = sigmoid_bwd_part,
        [NN_ACT_TANH] = tanh_bwd_part,
        [NN_ACT_EXP] = exp_bwd_part,
        [NN_ACT_ABS] = abs_bwd_part,
        [NN_ACT_SQUARE] = square_bwd_part,
    };
    const nn_activation_params *p = c->params;
    return nn_binary_run(c, part[p->kind]);
}

const nn_kernel NN_CPU_NAME(activation)[] = {
    { .name = "activation_f32_runs", .accepts = accepts, .run = run }, { 0 }
};
const nn_kernel NN_CPU_NAME(activation_bwd)[] = {
    { .name = "activation_bwd_f32_runs", .accepts = nn_binary_accepts, .run = run_bwd }, { 0 }
};
