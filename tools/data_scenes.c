/* recap-data scenes: renders a corpus of scenes with their captions and their truth. */
#include <stdio.h>

#include "engine/base/alloc.h"
#include "tools/data.h"

static const char *output, *font, *annotations;
static int64_t count, first, shard_size = 10000;
static int split = NN_SCENE_TRAIN;
static const char *const splits[] = { "train", "held_out", "any", NULL };

const nn_option data_scenes_options[] = {
    { .name = "output",
      .text = &output,
      .value = "PREFIX",
      .required = true,
      .help = "shards become PREFIX-000000.tar, ..." },
    { .name = "count",
      .integer = &count,
      .low = 1,
      .high = 1e9,
      .required = true,
      .help = "scenes to render" },
    { .name = "first", .integer = &first, .low = 0, .high = 1e15, .help = "number of the first" },
    DATA_GRAMMAR_OPTIONS,
    { .name = "split", .choice = &split, .choices = splits, .help = "which compositions occur" },
    { .name = "shard-size",
      .integer = &shard_size,
      .low = 1,
      .high = 1e9,
      .help = "samples in one shard" },
    { .name = "font", .text = &font, .value = "FILE", .help = "emoji font; else the system's" },
    { .name = "annotations",
      .text = &annotations,
      .value = "FILE",
      .help = "CLDR names of the emoji; else the system's" },
    { 0 },
};

/* What is reused from scene to scene. */
typedef struct studio {
    const nn_scenes *scenes;
    const nn_scene_config *config;
    nn_shard_writer *writer;
    nn_image image;
    nn_text png, alt, json, words;
} studio;

static nn_status set_caption(studio *st, nn_captions *captions, const char *column,
                             const nn_scene *scene, nn_scene_style style)
{
    nn_text_clear(&st->words);
    NN_TRY(nn_scene_caption(scene, style, &st->words));
    return nn_captions_set(captions, column, st->words.text, NULL);
}

static nn_status describe(studio *st, const nn_scene *scene, nn_captions *captions)
{
    nn_text_clear(&st->alt);
    NN_TRY(nn_scene_alt_text(st->scenes, (nn_scene_split)split, scene, &st->alt, NULL));
    NN_TRY(nn_captions_set(captions, "alt", st->alt.text, NULL));
    NN_TRY(set_caption(st, captions, "list", scene, NN_SCENE_LIST));
    NN_TRY(set_caption(st, captions, "tally", scene, NN_SCENE_TALLY));
    NN_TRY(set_caption(st, captions, "true_short", scene, NN_SCENE_SHORT));
    NN_TRY(set_caption(st, captions, "true_long", scene, NN_SCENE_LONG));
    nn_text_clear(&st->words);
    NN_TRY(nn_scene_write_json(scene, &st->words));
    NN_TRY(nn_captions_set_field(captions, "scene", st->words.text));
    nn_text_clear(&st->json);
    return nn_captions_dump(captions, &st->json);
}

static nn_status add_scene(studio *st, int64_t number)
{
    nn_scene scene;
    nn_captions *captions;
    char key[24];
    snprintf(key, sizeof(key), "%08lld", (long long)number);
    NN_TRY(nn_scene_make(st->config, (nn_scene_split)split, (uint64_t)data_scene_grammar.seed,
                         (uint64_t)number, &scene));
    NN_TRY(nn_scene_render(st->scenes, &scene, st->image.rgb));
    nn_text_clear(&st->png);
    NN_TRY(nn_image_encode_png(&st->image, NULL, 0, &st->png));
    NN_TRY(nn_captions_create(&captions));
    nn_status status = describe(st, &scene, captions);
    nn_captions_free(captions);
    if (status != NN_OK) return status;
    return nn_shard_writer_add(st->writer, &(nn_sample){
                                               .key = key,
                                               .format = "png",
                                               .image = { st->png.text, st->png.length },
                                               .alt = { st->alt.text, st->alt.length },
                                               .json = { st->json.text, st->json.length },
                                           });
}

static nn_status add_scenes(studio *st)
{
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "scenes", "scene", 0, count);
    for (int64_t i = 0; i < count && status == NN_OK; i++) {
        status = nn_cli_interrupted() ? data_interrupted("the shards that were full are there")
                                      : add_scene(st, first + i);
        nn_progress_step(&progress, i + 1, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status;
}

static nn_status write_corpus(studio *st)
{
    NN_TRY(nn_image_create(data_scene_grammar.size, data_scene_grammar.size, &st->image));
    NN_TRY(data_make_place(output));
    NN_TRY(nn_shard_writer_open(output, shard_size, &st->writer));
    nn_status status = add_scenes(st);
    if (status == NN_OK) return nn_shard_writer_close(st->writer);
    nn_shard_writer_abort(st->writer);
    return status;
}

nn_status data_scenes(const nn_cli *cli)
{
    nn_scene_config config = data_scene_config();
    nn_scenes *scenes;
    (void)cli;
    NN_TRY(nn_scenes_open(&config, font, annotations, &scenes));
    studio st = { .scenes = scenes, .config = &config };
    nn_status status = write_corpus(&st);
    if (status == NN_OK) printf("%lld scenes in %s-*.tar\n", (long long)count, output);
    nn_image_free(&st.image);
    nn_text_free(&st.png);
    nn_text_free(&st.alt);
    nn_text_free(&st.json);
    nn_text_free(&st.words);
    nn_scenes_close(scenes);
    return status;
}
