/* AutoencoderKL: residual blocks without time, one attention head in the middle, all group norms
 * with eps 1e-6. */
#include "models/vae.h"

#include "models/block/attention.h"
#include "models/block/resnet.h"

static const double eps = 1e-6;

vae_config vae_config_sd14(void)
{
    return (vae_config){ .in_channels = 3,
                         .out_channels = 3,
                         .latent_channels = 4,
                         .n_blocks = 4,
                         .layers_per_block = 2,
                         .norm_num_groups = 32,
                         .block_out_channels = { 128, 256, 512, 512 },
                         .scaling_factor = 0.18215 };
}

nn_status vae_config_parse(const nn_json *json, vae_config *out)
{
    vae_config c = vae_config_sd14();
    NN_TRY(nn_json_int64(json, "in_channels", &c.in_channels));
    NN_TRY(nn_json_int64(json, "out_channels", &c.out_channels));
    NN_TRY(nn_json_int64(json, "latent_channels", &c.latent_channels));
    NN_TRY(nn_json_int(json, "layers_per_block", &c.layers_per_block));
    NN_TRY(nn_json_int(json, "norm_num_groups", &c.norm_num_groups));
    NN_TRY(nn_json_double(json, "scaling_factor", &c.scaling_factor));
    if (nn_json_has(json, "block_out_channels"))
        NN_TRY(nn_json_ints(json, "block_out_channels", VAE_MAX_BLOCKS, c.block_out_channels,
                            &c.n_blocks));
    for (int i = 0; i < c.n_blocks; i++)
        if (c.norm_num_groups < 1 || c.block_out_channels[i] < 1 ||
            c.block_out_channels[i] % c.norm_num_groups)
            return nn_fail(NN_FORMAT, "%s: %lld channels in block %d cannot be cut into %d groups",
                           json->file, (long long)c.block_out_channels[i], i, c.norm_num_groups);
    *out = c;
    return NN_OK;
}

int vae_stride(const vae_config *c)
{
    return 1 << (c->n_blocks - 1);
}

static nn_tensor *resnet(nn_scope s, const vae_config *c, nn_tensor *x, int64_t out)
{
    return resnet_block(s, x, NULL, out, c->norm_num_groups, eps);
}

/* Every place attends to every place: x [N, H, W, C] -> [N, H, W, C]. */
static nn_tensor *attend(nn_scope s, const vae_config *c, nn_tensor *x)
{
    nn_view v = x->view;
    const int64_t tokens[] = { v.dim[0], v.dim[1] * v.dim[2], v.dim[3] }; /* [N, HW, C] */
    nn_tensor *h = groupnorm(nn_at(s, "group_norm"), x, c->norm_num_groups, eps);
    h = nn_reshape(s.g, h, 3, tokens);
    x = nn_reshape(s.g, x, 3, tokens);
    x = cross_attention(s, h, (attention_source){ .context = h }, 1, BIAS, x);
    return nn_reshape(s.g, x, 4, v.dim);
}

static nn_tensor *middle(nn_scope s, const vae_config *c, nn_tensor *x)
{
    int64_t channels = nn_last(&x->view, 0);
    x = resnet(nn_at(s, "resnets.0"), c, x, channels);
    x = attend(nn_at(s, "attentions.0"), c, x);
    return resnet(nn_at(s, "resnets.1"), c, x, channels);
}

nn_tensor *vae_encode(nn_scope s, const vae_config *c, nn_tensor *image)
{
    nn_scope e = nn_at(s, "encoder");
    nn_tensor *x =
        conv_same(nn_at(e, "conv_in"), image, c->block_out_channels[0], 3); /* [N, H, W, C0] */
    for (int b = 0; b < c->n_blocks; b++) {
        nn_scope block = nn_at(e, "down_blocks.%d", b);
        for (int i = 0; i < c->layers_per_block; i++)
            x = resnet(nn_at(block, "resnets.%d", i), c, x, c->block_out_channels[b]);
        if (b < c->n_blocks - 1)
            x = downsample(nn_at(block, "downsamplers.0"), x, false); /* half */
    }
    x = middle(nn_at(e, "mid_block"), c, x);
    x = groupnorm_silu(nn_at(e, "conv_norm_out"), x, c->norm_num_groups, eps);
    x = conv_same(nn_at(e, "conv_out"), x, 2 * c->latent_channels, 3); /* [N, h, w, 2L] */
    return conv_same(nn_at(s, "quant_conv"), x, 2 * c->latent_channels, 1);
}

nn_tensor *vae_decode(nn_scope s, const vae_config *c, nn_tensor *latent)
{
    nn_tensor *x = conv_same(nn_at(s, "post_quant_conv"), latent, c->latent_channels, 1);
    nn_scope d = nn_at(s, "decoder");
    x = conv_same(nn_at(d, "conv_in"), x, c->block_out_channels[c->n_blocks - 1], 3);
    x = middle(nn_at(d, "mid_block"), c, x);
    for (int b = 0; b < c->n_blocks; b++) {
        nn_scope block = nn_at(d, "up_blocks.%d", b);
        int64_t channels = c->block_out_channels[c->n_blocks - 1 - b];
        for (int i = 0; i <= c->layers_per_block; i++)
            x = resnet(nn_at(block, "resnets.%d", i), c, x, channels);
        if (b < c->n_blocks - 1)
            x = upsample(nn_at(block, "upsamplers.0"), x, 2 * x->view.dim[1], 2 * x->view.dim[2]);
    }
    x = groupnorm_silu(nn_at(d, "conv_norm_out"), x, c->norm_num_groups, eps);
    return conv_same(nn_at(d, "conv_out"), x, c->out_channels, 3); /* [N, f h, f w, 3] */
}
