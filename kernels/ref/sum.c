/* Oracle of sum: every output element adds up its own part of x. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    NN_REF_EACH(o, y)
    {
        nn_view part = *x; /* x restricted to what this element sums over */
        int64_t base = 0;
        for (int d = 0; d < x->rank; d++) {
            if (y->dim[d] == 1) continue;
            base += o.at[d] * x->stride[d];
            part.dim[d] = 1;
        }
        double sum = 0;
        NN_REF_EACH(i, &part) sum += nn_ref_get(x, base + nn_ref_offset(&part, &i));
        nn_ref_put(y, nn_ref_offset(y, &o), sum);
    }
    return NN_OK;
}

const nn_kernel nn_ref_sum[] = { { .name = "sum_any", .run = run }, { 0 } };
