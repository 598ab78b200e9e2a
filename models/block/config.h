/* What several configurations share. */
#ifndef MODELS_BLOCK_CONFIG_H
#define MODELS_BLOCK_CONFIG_H

#include "data/json.h"
#include "engine/nn.h"

/* "gelu" | "quick_gelu" | "gelu_pytorch_tanh" | "relu" | "silu" under a key; absent leaves *act
 * alone. */
nn_status config_activation(const nn_json *json, const char *key, nn_act *act) NN_CHECKED;

/* The name of one of these; "unknown" for others. */
const char *config_activation_name(nn_act act);

/* width must be a positive multiple of heads, and every size positive. */
nn_status config_check_heads(const nn_json *json, int64_t width, int heads) NN_CHECKED;

#endif
