/* Oracle of norm. */
#include <math.h>

#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0];
    double sum = 0;
    NN_REF_EACH(i, x)
    {
        double value = nn_ref_get(x, nn_ref_offset(x, &i));
        sum += value * value;
    }
    nn_ref_put(&c->out[0], 0, sqrt(sum));
    return NN_OK;
}

const nn_kernel nn_ref_norm[] = { { .name = "norm_any", .run = run }, { 0 } };
