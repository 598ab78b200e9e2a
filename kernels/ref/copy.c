/* Oracle of copy. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    NN_REF_EACH(i, &c->out[0])
    nn_ref_put(&c->out[0], nn_ref_offset(&c->out[0], &i),
               nn_ref_get(&c->in[0], nn_ref_offset(&c->in[0], &i)));
    return NN_OK;
}

const nn_kernel nn_ref_copy[] = { { .name = "copy_any", .run = run }, { 0 } };
