/* Configurations of published networks that come without one, as single files of LDM and BLIP's
 * .pth do. */
#ifndef MODELS_PUBLISHED_H
#define MODELS_PUBLISHED_H

#include "data/weights.h"

/* Append a network's config.json as the shapes of its weights say; what shapes do not say has the
 * values of Stable Diffusion 1.x and BLIP. weights: of that network alone (nn_weights_select). It
 * is not checked: that is for the network's own parser. */
nn_status published_config(const nn_weights *weights, nn_network network, nn_text *json) NN_CHECKED;

/* scheduler_config.json of Stable Diffusion 1.x. */
extern const char published_schedule[];

#endif
