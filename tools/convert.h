/* Models on their way from one layout of files to another. */
#ifndef TOOLS_CONVERT_H
#define TOOLS_CONVERT_H

#include "data/weights.h"
#include "engine/params.h"
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"

/* One network: its weights under our names, what it must consist of, and its config.json. */
typedef struct convert_net {
    bool there;
    nn_weights weights;
    nn_params *params; /* declared, never allocated */
    nn_text config;    /* as it is written */
} convert_net;

typedef struct convert_model {
    const char *in, *like; /* like: a folder that lends configuration and tokenizer; NULL = none */
    convert_net net[NN_NETWORK_COUNT];
    unet_config unet;
    vae_config vae;
    clip_text_config text;
    captioner_config blip;
} convert_model;

/* The folder of a network inside a diffusers folder; "" for BLIP, which is a folder of its own. */
const char *convert_folder(nn_network network);

/* Open all networks of a file or folder, and check that each one is complete. averaged: the moving
 * averages of the UNet. Owner: convert_close. */
nn_status convert_open(const char *in, const char *like, bool averaged,
                       convert_model *out) NN_CHECKED;
void convert_close(convert_model *m);

/* The configuration of one network: parsed if its config.json is at hand, else as the shapes say;
 * what shapes do not say has the values of Stable Diffusion 1.x and BLIP. */
nn_status convert_configure(convert_model *m, nn_network network) NN_CHECKED;

/* A file of the model's folder, or else of the one that lends: its path, NULL = neither has it.
 * Owner: nn_free. */
nn_status convert_find(const convert_model *m, const char *name, char **path) NN_CHECKED;

/* How floats are written. */
typedef enum convert_dtype { CONVERT_KEEP, CONVERT_F32, CONVERT_F16, CONVERT_BF16 } convert_dtype;

/* Write a folder as diffusers or transformers have it, or everything into one file: as LDM has it
 * (`ldm`), or a single network under our names. */
nn_status convert_write_folder(const convert_model *m, convert_dtype dtype,
                               const char *out) NN_CHECKED;
nn_status convert_write_file(const convert_model *m, convert_dtype dtype, bool ldm,
                             const char *out) NN_CHECKED;

/* What belongs to Stable Diffusion beside its networks: tokenizer, schedule, model_index.json, and
 * as they are the parts of a pipeline that are not known here (safety_checker and the like). */
nn_status convert_write_pipeline(const convert_model *m, const char *out) NN_CHECKED;

/* Copy the files of the model (convert_find) that are there into the folder OUT, under the same
 * names; names end with NULL. *n gets the number of those that were there. */
nn_status convert_copy_files(const convert_model *m, const char *const *names, const char *out,
                             int *n) NN_CHECKED;

/* n bytes as the file OUT/NAME. */
nn_status convert_write_text(const char *out, const char *name, const char *text,
                             int64_t n) NN_CHECKED;

/* Print what a file or folder holds. */
nn_status convert_inspect(const char *path) NN_CHECKED;

#endif
