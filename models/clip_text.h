/* CLIP's text encoder, as Stable Diffusion 1.x uses it. Source: transformers CLIPTextModel. */
#ifndef MODELS_CLIP_TEXT_H
#define MODELS_CLIP_TEXT_H

#include "data/json.h"
#include "engine/nn.h"

typedef struct clip_text_config {
    int64_t vocab_size, hidden_size, intermediate_size, max_positions;
    int n_layers, heads;
    nn_act act;
    double eps;
    double embedding_init_std; /* of tokens and positions drawn anew; not in published files */
} clip_text_config;

/* The published config.json; keys that are absent have the values of CLIP ViT-L/14's text tower. */
nn_status clip_text_config_parse(const nn_json *json, clip_text_config *out) NN_CHECKED;
clip_text_config clip_text_config_sd14(void);

/* ids [B, T] (i32) -> [B, T, C], after the final layer norm. Parameters below s ("text_model" in
 * the files). */
nn_tensor *clip_text(nn_scope s, const clip_text_config *c, nn_tensor *ids, bool recompute);

#endif
