/* The weights of one model, in one file or in several, of any format, under one lookup; and those
 * of one published network under our names, whatever layout they come in. */
#ifndef DATA_WEIGHTS_H
#define DATA_WEIGHTS_H

#include "data/layout.h"
#include "data/weight.h"

/* tensor[0..n) is sorted by name; data lies in the mapped files. */
typedef struct nn_weights {
    const nn_weight **tensor;
    int64_t n;
    nn_weight_file *file;
    int64_t n_files;
    const nn_layout *layout; /* of the files, once a network was selected */
    int64_t n_left;          /* tensors of the files that no rule of the layout knows */
    char *path;              /* for messages */
    nn_arena arena;
} nn_weights;

/* Open a weight file (safetensors, or what torch.save wrote), an index (*.json with a "weight_map";
 * its parts lie beside it), or the directory of a model component. In a directory safetensors come
 * before torch's files, whole files before several parts, and those without variant before fp16. On
 * failure nothing needs to be closed. */
nn_status nn_weights_open(const char *path, nn_weights *weights) NN_CHECKED;
void nn_weights_close(nn_weights *weights);

/* Open, and select one network. */
nn_status nn_weights_open_network(const char *path, nn_network network,
                                  nn_weights *weights) NN_CHECKED;

/* Whether a network is there, in any layout; NULL = it is not. */
const nn_layout *nn_weights_layout(const nn_weights *weights, nn_network network);

/* Whether a tensor has the prefix of one of the networks that are there. */
bool nn_weights_belongs(const nn_weights *weights, const nn_weight *tensor);

/* Reduce to the tensors of one network, under our names and in our shapes. averaged: take the
 * moving averages ("model_ema.*") that LDM keeps beside the UNet. Errors: NN_NOT_FOUND with what is
 * there instead. */
nn_status nn_weights_select(nn_weights *weights, nn_network network, bool averaged) NN_CHECKED;

/* The tensor of that name, or NULL. */
const nn_weight *nn_weights_find(const nn_weights *weights, const char *name);

/* After nn_weights_select: n tensors, by our names, as another layout has them. out[n]; names live
 * in the arena, data stays where it is. */
nn_status nn_weights_export(const nn_weights *weights, const char *const *names, int64_t n,
                            const nn_layout *to, nn_arena *arena, nn_weight *out) NN_CHECKED;

#endif
