/* Stable Diffusion's transformer blocks. */
#ifndef MODELS_BLOCK_TRANSFORMER_H
#define MODELS_BLOCK_TRANSFORMER_H

#include "models/block/layers.h"

/* Self-attention, cross-attention, GEGLU feed-forward, each on a layer norm and with a residual.
 * x [B, T, C], context [B, S, D] -> [B, T, C]. Source: diffusers BasicTransformerBlock. */
nn_tensor *transformer_block(nn_scope s, nn_tensor *x, nn_tensor *context, int heads);

/* The block on an image: x [N, H, W, C] -> [N, H, W, C], with group norm, projections in and out
 * and a residual. Source: diffusers Transformer2DModel (1x1-convolution projections). */
nn_tensor *spatial_transformer(nn_scope s, nn_tensor *x, nn_tensor *context, int heads, int groups);

#endif
