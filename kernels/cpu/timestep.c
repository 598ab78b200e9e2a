/* timestep_f32: every operation is rounded to f32 in the published order, as in the oracle. */
#include <math.h>

#include "kernels/cpu/cpu.h"

static nn_status run(const nn_call *c)
{
    const nn_timestep_params *p = c->params;
    const nn_view *t = &c->in[0];
    const float minus_log_10000 = -9.210340371976184f;
    const int64_t half = p->dim / 2;
    float *y = c->out[0].data;
    for (int64_t i = 0; i < half; i++) {
        float power = minus_log_10000 * (float)i;
        float frequency = expf(power / (float)half);
        for (int64_t n = 0; n < t->dim[0]; n++) {
            float angle = ((const float *)t->data)[n * t->stride[0]] * frequency;
            y[n * p->dim + i] = cosf(angle);
            y[n * p->dim + half + i] = sinf(angle);
        }
    }
    return NN_OK;
}

static bool accepts(const nn_call *c)
{
    return c->in[0].dtype == NN_F32;
}

const nn_kernel NN_CPU_NAME(timestep)[] = {
    { .name = "timestep_f32", .accepts = accepts, .run = run }, { 0 }
};
