/* recap-sample: pictures from prompts. */
#include "tools/sample.h"

static const nn_command commands[] = {
    { .summary = "Draws pictures from prompts with a Stable Diffusion 1.x model.",
      .example = "recap-sample --model sd14 --prompt 'a photo of a cat' --seed 7 --output cat.png",
      .options = sample_options,
      .run = sample_command },
    { 0 },
};

static const nn_program program = { "recap-sample", "Draws pictures from prompts.", commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
