/* Oracle of scale. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_scale_params *p = c->params;
    NN_REF_EACH(i, &c->out[0])
    nn_ref_put(&c->out[0], nn_ref_offset(&c->out[0], &i),
               nn_ref_get(&c->in[0], nn_ref_offset(&c->in[0], &i)) * p->factor + p->offset);
    return NN_OK;
}

const nn_kernel nn_ref_scale[] = { { .name = "scale_any", .run = run }, { 0 } };
