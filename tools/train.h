/* The commands of recap-train, one file each. */
#ifndef TOOLS_TRAIN_H
#define TOOLS_TRAIN_H

#include "tools/cli.h"

extern const nn_command train_captioner_command, train_detector_command, train_diffusion_command,
    train_vae_command;

#endif
