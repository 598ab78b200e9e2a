/* The weights of one model, in one safetensors file or in several, under one lookup. */
#ifndef DATA_WEIGHTS_H
#define DATA_WEIGHTS_H

#include "data/safetensors.h"

/* tensor[0..n) points into the parts and is sorted by name. */
typedef struct nn_weights {
    const nn_safetensor **tensor;
    int64_t n;
    nn_safetensors *part;
    int64_t n_parts;
} nn_weights;

/* Open a safetensors file, an index (*.json with a "weight_map"; its parts lie beside it), or the
 * directory of a model component. In a directory the first of these is taken:
 * diffusion_pytorch_model.safetensors, model.safetensors, the same with .fp16 before the suffix,
 * then the two indexes, then theirs of fp16. On failure nothing needs to be closed. */
nn_status nn_weights_open(const char *path, nn_weights *weights) NN_CHECKED;
void nn_weights_close(nn_weights *weights);

/* The tensor of that name, or NULL. */
const nn_safetensor *nn_weights_find(const nn_weights *weights, const char *name);

#endif
