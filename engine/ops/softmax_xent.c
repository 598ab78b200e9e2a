/* Mean cross-entropy of logits, with label smoothing. Source: torch.nn.functional.cross_entropy.
 *
 * The probabilities are never stored: backward makes them from the logits and the saved log of the
 * sum of exponentials, and may write over the logits. */
#include "engine/nn.h"

enum { LOGITS, LABELS };                     /* of softmax_xent */
enum { LOSS, LSE, COUNT };                   /* its outputs; count = labels that are not ignored */
enum { DY, LOGITS1, LABELS1, LSE1, COUNT1 }; /* of softmax_xent_bwd */

nn_tensor *nn_softmax_xent(nn_graph *g, nn_tensor *logits, nn_tensor *labels, double smoothing)
{
    return NN_NODE(g, SOFTMAX_XENT, &(nn_softmax_xent_params){ smoothing }, logits, labels);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_softmax_xent_params *p = n->params;
    const nn_view *logits = nn_in(n, LOGITS), *labels = nn_in(n, LABELS);
    NN_WANT(n, logits->rank >= 1 && nn_last(logits, 0) > 0, "logits are %s, [..., V] is expected",
            nn_view_text(logits).s);
    nn_view rows = nn_leading(logits, 1);
    NN_WANT(n, labels->dtype == NN_I32 && nn_view_same_shape(labels, &rows),
            "labels are %s, i32 of the leading shape of logits %s is expected",
            nn_view_text(labels).s, nn_view_text(logits).s);
    NN_WANT(n, p->smoothing >= 0 && p->smoothing <= 1, "label smoothing %g is not in [0, 1]",
            p->smoothing);
    out[LOSS] = out[COUNT] = nn_view_make(rows.dtype, 1, (int64_t[]){ 1 });
    out[LSE] = rows;
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (!dy[LOSS]) return NN_OK;
    dx[LOGITS] = NN_NODE(g, SOFTMAX_XENT_BWD, n->params, dy[LOSS], n->in[LOGITS], n->in[LABELS],
                         n->out[LSE], n->out[COUNT]);
    return NN_OK;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 4.0 * (double)nn_view_elems(nn_in(n, n->op == NN_OP_SOFTMAX_XENT ? LOGITS : LOGITS1));
}

const nn_op nn_op_softmax_xent = { .name = "softmax_xent",
                                   .params_bytes = sizeof(nn_softmax_xent_params),
                                   .infer = infer,
                                   .grad = grad,
                                   .cost = cost,
                                   .n_out = 3 };

/* dlogits = dy / count * (softmax - (1 - s) * onehot - s / V), 0 for ignored rows */
static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    out[0] = nn_like(nn_in(n, LOGITS1));
    return NN_OK;
}

const nn_op nn_op_softmax_xent_bwd = { .name = "softmax_xent_bwd",
                                       .params_bytes = sizeof(nn_softmax_xent_params),
                                       .infer = infer_bwd,
                                       .cost = cost,
                                       .inplace = 1u << LOGITS1 };
