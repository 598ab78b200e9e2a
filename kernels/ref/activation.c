/* Oracle of activation and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double normal_density(double x)
{
    return exp(-0.5 * x * x) * (0.5 * M_2_SQRTPI * M_SQRT1_2);
}

/* The tanh form of gelu is x / 2 * (1 + tanh(u)). */
static double gelu_u(double x)
{
    return M_2_SQRTPI * M_SQRT1_2 * (x + 0.044715 * x * x * x);
}

static double value(nn_act kind, double x)
{
    switch (kind) {
    case NN_ACT_RELU:
        return x > 0 ? x : 0;
    case NN_ACT_SILU:
        return x * sigmoid(x);
    case NN_ACT_GELU:
        return x * normal_cdf(x);
    case NN_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(gelu_u(x)));
    case NN_ACT_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    case NN_ACT_SIGMOID:
        return sigmoid(x);
    case NN_ACT_TANH:
        return tanh(x);
    case NN_ACT_EXP:
        return exp(x);
    case NN_ACT_ABS:
        return fabs(x);
    case NN_ACT_SQUARE:
        return x * x;
    }
    return NAN;
}

static double slope(nn_act kind, double x)
{
    double s, t, du;
    switch (kind) {
    case NN_ACT_RELU:
        return x > 0;
    case NN_ACT_SILU:
        s = sigmoid(x);
        return s * (1 + x * (1 - s));
    case NN_ACT_GELU:
        return normal_cdf(x) + x * normal_density(x);
    case NN_ACT_GELU_TANH:
        t = tanh(gelu_u(x));
        du = M_2_SQRTPI * M_SQRT1_2 * (1 + 3 * 0.044715 * x * x);
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du;
    case NN_ACT_QUICK_GELU:
        s = sigmoid(1.702 * x);
        return s * (1 + 1.702 * x * (1 - s));
    case NN_ACT_SIGMOID:
        s = sigmoid(x);
        return s * (1 - s);
    case NN_ACT_TANH:
        t = tanh(x);
        return 1 - t * t;
    case NN_ACT_EXP:
        return exp(x);
    case NN_ACT_ABS:
        return (x > 0) - (x < 0);
    case NN_ACT_SQUARE:
        return 2 * x;
    }
    return NAN;
}

static nn_status run(const nn_call *c)
{
    const nn_activation_params *p = c->params;
    NN_REF_EACH(i, &c->out[0])
    nn_ref_put(&c->out[0], nn_ref_offset(&c->out[0], &i),
               value(p->kind, nn_ref_get(&c->in[0], nn_ref_offset(&c->in[0], &i))));
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_activation_params *p = c->params;
    NN_REF_EACH(i, &c->out[0])
    nn_ref_put(&c->out[0], nn_ref_offset(&c->out[0], &i),
               nn_ref_get(&c->in[0], nn_ref_offset(&c->in[0], &i)) *
                   slope(p->kind, nn_ref_get(&c->in[1], nn_ref_offset(&c->in[1], &i))));
    return NN_OK;
}

const nn_kernel nn_ref_activation[] = { { .name = "activation_any", .run = run }, { 0 } };
const nn_kernel nn_ref_activation_bwd[] = { { .name = "activation_bwd_any", .run = run_bwd },
                                            { 0 } };
