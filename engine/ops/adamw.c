/* One step of AdamW on flat buffers, in place: clipping, decay, moments, update and moving average
 * of the weights in one pass, and their bf16 copy where one is kept. Source: torch.optim.AdamW,
 * torch.nn.utils.clip_grad_norm_.
 *
 * The output is 1 if the step was taken, 0 if the norm was not finite: then nothing changes. */
#include "engine/nn.h"

enum { VALUES, GRADS, M, V, HYPER, NORM, EMA, HALF };

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *values = nn_in(n, VALUES);
    for (int i = GRADS; i <= HALF; i++) {
        const nn_view *x = nn_in(n, i);
        bool small = i == HYPER || i == NORM;
        int64_t elems = i == HYPER ? NN_HYPER_COUNT : 1;
        if (i >= EMA && !nn_present(x)) continue;
        nn_dtype dtype = i == HALF ? NN_BF16 : values->dtype;
        NN_WANT(n,
                x->dtype == dtype &&
                    (small ? nn_view_elems(x) == elems : nn_view_same_shape(x, values)),
                "operand %d is %s, the values are %s", i, nn_view_text(x).s,
                nn_view_text(values).s);
    }
    out[0] = nn_view_make(nn_stat_dtype(values), 1, (int64_t[]){ 1 });
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    double elems = (double)nn_view_elems(nn_in(n, VALUES));
    bool ema = nn_present(nn_in(n, EMA));
    *flops = (ema ? 18 : 15) * elems;
    *bytes = (ema ? 9 : 7) * elems * (double)nn_dtype_bytes(nn_in(n, VALUES)->dtype) +
             elems * (double)nn_dtype_bytes(nn_in(n, HALF)->dtype);
}

const nn_op nn_op_adamw = { .name = "adamw",
                            .params_bytes = sizeof(nn_adamw_params),
                            .infer = infer,
                            .cost = cost,
                            .mutates = true };
