/* A vision transformer: patches, a class token, positions, blocks with the norms in front. */
#include "models/vit.h"

#include "models/block/config.h"
#include "models/block/layers.h"

vit_config vit_config_blip_base(void)
{
    return (vit_config){ .image_size = 384,
                         .patch_size = 16,
                         .hidden_size = 768,
                         .intermediate_size = 3072,
                         .n_layers = 12,
                         .heads = 12,
                         .act = NN_ACT_GELU,
                         .eps = 1e-5,
                         .position_std = 0.02 };
}

nn_status vit_config_parse(const nn_json *json, vit_config *out)
{
    vit_config c = vit_config_blip_base();
    NN_TRY(nn_json_int64(json, "image_size", &c.image_size));
    NN_TRY(nn_json_int64(json, "patch_size", &c.patch_size));
    NN_TRY(nn_json_int64(json, "hidden_size", &c.hidden_size));
    NN_TRY(nn_json_int64(json, "intermediate_size", &c.intermediate_size));
    NN_TRY(nn_json_int(json, "num_hidden_layers", &c.n_layers));
    NN_TRY(nn_json_int(json, "num_attention_heads", &c.heads));
    NN_TRY(nn_json_double(json, "layer_norm_eps", &c.eps));
    NN_TRY(nn_json_double(json, "position_init_std", &c.position_std));
    NN_TRY(config_activation(json, "hidden_act", &c.act));
    NN_TRY(config_check_heads(json, c.hidden_size, c.heads));
    if (c.patch_size < 1 || c.image_size < 1 || c.image_size % c.patch_size)
        return nn_fail(NN_FORMAT, "%s: image_size %lld is not a multiple of patch_size %lld",
                       json->file, (long long)c.image_size, (long long)c.patch_size);
    *out = c;
    return NN_OK;
}

int64_t vit_tokens(const vit_config *c)
{
    int64_t side = c->image_size / c->patch_size;
    return 1 + side * side;
}

/* Both add to what they come from. */

static nn_tensor *self_attention(nn_scope s, const vit_config *c, nn_tensor *x, nn_tensor *residual)
{
    nn_tensor *part[3];
    nn_tensor *qkv = linear(nn_at(s, "qkv"), x, 3 * c->hidden_size, BIAS); /* [B, T, 3C] */
    nn_split(s.g, qkv, 3, part);
    nn_tensor *y =
        nn_attention(s.g, split_heads(s.g, part[0], c->heads), split_heads(s.g, part[1], c->heads),
                     split_heads(s.g, part[2], c->heads), NULL, (nn_attend){ 0 });
    return linear_onto(nn_at(s, "projection"), join_heads(s.g, y), residual); /* [B, T, C] */
}

static nn_tensor *mlp(nn_scope s, const vit_config *c, nn_tensor *x, nn_tensor *residual)
{
    nn_tensor *h = linear(nn_at(s, "fc1"), x, c->intermediate_size, BIAS); /* [B, T, 4C] */
    h = nn_activation(s.g, h, c->act);
    return linear_onto(nn_at(s, "fc2"), h, residual);
}

/* Patches as a convolution whose stride is its size, behind the class token, plus positions. */
static nn_tensor *embed(nn_scope s, const vit_config *c, nn_tensor *pixels)
{
    int64_t n = pixels->view.dim[0], width = c->hidden_size, tokens = vit_tokens(c);
    nn_tensor *x =
        conv(nn_at(s, "patch_embedding"), pixels, width, (int)c->patch_size,
             (nn_conv){ .stride = (int)c->patch_size }, NULL, NULL); /* [B, S/p, S/p, C] */
    x = nn_reshape(s.g, x, 3, (int64_t[]){ n, -1, width });
    nn_enter(s);
    const nn_init draw = NN_NORMAL((float)c->position_std);
    nn_tensor *token = nn_param_at(s, "class_embedding", draw, 3, (int64_t[]){ 1, 1, width });
    nn_tensor *position =
        nn_param_at(s, "position_embedding", draw, 3, (int64_t[]){ 1, tokens, width });
    nn_tensor *both[] = { nn_broadcast(s.g, token, 3, (int64_t[]){ n, 1, width }), x };
    return nn_add(s.g, nn_concat(s.g, 2, both, 1), position); /* [B, T, C] */
}

nn_tensor *vit(nn_scope s, const vit_config *c, nn_tensor *pixels)
{
    nn_tensor *x = embed(nn_at(s, "embeddings"), c, pixels);
    for (int i = 0; i < c->n_layers; i++) {
        nn_scope l = nn_at(s, "encoder.layers.%d", i);
        nn_tensor *h = layernorm(nn_at(l, "layer_norm1"), x, c->eps);
        x = self_attention(nn_at(l, "self_attn"), c, h, x); /* [B, T, C] */
        h = layernorm(nn_at(l, "layer_norm2"), x, c->eps);
        x = mlp(nn_at(l, "mlp"), c, h, x);
    }
    return layernorm(nn_at(s, "post_layernorm"), x, c->eps);
}
