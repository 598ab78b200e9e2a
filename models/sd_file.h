/* What a single file of Stable Diffusion does not say: configuration and vocabulary. Internal to
 * stable_diffusion.c. */
#ifndef MODELS_SD_FILE_H
#define MODELS_SD_FILE_H

#include "models/stable_diffusion.h"

/* The configurations that the shapes of the file's networks say, with Stable Diffusion 1.x's
 * schedule. Errors: NN_NOT_FOUND with the network that is not there. */
nn_status sd_file_configure(const char *path, sd_model *m) NN_CHECKED;

/* The vocabulary that lies beside the file. */
nn_status sd_file_tokenizer(const char *path, nn_clip_bpe *tokenizer) NN_CHECKED;

/* Whether the networks fit together. */
nn_status sd_model_check(const sd_model *m, const char *path) NN_CHECKED;

#endif
