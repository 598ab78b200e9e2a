/* Oracle of focal and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double cross_entropy(double x, double y)
{
    return fmax(x, 0) - x * y + log1p(exp(-fabs(x)));
}

static double slope(double x, double y, double gamma)
{
    double p = sigmoid(x), miss = fabs(p - y);
    double direct = pow(miss, gamma) * (p - y);
    if (!(miss > 0) || gamma == 0) return direct;
    return direct +
           gamma * pow(miss, gamma - 1) * copysign(p * (1 - p), p - y) * cross_entropy(x, y);
}

static nn_status run(const nn_call *c)
{
    const nn_focal_params *p = c->params;
    const nn_view *x = &c->in[0], *y = &c->in[1];
    double sum = 0;
    NN_REF_EACH(i, x)
    {
        double xi = nn_ref_get(x, nn_ref_offset(x, &i)), yi = nn_ref_get(y, nn_ref_offset(y, &i));
        sum += pow(fabs(sigmoid(xi) - yi), p->gamma) * cross_entropy(xi, yi);
    }
    nn_ref_put(&c->out[0], 0, sum / (double)x->dim[0]);
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_focal_params *p = c->params;
    const nn_view *x = &c->in[1], *y = &c->in[2], *dx = &c->out[0];
    double scale = nn_ref_get(&c->in[0], 0) / (double)x->dim[0];
    NN_REF_EACH(i, x)
    {
        double xi = nn_ref_get(x, nn_ref_offset(x, &i)), yi = nn_ref_get(y, nn_ref_offset(y, &i));
        nn_ref_put(dx, nn_ref_offset(dx, &i), scale * slope(xi, yi, p->gamma));
    }
    return NN_OK;
}

const nn_kernel nn_ref_focal[] = { { .name = "focal_any", .run = run }, { 0 } };
const nn_kernel nn_ref_focal_bwd[] = { { .name = "focal_bwd_any", .run = run_bwd }, { 0 } };
