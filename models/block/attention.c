/* Attention as diffusers names it. */
#include "models/block/attention.h"

attention_source attention_project(nn_scope s, nn_tensor *context, int64_t width, int bias)
{
    const nn_scope at[] = { nn_at(s, "to_k"), nn_at(s, "to_v") };
    nn_tensor *part[2]; /* [B, S, C] */
    linear_split(2, at, context, width, bias, part);
    return (attention_source){ .k = part[0], .v = part[1] };
}

nn_tensor *cross_attention(nn_scope s, nn_tensor *x, attention_source source, int heads, int bias,
                           nn_tensor *residual)
{
    int64_t width = nn_last(&x->view, 0);
    nn_tensor *part[3]; /* [B, T, C] */
    if (source.context == x) {
        const nn_scope at[] = { nn_at(s, "to_q"), nn_at(s, "to_k"), nn_at(s, "to_v") };
        linear_split(3, at, x, width, bias, part);
        source = (attention_source){ .k = part[1], .v = part[2] };
    } else {
        part[0] = linear(nn_at(s, "to_q"), x, width, bias);
        if (source.context) source = attention_project(s, source.context, width, bias);
    }
    nn_enter(s);
    nn_tensor *y =
        nn_attention(s.g, split_heads(s.g, part[0], heads), split_heads(s.g, source.k, heads),
                     split_heads(s.g, source.v, heads), NULL, (nn_attend){ 0 });
    return linear_onto(nn_at(s, "to_out.0"), join_heads(s.g, y), residual); /* [B, T, C] */
}
