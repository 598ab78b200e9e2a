/* Multi-head attention with its projections, in the two ways the networks name them. */
#ifndef MODELS_BLOCK_ATTENTION_H
#define MODELS_BLOCK_ATTENTION_H

#include "models/block/layers.h"

/* diffusers' Attention: to_q, to_k, to_v (bias or not), to_out.0 with bias. x [B, T, C], context
 * [B, S, D] -> [B, T, C]. */
nn_tensor *cross_attention(nn_scope s, nn_tensor *x, nn_tensor *context, int heads, int bias);

#endif
