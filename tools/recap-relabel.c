/* recap-relabel: a corpus with captions that a captioner wrote. */
#include "tools/relabel.h"

static const nn_command commands[] = {
    { .example = "recap-relabel --input 'laion-{00000..00099}.tar' --model captioner --base-model "
                 "blip --output relabelled",
      .options = relabel_options,
      .run = relabel },
    { 0 },
};
static const nn_program program = {
    "recap-relabel", "Copies shards and adds columns of captions written by captioners.", commands
};

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
