/* Stable Diffusion's transformer blocks. */
#ifndef MODELS_BLOCK_TRANSFORMER_H
#define MODELS_BLOCK_TRANSFORMER_H

#include "models/block/attention.h"

/* Self-attention, cross-attention, GEGLU feed-forward, each on a layer norm and with a residual.
 * x [B, T, C] -> [B, T, C]; text is what the cross-attention attends to. Source: diffusers
 * BasicTransformerBlock. */
nn_tensor *transformer_block(nn_scope s, nn_tensor *x, attention_source text, int heads);

/* The block on an image: x [N, H, W, C] -> [N, H, W, C], with group norm, projections in and out
 * and a residual. Source: diffusers Transformer2DModel (1x1-convolution projections). */
nn_tensor *spatial_transformer(nn_scope s, nn_tensor *x, attention_source text, int heads,
                               int groups);

/* The keys and values of the block of a spatial transformer C wide, for a context [B, S, D]. */
attention_source spatial_transformer_text(nn_scope s, nn_tensor *context, int64_t width);

#endif
