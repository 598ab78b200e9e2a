/* The image codec of Stable Diffusion 1.x. Source: diffusers AutoencoderKL. */
#ifndef MODELS_VAE_H
#define MODELS_VAE_H

#include "data/json.h"
#include "engine/nn.h"

enum { VAE_MAX_BLOCKS = 6 };

typedef struct vae_config {
    int64_t in_channels, out_channels, latent_channels;
    int n_blocks, layers_per_block, norm_num_groups;
    int64_t block_out_channels[VAE_MAX_BLOCKS];
    double scaling_factor; /* latents of the UNet are the codec's times this */
} vae_config;

/* The published config.json; keys that are absent have SD 1.4's values. */
nn_status vae_config_parse(const nn_json *json, vae_config *out) NN_CHECKED;
vae_config vae_config_sd14(void);

/* image [N, H, W, 3] in [-1, 1] -> moments [N, H/f, W/f, 2 L]: means, then log-variances;
 * quant_conv included. */
nn_tensor *vae_encode(nn_scope s, const vae_config *c, nn_tensor *image);

/* latent [N, h, w, L] (not scaled) -> image [N, f h, f w, 3]; post_quant_conv included. */
nn_tensor *vae_decode(nn_scope s, const vae_config *c, nn_tensor *latent);

/* One element: mean |d| + mean d^2 of the difference d between image and the decoding of
 * mean + exp(logvar / 2) * noise, plus kl_weight times the mean over latent elements of the
 * Kullback-Leibler divergence from the unit normal. noise [N, H/f, W/f, L], unit normal. */
nn_tensor *vae_loss(nn_scope s, const vae_config *c, nn_tensor *image, nn_tensor *noise,
                    double kl_weight);

/* The factor between image and latent sides. */
int vae_stride(const vae_config *c);

#endif
