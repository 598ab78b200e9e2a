/* Equal parts of the last dimension, as views of x. One node, so that backward joins the parts
 * once. */
#include "engine/nn.h"

void nn_split(nn_graph *g, nn_tensor *x, int n, nn_tensor *out[])
{
    nn_tensor *first = NN_NODE(g, SPLIT, &(nn_split_params){ n }, x);
    for (int i = 0; i < n; i++) out[i] = nn_sibling(first, i);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_split_params *p = n->params;
    const nn_view *x = nn_in(n, 0);
    NN_WANT(n, p->parts >= 1 && p->parts <= NN_MAX_OUT && nn_last(x, 0) % p->parts == 0,
            "x is %s: cannot be cut into %d equal parts", nn_view_text(x).s, p->parts);
    for (int i = 0; i < p->parts; i++) {
        out[i] = *x;
        out[i].dim[x->rank - 1] /= p->parts;
    }
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    nn_tensor *parts[NN_MAX_OUT];
    nn_dtype dtype = NN_NONE; /* all gradients that arrive have one */
    for (int i = 0; i < n->n_out; i++)
        if (dy[i]) dtype = dy[i]->view.dtype;
    for (int i = 0; i < n->n_out; i++) {
        const nn_view *v = &n->out[i]->view;
        parts[i] = dy[i] ? dy[i] : nn_fill(g, dtype, v->rank, v->dim, 0);
    }
    dx[0] = nn_concat(g, n->n_out, parts, -1);
    return NN_OK;
}

const nn_op nn_op_split = { .name = "split",
                            .params_bytes = sizeof(nn_split_params),
                            .infer = infer,
                            .grad = grad,
                            .is_view = true };
