/* Oracle of concat. */
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_concat_params *p = c->params;
    int64_t start = 0;
    for (int k = 0; k < c->n_in; k++) {
        const nn_view *x = &c->in[k];
        NN_REF_EACH(i, x)
        nn_ref_put(&c->out[0], nn_ref_offset(&c->out[0], &i) + start * c->out[0].stride[p->axis],
                   nn_ref_get(x, nn_ref_offset(x, &i)));
        start += x->dim[p->axis];
    }
    return NN_OK;
}

const nn_kernel nn_ref_concat[] = { { .name = "concat_any", .run = run }, { 0 } };
