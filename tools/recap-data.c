/* recap-data: makes, counts and checks corpora of captioned images. */
#include "tools/data.h"

static const nn_command commands[] = {
    { .name = "scenes",
      .summary = "Renders a corpus of scenes whose truth is known, with captions good and bad.",
      .example = "recap-data scenes --output shards/train --count 20000",
      .options = data_scenes_options,
      .run = data_scenes },
    { .name = "prompts",
      .summary = "Writes evaluation prompts with the scenes that answer them.",
      .example = "recap-data prompts --output prompts.jsonl --count 200 --split both",
      .options = data_prompts_options,
      .run = data_prompts },
    { .name = "humans",
      .summary = "Takes the first scenes of a corpus with the captions that people would write.",
      .example = "recap-data humans --input shards --count 100 --output humans/rated",
      .options = data_humans_options,
      .run = data_humans },
    { .name = "tokenizer",
      .summary = "Learns a tokenizer (vocab.json, merges.txt) from the captions of a corpus.",
      .example = "recap-data tokenizer --input shards --output model/tokenizer",
      .options = data_tokenizer_options,
      .run = data_tokenizer },
    { .name = "import",
      .arguments = "DIR",
      .least = 1,
      .most = 1,
      .summary = "Packs a folder of images with captions (NAME.png, NAME.txt) into shards.",
      .example = "recap-data import photos --output shards/photos",
      .options = data_import_options,
      .run = data_import },
    { .name = "stats",
      .arguments = "SHARDS",
      .least = 1,
      .most = 1,
      .summary = "Counts samples, image sizes and the captions of every column.",
      .example = "recap-data stats 'shards/train-{000000..000003}.tar'",
      .run = data_stats },
    { .name = "check",
      .arguments = "SHARDS",
      .least = 1,
      .most = 1,
      .summary = "Reads every member; exits with 1 if one is broken.",
      .example = "recap-data check shards --errors shards/errors.jsonl",
      .options = data_check_options,
      .run = data_check },
    { 0 },
};

static const nn_program program = {
    "recap-data",
    "Makes, counts and checks corpora: tar shards of images and captions.",
    commands,
};

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
