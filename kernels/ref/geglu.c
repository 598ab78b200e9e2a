/* Oracle of geglu and its gradient. */
#include <math.h>

#include "kernels/ref/ref.h"

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double normal_density(double x)
{
    return exp(-0.5 * x * x) * (0.5 * M_2_SQRTPI * M_SQRT1_2);
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    int64_t half = nn_last(y, 0) * x->stride[x->rank - 1];
    NN_REF_EACH(i, y)
    {
        int64_t at = nn_ref_offset(x, &i);
        double gate = nn_ref_get(x, at + half);
        nn_ref_put(y, nn_ref_offset(y, &i), nn_ref_get(x, at) * gate * normal_cdf(gate));
    }
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *x = &c->in[1], *dx = &c->out[0];
    int64_t half = nn_last(dy, 0);
    NN_REF_EACH(i, dy)
    {
        int64_t at = nn_ref_offset(x, &i), to = nn_ref_offset(dx, &i);
        double d = nn_ref_get(dy, nn_ref_offset(dy, &i)), value = nn_ref_get(x, at);
        double gate = nn_ref_get(x, at + half * x->stride[x->rank - 1]), cdf = normal_cdf(gate);
        nn_ref_put(dx, to, d * gate * cdf);
        nn_ref_put(dx, to + half * dx->stride[dx->rank - 1],
                   d * value * (cdf + gate * normal_density(gate)));
    }
    return NN_OK;
}

const nn_kernel nn_ref_geglu[] = { { .name = "geglu_any", .run = run }, { 0 } };
const nn_kernel nn_ref_geglu_bwd[] = { { .name = "geglu_bwd_any", .run = run_bwd }, { 0 } };
