/* The denoiser of Stable Diffusion 1.x. Source: diffusers UNet2DConditionModel. */
#ifndef MODELS_UNET_H
#define MODELS_UNET_H

#include "data/json.h"
#include "engine/nn.h"
#include "models/block/attention.h"

enum {
    UNET_MAX_BLOCKS = 6,
    UNET_MAX_LAYERS = 3, /* of a block on the way down */
    UNET_MAX_TEXTS = 1 + UNET_MAX_BLOCKS * (2 * UNET_MAX_LAYERS + 1) /* cross-attentions */
};

typedef struct unet_config {
    int64_t in_channels, out_channels, sample_size, cross_attention_dim;
    int n_blocks, layers_per_block, norm_num_groups;
    int64_t block_out_channels[UNET_MAX_BLOCKS];
    int heads[UNET_MAX_BLOCKS];       /* published as attention_head_dim: the NUMBER of heads */
    bool down_cross[UNET_MAX_BLOCKS]; /* the down block has transformers */
    bool up_cross[UNET_MAX_BLOCKS];
    double norm_eps;
} unet_config;

/* The published config.json; keys that are absent have SD 1.4's values. */
nn_status unet_config_parse(const nn_json *json, unet_config *out) NN_CHECKED;
unet_config unet_config_sd14(void);

/* Predicted noise (or velocity): latent [N, H, W, in], t [N] (f32, may be fractional), context [N,
 * S, D] -> [N, H, W, out]. Any H and W. recompute: activations of each block are computed again in
 * backward. */
nn_tensor *unet(nn_scope s, const unet_config *c, nn_tensor *latent, nn_tensor *t,
                nn_tensor *context, bool recompute);

/* What depends on the text alone: the keys and values of every cross-attention, in the order in
 * which the UNet runs them. */
typedef struct unet_text {
    int n;
    attention_source of[UNET_MAX_TEXTS]; /* k and v [N, S, C] */
} unet_text;
void unet_project_text(nn_scope s, const unet_config *c, nn_tensor *context, unet_text *out);

/* unet() on keys and values that were computed before. */
nn_tensor *unet_on_text(nn_scope s, const unet_config *c, nn_tensor *latent, nn_tensor *t,
                        const unet_text *text);

/* The two parts of the time embedding, for tests: sinusoidal [N, C0] -> [N, 4 C0]. */
nn_tensor *unet_time_embedding(nn_scope s, const unet_config *c, nn_tensor *sinusoidal);

#endif
