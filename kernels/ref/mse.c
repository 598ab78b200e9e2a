/* Oracle of mse and its gradient. */
#include "kernels/ref/ref.h"

static double weight_of(const nn_view *weight, const nn_ref_index *i)
{
    return nn_present(weight) ? nn_ref_get(weight, i->at[0] * weight->stride[0]) : 1;
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->in[1], *weight = &c->in[2];
    double sum = 0;
    NN_REF_EACH(i, x)
    {
        double d = nn_ref_get(x, nn_ref_offset(x, &i)) - nn_ref_get(y, nn_ref_offset(y, &i));
        sum += weight_of(weight, &i) * d * d;
    }
    nn_ref_put(&c->out[0], 0, sum / (double)nn_view_elems(x));
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *x = &c->in[1], *y = &c->in[2], *weight = &c->in[3], *dx = &c->out[0];
    double scale = 2 * nn_ref_get(&c->in[0], 0) / (double)nn_view_elems(x);
    NN_REF_EACH(i, x)
    {
        double d = nn_ref_get(x, nn_ref_offset(x, &i)) - nn_ref_get(y, nn_ref_offset(y, &i));
        nn_ref_put(dx, nn_ref_offset(dx, &i), scale * weight_of(weight, &i) * d);
    }
    return NN_OK;
}

const nn_kernel nn_ref_mse[] = { { .name = "mse_any", .run = run }, { 0 } };
const nn_kernel nn_ref_mse_bwd[] = { { .name = "mse_bwd_any", .run = run_bwd }, { 0 } };
