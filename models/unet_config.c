/* The UNet's published configuration. */
#include <string.h>

#include "models/unet.h"

unet_config unet_config_sd14(void)
{
    return (unet_config){ .in_channels = 4,
                          .out_channels = 4,
                          .sample_size = 64,
                          .cross_attention_dim = 768,
                          .n_blocks = 4,
                          .layers_per_block = 2,
                          .norm_num_groups = 32,
                          .block_out_channels = { 320, 640, 1280, 1280 },
                          .heads = { 8, 8, 8, 8 },
                          .down_cross = { true, true, true, false },
                          .up_cross = { false, true, true, true },
                          .norm_eps = 1e-5 };
}

/* Block types: with cross-attention or without. */
static nn_status parse_blocks(const nn_json *json, const char *key, const char *with,
                              const char *without, int n, bool *cross)
{
    const char *name[UNET_MAX_BLOCKS];
    int found = 0;
    if (!nn_json_has(json, key)) return NN_OK;
    NN_TRY(nn_json_strings(json, key, UNET_MAX_BLOCKS, name, &found));
    if (found != n)
        return nn_fail(NN_FORMAT, "%s: %s has %d entries, block_out_channels has %d", json->file,
                       key, found, n);
    for (int i = 0; i < n; i++) {
        cross[i] = !strcmp(name[i], with);
        if (!cross[i] && strcmp(name[i], without) != 0)
            return nn_fail(NN_UNSUPPORTED, "%s: %s[%d] is '%s'; %s and %s are known", json->file,
                           key, i, name[i], with, without);
    }
    return NN_OK;
}

/* attention_head_dim is one number for all blocks or a list. */
static nn_status parse_heads(const nn_json *json, unet_config *c)
{
    int64_t heads[UNET_MAX_BLOCKS];
    int found = 0, one = 0;
    if (!nn_json_has(json, "attention_head_dim")) return NN_OK;
    if (nn_json_int(json, "attention_head_dim", &one) == NN_OK) {
        for (int i = 0; i < c->n_blocks; i++) c->heads[i] = one;
    } else {
        NN_TRY(nn_json_ints(json, "attention_head_dim", UNET_MAX_BLOCKS, heads, &found));
        if (found != c->n_blocks)
            return nn_fail(NN_FORMAT, "%s: attention_head_dim has %d entries, %d are expected",
                           json->file, found, c->n_blocks);
        for (int i = 0; i < found; i++) c->heads[i] = (int)heads[i];
    }
    return NN_OK;
}

static nn_status check(const nn_json *json, const unet_config *c)
{
    for (int i = 0; i < c->n_blocks; i++) {
        int64_t channels = c->block_out_channels[i];
        if (channels < 1 || c->norm_num_groups < 1 || channels % c->norm_num_groups)
            return nn_fail(NN_FORMAT, "%s: %lld channels in block %d cannot be cut into %d groups",
                           json->file, (long long)channels, i, c->norm_num_groups);
        if (c->heads[i] < 1 || channels % c->heads[i])
            return nn_fail(NN_FORMAT, "%s: %lld channels in block %d cannot be cut into %d heads",
                           json->file, (long long)channels, i, c->heads[i]);
    }
    if (c->layers_per_block < 1 || c->layers_per_block > UNET_MAX_LAYERS)
        return nn_fail(NN_FORMAT, "%s: layers_per_block is %d; 1 to %d are supported", json->file,
                       c->layers_per_block, UNET_MAX_LAYERS);
    return NN_OK;
}

nn_status unet_config_parse(const nn_json *json, unet_config *out)
{
    unet_config c = unet_config_sd14();
    NN_TRY(nn_json_int64(json, "in_channels", &c.in_channels));
    NN_TRY(nn_json_int64(json, "out_channels", &c.out_channels));
    NN_TRY(nn_json_int64(json, "sample_size", &c.sample_size));
    NN_TRY(nn_json_int64(json, "cross_attention_dim", &c.cross_attention_dim));
    NN_TRY(nn_json_int(json, "layers_per_block", &c.layers_per_block));
    NN_TRY(nn_json_int(json, "norm_num_groups", &c.norm_num_groups));
    NN_TRY(nn_json_double(json, "norm_eps", &c.norm_eps));
    if (nn_json_has(json, "block_out_channels"))
        NN_TRY(nn_json_ints(json, "block_out_channels", UNET_MAX_BLOCKS, c.block_out_channels,
                            &c.n_blocks));
    NN_TRY(parse_heads(json, &c));
    NN_TRY(parse_blocks(json, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", c.n_blocks,
                        c.down_cross));
    NN_TRY(parse_blocks(json, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", c.n_blocks,
                        c.up_cross));
    NN_TRY(check(json, &c));
    *out = c;
    return NN_OK;
}
