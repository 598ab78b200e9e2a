/* Multi-head attention with its projections, in the two ways the networks name them. */
#ifndef MODELS_BLOCK_ATTENTION_H
#define MODELS_BLOCK_ATTENTION_H

#include "models/block/layers.h"

/* What queries attend to: a context [B, S, D] that is projected where it is needed, or its keys and
 * values that were projected before (context NULL): [B, S, C] each, or views of such halves. */
typedef struct attention_source {
    nn_tensor *context, *k, *v;
} attention_source;

/* The keys and values of a context: to_k and to_v (bias or not) of the attention at s, C wide;
 * views of one product. */
attention_source attention_project(nn_scope s, nn_tensor *context, int64_t width, int bias);

/* diffusers' Attention: to_q, to_k, to_v (bias or not), to_out.0 with bias, plus the residual.
 * x [B, T, C], residual [B, T, C] -> [B, T, C]. */
nn_tensor *cross_attention(nn_scope s, nn_tensor *x, attention_source source, int heads, int bias,
                           nn_tensor *residual);

#endif
