/* Oracle of upsample: gather forward; backward, each place of dx sums what was read from it. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *y = &c->out[0];
    NN_REF_EACH(i, y)
    {
        nn_ref_index from = i;
        for (int d = 1; d <= 2; d++) from.at[d] = nn_upsample_source(i.at[d], x->dim[d], y->dim[d]);
        nn_ref_put(y, nn_ref_offset(y, &i), nn_ref_get(x, nn_ref_offset(x, &from)));
    }
    return NN_OK;
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *dx = &c->out[0];
    NN_REF_EACH(i, dx)
    {
        nn_ref_index from = i;
        double sum = 0;
        for (from.at[1] = 0; from.at[1] < dy->dim[1]; from.at[1]++) {
            if (nn_upsample_source(from.at[1], dx->dim[1], dy->dim[1]) != i.at[1]) continue;
            for (from.at[2] = 0; from.at[2] < dy->dim[2]; from.at[2]++)
                if (nn_upsample_source(from.at[2], dx->dim[2], dy->dim[2]) == i.at[2])
                    sum += nn_ref_get(dy, nn_ref_offset(dy, &from));
        }
        nn_ref_put(dx, nn_ref_offset(dx, &i), sum);
    }
    return NN_OK;
}

const nn_kernel nn_ref_upsample[] = { { .name = "upsample_any", .run = run }, { 0 } };
const nn_kernel nn_ref_upsample_bwd[] = { { .name = "upsample_bwd_any", .run = run_bwd }, { 0 } };
