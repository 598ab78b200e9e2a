/* The names that the tensors of published networks have in the files of different projects.
 *
 * Every network has one form here, the one that models are written in: diffusers' names for UNet
 * and autoencoder, transformers' for text encoder and BLIP. A layout is another project's form of
 * one network, as a table of rules that is read in both directions. Which networks a file holds is
 * told by a tensor that only that layout has. */
#ifndef DATA_LAYOUT_H
#define DATA_LAYOUT_H

#include "engine/base/status.h"
#include "engine/base/str.h"

typedef enum nn_network {
    NN_NETWORK_UNET, /* Stable Diffusion's */
    NN_NETWORK_VAE,
    NN_NETWORK_TEXT, /* CLIP's text encoder */
    NN_NETWORK_BLIP, /* image encoder and text decoder */
    NN_NETWORK_COUNT
} nn_network;

const char *nn_network_name(nn_network network); /* "unet" */

/* What numbers in names depend on. */
typedef struct nn_net_size {
    int blocks;       /* resolutions */
    int layers;       /* residual blocks at each, on the way down */
    unsigned attends; /* bit b: the b-th block on the way up has attention */
} nn_net_size;

/* What one place is called by them and by us: a prefix of the name, where
 *     {b}  is the number of a block, {j} of a layer in it;
 *     {r}  is the block counted from the other end;
 *     {i}  counts input and all layers with the steps between blocks, {o} the layers on the way up.
 * Without {j} on our side a rule is about what follows the last layer of a block. */
typedef struct nn_name_rule {
    const char *theirs, *ours; /* a table ends with NULL */
    const struct nn_name_rule
        *inside; /* for the rest of the name; NULL or none that fits: it stays */
    enum { NN_RULE_ALWAYS, NN_RULE_ATTENDS, NN_RULE_PLAIN } when; /* by the block's attention */
    int rank; /* of the weight in their files, 1s at the end; 0 = as here */
} nn_name_rule;

typedef struct nn_layout {
    const char *name;
    nn_network network;
    const char *prefix;        /* of all tensors of the network */
    const char *sign;          /* after the prefix: a tensor that tells the layout */
    const nn_name_rule *rules; /* NULL = our names */
} nn_layout;

/* All of them, those with the stricter sign first. The first of a network that is called
 * "diffusers" or "transformers" has our names. */
extern const nn_layout nn_layouts[];
extern const int nn_layout_count;

/* What one network's names have in common. */
typedef struct nn_network_names {
    const char *layer, *step,
        *attention;             /* tensors, ours, that tell the size; NULL = it has none */
    const char *tied, *same_as; /* where `tied` is missing, it is `same_as` */
    const char *twin, *twin_of; /* other programs want `twin_of` under this name too; where a file
                                   has both, they compute with the twin */
    const char *idle[3];        /* ends of names of tensors without any use */
    struct {
        const char *end; /* of names of weights */
        int rank;        /* that they have here; dimensions of 1 at the end come and go */
    } rank[5];
} nn_network_names;

extern const nn_network_names nn_names_of[NN_NETWORK_COUNT];

/* The layout of that name and network, or NULL. */
const nn_layout *nn_layout_find(const char *name, nn_network network);

/* Their name of one of ours: *found tells whether a rule fits, then it is appended to theirs, with
 * the prefix. *rank: of the rule, or 0. */
nn_status nn_layout_theirs(const nn_layout *layout, const nn_net_size *size, const char *ours,
                           nn_text *theirs, int *rank, bool *found) NN_CHECKED;

/* The way back. */
nn_status nn_layout_ours(const nn_layout *layout, const nn_net_size *size, const char *theirs,
                         nn_text *ours, bool *found) NN_CHECKED;

#endif
