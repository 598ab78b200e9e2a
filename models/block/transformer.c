/* Stable Diffusion's transformer blocks. */
#include "models/block/transformer.h"

static const double layernorm_eps = 1e-5, groupnorm_eps = 1e-6;

static nn_tensor *feed_forward(nn_scope s, nn_tensor *x, nn_tensor *residual)
{
    int64_t width = nn_last(&x->view, 0);
    nn_tensor *h = linear(nn_at(s, "net.0.proj"), x, 8 * width, BIAS); /* [B, T, 8C]: value, gate */
    h = nn_geglu(s.g, h);                                              /* [B, T, 4C] */
    return linear_onto(nn_at(s, "net.2"), h, residual);                /* [B, T, C]  */
}

nn_tensor *transformer_block(nn_scope s, nn_tensor *x, attention_source text, int heads)
{
    nn_tensor *h = layernorm(nn_at(s, "norm1"), x, layernorm_eps);
    attention_source itself = { .context = h };
    x = cross_attention(nn_at(s, "attn1"), h, itself, heads, NO_BIAS, x); /* [B, T, C] */
    h = layernorm(nn_at(s, "norm2"), x, layernorm_eps);
    x = cross_attention(nn_at(s, "attn2"), h, text, heads, NO_BIAS, x);
    h = layernorm(nn_at(s, "norm3"), x, layernorm_eps);
    return feed_forward(nn_at(s, "ff"), h, x);
}

nn_tensor *spatial_transformer(nn_scope s, nn_tensor *x, attention_source text, int heads,
                               int groups)
{
    int64_t n = x->view.dim[0], height = x->view.dim[1], width = x->view.dim[2];
    int64_t channels = nn_last(&x->view, 0);
    nn_tensor *h = groupnorm(nn_at(s, "norm"), x, groups, groupnorm_eps);
    h = conv_same(nn_at(s, "proj_in"), h, channels, 1);
    h = nn_reshape(s.g, h, 3, (int64_t[]){ n, height * width, channels }); /* [N, HW, C] */
    h = transformer_block(nn_at(s, "transformer_blocks.0"), h, text, heads);
    h = nn_reshape(s.g, h, 4, (int64_t[]){ n, height, width, channels }); /* [N, H, W, C] */
    return conv(nn_at(s, "proj_out"), h, channels, 1, (nn_conv){ .stride = 1 }, NULL, x);
}

attention_source spatial_transformer_text(nn_scope s, nn_tensor *context, int64_t width)
{
    return attention_project(nn_at(s, "transformer_blocks.0.attn2"), context, width, NO_BIAS);
}
