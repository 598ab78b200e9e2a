/* Sinusoidal embedding of the diffusion time: cos(t f_i), then sin(t f_i), f_i = 10000^(-i / half).
 * Source: diffusers get_timestep_embedding with flip_sin_to_cos = true, downscale_freq_shift = 0.
 * t needs no gradient. */
#include "engine/nn.h"

nn_tensor *nn_timestep(nn_graph *g, nn_tensor *t, int64_t dim)
{
    return NN_NODE(g, TIMESTEP, &(nn_timestep_params){ dim }, t);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_timestep_params *p = n->params;
    const nn_view *t = nn_in(n, 0);
    NN_WANT(n, t->rank == 1 && t->dtype != NN_I32, "t is %s, floats [N] are expected",
            nn_view_text(t).s);
    NN_WANT(n, p->dim > 0 && p->dim % 2 == 0, "the dimension %lld is not even and positive",
            (long long)p->dim);
    out[0] = nn_view_make(t->dtype, 2, (int64_t[]){ t->dim[0], p->dim });
    return NN_OK;
}

const nn_op nn_op_timestep = { .name = "timestep",
                               .params_bytes = sizeof(nn_timestep_params),
                               .infer = infer };
