/* Oracle of timestep. In f32 the order of operations is the published one, because t = 999 in f32
 * shows it: multiply, divide, exp, multiply, cos, each rounded to f32. f64 rounds nowhere. */
#include <math.h>

#include "kernels/ref/ref.h"

static const double log_10000 = 9.210340371976184;

static double angle_f32(double t, int64_t i, int64_t half)
{
    float power = (float)-log_10000 * (float)i;
    return (float)t * expf(power / (float)half);
}

static nn_status run(const nn_call *c)
{
    const nn_timestep_params *p = c->params;
    const nn_view *t = &c->in[0], *y = &c->out[0];
    const int64_t half = p->dim / 2;
    for (int64_t n = 0; n < t->dim[0]; n++) {
        for (int64_t i = 0; i < half; i++) {
            double tn = nn_ref_get(t, n * t->stride[0]);
            double angle = t->dtype == NN_F64 ? tn * exp(-log_10000 * (double)i / (double)half)
                                              : angle_f32(tn, i, half);
            int64_t row = n * y->stride[0];
            nn_ref_put(y, row + i * y->stride[1], cos(angle));
            nn_ref_put(y, row + (half + i) * y->stride[1], sin(angle));
        }
    }
    return NN_OK;
}

const nn_kernel nn_ref_timestep[] = { { .name = "timestep_any", .run = run }, { 0 } };
