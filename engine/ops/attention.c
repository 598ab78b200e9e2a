/* y = softmax(q k^T * scale) v per head, and lse, the logarithm of the softmax's denominator, which
 * lets backward compute the probabilities again instead of keeping them. Source: Dao et al. 2022,
 * FlashAttention; equals torch scaled_dot_product_attention. */
#include "engine/nn.h"

#include <math.h>

enum { Q, K, V, MASK };                         /* of attention */
enum { Y, LSE };                                /* its outputs */
enum { DY, Q_B, K_B, V_B, Y_B, LSE_B, MASK_B }; /* of attention_bwd */
enum { DQ, DK, DV };                            /* its outputs */

nn_tensor *nn_attention(nn_graph *g, nn_tensor *q, nn_tensor *k, nn_tensor *v, nn_tensor *key_mask,
                        nn_attend attend)
{
    nn_attention_params p = { attend.scale, attend.causal, attend.prefix };
    if (p.scale == 0) p.scale = 1 / sqrt((double)nn_max(q->view.dim[3], 1));
    return NN_NODE(g, ATTENTION, &p, nn_lower(g, q), nn_lower(g, k), nn_lower(g, v), key_mask);
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *q = nn_in(n, Q), *k = nn_in(n, K), *v = nn_in(n, V), *mask = nn_in(n, MASK);
    const nn_attention_params *p = n->params;
    NN_WANT(n,
            q->rank == 4 && k->rank == 4 && nn_view_same_shape(k, v) && q->dim[0] == k->dim[0] &&
                q->dim[2] == k->dim[2] && q->dim[3] == k->dim[3],
            "q is %s, k is %s, v is %s: expected [B,Tq,H,D] and twice [B,Tk,H,D]",
            nn_view_text(q).s, nn_view_text(k).s, nn_view_text(v).s);
    NN_WANT(n, q->dtype == k->dtype && q->dtype == v->dtype && q->dtype != NN_I32,
            "q is %s, k is %s, v is %s: expected one float type", nn_view_text(q).s,
            nn_view_text(k).s, nn_view_text(v).s);
    NN_WANT(n,
            !nn_present(mask) || (mask->dtype == NN_I32 && mask->rank == 2 &&
                                  mask->dim[0] == k->dim[0] && mask->dim[1] == k->dim[1]),
            "key_mask is %s, k is %s: expected i32 [B,Tk]", nn_view_text(mask).s,
            nn_view_text(k).s);
    NN_WANT(n, p->prefix >= 0, "prefix is %lld, expected 0 or more", (long long)p->prefix);
    out[Y] = nn_like(q);
    out[LSE] = nn_view_make(nn_stat_dtype(q), 3, (int64_t[]){ q->dim[0], q->dim[2], q->dim[1] });
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (!dy[Y]) return NN_OK;
    dx[Q] = NN_NODE(g, ATTENTION_BWD, n->params, dy[Y], n->in[Q], n->in[K], n->in[V], n->out[Y],
                    n->out[LSE], n->in[MASK]);
    dx[K] = nn_sibling(dx[Q], DK);
    dx[V] = nn_sibling(dx[Q], DV);
    return NN_OK;
}

/* One product of a score matrix: [Tq,D] with [D,Tk] and the like, for all heads. What a causal mask
 * hides counts too, as is the custom. */
static double product_flops(const nn_view *q, const nn_view *k)
{
    return 2.0 * (double)nn_view_elems(q) * (double)k->dim[1];
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 2 * product_flops(nn_in(n, Q), nn_in(n, K));
}

const nn_op nn_op_attention = { .name = "attention",
                                .params_bytes = sizeof(nn_attention_params),
                                .infer = infer,
                                .grad = grad,
                                .cost = cost,
                                .n_out = 2 };

static nn_status infer_bwd(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY), *q = nn_in(n, Q_B);
    NN_WANT(n, nn_view_same_shape(dy, q) && dy->dtype == q->dtype, "dy is %s, q is %s",
            nn_view_text(dy).s, nn_view_text(q).s);
    out[DQ] = nn_like(nn_in(n, Q_B));
    out[DK] = nn_like(nn_in(n, K_B));
    out[DV] = nn_like(nn_in(n, V_B));
    return NN_OK;
}

static void cost_bwd(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    *flops = 5 * product_flops(nn_in(n, Q_B), nn_in(n, K_B));
}

const nn_op nn_op_attention_bwd = { .name = "attention_bwd",
                                    .params_bytes = sizeof(nn_attention_params),
                                    .infer = infer_bwd,
                                    .cost = cost_bwd,
                                    .n_out = 3 };
