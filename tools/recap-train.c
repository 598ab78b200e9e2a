/* recap-train: trains the networks of RECAP. */
#include "tools/train.h"

static const nn_program program = { "recap-train",
                                    "Trains a network, or goes on where training stopped.", NULL };

int main(int argc, char **argv)
{
    const nn_command commands[] = { train_vae_command,
                                    train_detector_command,
                                    train_captioner_command,
                                    train_diffusion_command,
                                    { 0 } };
    nn_program with = program;
    with.commands = commands;
    return nn_cli_main(&with, argc, argv);
}
