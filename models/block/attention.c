/* Attention as diffusers names it. */
#include "models/block/attention.h"

attention_source attention_project(nn_scope s, nn_tensor *context, int64_t width, int bias)
{
    attention_source out = { .context = NULL };
    out.k = linear(nn_at(s, "to_k"), context, width, bias); /* [B, S, C] */
    out.v = linear(nn_at(s, "to_v"), context, width, bias); /* [B, S, C] */
    return out;
}

nn_tensor *cross_attention(nn_scope s, nn_tensor *x, attention_source source, int heads, int bias,
                           nn_tensor *residual)
{
    int64_t width = nn_last(&x->view, 0);
    nn_tensor *q = linear(nn_at(s, "to_q"), x, width, bias); /* [B, T, C] */
    if (source.context) source = attention_project(s, source.context, width, bias);
    nn_enter(s);
    nn_tensor *y = nn_attention(s.g, split_heads(s.g, q, heads), split_heads(s.g, source.k, heads),
                                split_heads(s.g, source.v, heads), NULL, (nn_attend){ 0 });
    return linear_onto(nn_at(s, "to_out.0"), join_heads(s.g, y), residual); /* [B, T, C] */
}
