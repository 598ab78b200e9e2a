/* recap-eval: scores pictures and captions, and compares arms. */
#include "tools/eval.h"

static const nn_command commands[] = {
    { .name = "pictures",
      .summary = "Scores pictures against their prompts; the command when none is named.",
      .example = "recap-eval --samples out/mix --detector detector --reference shards/val "
                 "--output out/mix.json",
      .options = eval_pictures_options,
      .run = eval_pictures },
    { .name = "captions",
      .summary = "Scores columns of captions against what the pictures show.",
      .example = "recap-eval captions --shards shards/train --column alt,short,long",
      .options = eval_captions_options,
      .run = eval_captions },
    { .name = "compare",
      .arguments = "A.json B.json",
      .least = 2,
      .most = 2,
      .summary = "Prints A minus B, prompt by prompt, with intervals.",
      .example = "recap-eval compare out/mix.json out/alttext.json",
      .options = eval_compare_options,
      .run = eval_compare },
    { 0 },
};

static const nn_program program = {
    "recap-eval",
    "Scores generated pictures and captions with a detector whose truth is known.",
    commands,
};

enum { MOST_WORDS = 64 };

/* "recap-eval --samples ..." means "recap-eval pictures --samples ...". */
int main(int argc, char **argv)
{
    static char pictures[] = "pictures";
    char *words[MOST_WORDS + 2] = { argv[0], pictures };
    bool named = argc < 2 || argc > MOST_WORDS || argv[1][0] != '-' || argv[1][1] != '-' ||
                 argv[1][2] == 'h';
    if (named) return nn_cli_main(&program, argc, argv);
    for (int i = 1; i < argc; i++) words[i + 1] = argv[i];
    return nn_cli_main(&program, argc + 1, words);
}
