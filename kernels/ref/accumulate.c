/* Oracle of accumulate: in[0] += in[1]. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    NN_REF_EACH(i, &c->in[0])
    {
        int64_t at = nn_ref_offset(&c->in[0], &i);
        nn_ref_put(&c->in[0], at,
                   nn_ref_get(&c->in[0], at) + nn_ref_get(&c->in[1], nn_ref_offset(&c->in[1], &i)));
    }
    nn_ref_put(&c->out[0], 0, 0);
    return NN_OK;
}

const nn_kernel nn_ref_accumulate[] = { { .name = "accumulate_any", .run = run }, { 0 } };
