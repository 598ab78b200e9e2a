/* BLIP's image encoder. Source: transformers BlipVisionModel. */
#ifndef MODELS_VIT_H
#define MODELS_VIT_H

#include "data/json.h"
#include "engine/nn.h"

typedef struct vit_config {
    int64_t image_size, patch_size, hidden_size, intermediate_size;
    int n_layers, heads;
    nn_act act;
    double eps;
    double position_std; /* of drawn positions and class token. Key position_init_std, .02 in
                            published models; beside patches of scale .5 so little leaves a young
                            network blind to places. */
} vit_config;

/* A published vision_config; keys that are absent have the values of BLIP base. */
nn_status vit_config_parse(const nn_json *json, vit_config *out) NN_CHECKED;
vit_config vit_config_blip_base(void);

/* pixels [B, S, S, 3], normalised -> [B, 1 + (S/p)^2, C]: the class token, then the patches by
 * rows. */
nn_tensor *vit(nn_scope s, const vit_config *c, nn_tensor *pixels);

int64_t vit_tokens(const vit_config *c);

#endif
