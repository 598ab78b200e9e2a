/* The commands of recap-data, one file each, and what they share. */
#ifndef TOOLS_DATA_H
#define TOOLS_DATA_H

#include "data/captions.h"
#include "data/image.h"
#include "data/scenes.h"
#include "data/shards.h"
#include "tools/cli.h"

nn_command_run data_import, data_stats, data_check, data_scenes, data_prompts, data_humans,
    data_tokenizer;
extern const nn_option data_import_options[], data_check_options[], data_scenes_options[],
    data_prompts_options[], data_humans_options[], data_tokenizer_options[];

/* -- samples: data_samples.c -- */

/* Where commands list faults, and whether they stop at the first. */
extern const char *data_errors;
extern bool data_strict;

#define DATA_ERRORS_OPTION                                                                         \
    {                                                                                              \
        .name = "errors", .text = &data_errors, .value = "FILE",                                   \
        .help = "list faults there instead of on stdout"                                           \
    }
#define DATA_STRICT_OPTION                                                                         \
    {                                                                                              \
        .name = "strict", .flag = &data_strict, .help = "stop at the first fault"                  \
    }

/* Whether image and captions of a sample can be read; what cannot is reported, and *captions is
 * NULL. size gets width and height, no pixels; it may be NULL. The captions are the caller's. */
nn_status data_read_sample(const nn_sample *s, nn_shard_report *report, nn_image *size,
                           nn_captions **captions) NN_CHECKED;

/* Calls visit with every sample in turn, under a progress line named `what`. */
typedef nn_status data_visit(void *ctx, const nn_sample *s, nn_shard_report *report);
nn_status data_visit_shards(const char *what, const char *spec, data_visit *visit, void *ctx,
                            nn_shard_report *report) NN_CHECKED;

/* The faults on stdout or in the file of --errors; their numbers by kind on stderr. */
nn_status data_list_faults(const nn_shard_report *report) NN_CHECKED;
void data_print_faults(const nn_shard_report *report);

nn_status data_interrupted(const char *saved) NN_CHECKED;

/* Makes the directory in which shards of this prefix will lie. */
nn_status data_make_place(const char *prefix) NN_CHECKED;

/* -- the grammar of scenes: data_grammar.c -- */

typedef struct data_grammar {
    int64_t seed, objects, backgrounds, size;
    int layout;
} data_grammar;
extern data_grammar data_scene_grammar;
extern const char *const data_layouts[];

#define DATA_GRAMMAR_OPTIONS                                                                       \
    { .name = "seed",                                                                              \
      .integer = &data_scene_grammar.seed,                                                         \
      .low = 0,                                                                                    \
      .high = 1e15,                                                                                \
      .help = "of the random numbers" },                                                           \
        { .name = "objects",                                                                       \
          .integer = &data_scene_grammar.objects,                                                  \
          .low = 4,                                                                                \
          .high = NN_SCENE_OBJECTS,                                                                \
          .help = "kinds of objects" },                                                            \
        { .name = "backgrounds",                                                                   \
          .integer = &data_scene_grammar.backgrounds,                                              \
          .low = 1,                                                                                \
          .high = NN_SCENE_BACKGROUNDS,                                                            \
          .help = "colors of backgrounds" },                                                       \
        { .name = "size",                                                                          \
          .integer = &data_scene_grammar.size,                                                     \
          .low = 32,                                                                               \
          .high = 512,                                                                             \
          .help = "pixels a side, a multiple of 8" },                                              \
    {                                                                                              \
        .name = "layout", .choice = &data_scene_grammar.layout, .choices = data_layouts,           \
        .help = "where objects may lie"                                                            \
    }

/* The grammar that the options describe. */
nn_scene_config data_scene_config(void);

#endif
