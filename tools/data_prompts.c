/* recap-data prompts: evaluation prompts with the scenes that answer them, one JSON object a line:
 *
 *     {"prompt": "two cats on gray", "metric": "ca", "split": "held_out", "seed": 17,
 *      "scene": {...}}
 *
 * The seed is that of the picture's noise, so that every arm starts from the same. The style is how
 * the prompt is worded; scenes and seeds are the same in all styles, so that results are paired. */
#include <stdio.h>

#include "data/json.h"
#include "engine/base/file.h"
#include "tools/data.h"

static const char *output, *font, *annotations;
static int64_t count = 200;
static int metric = 3, split = 2, style;
static const char *const metrics[] = { "soa", "ca", "pa", "all", NULL };
static const char *const splits[] = { "held_out", "seen", "both", NULL };
static const char *const styles[] = { "short", "long", "alt", NULL };

enum { METRICS = 3, SPLITS = 2 };
enum { STYLE_SHORT, STYLE_LONG, STYLE_ALT };

const nn_option data_prompts_options[] = {
    { .name = "output",
      .text = &output,
      .value = "FILE",
      .required = true,
      .help = "JSON lines are written there" },
    { .name = "count",
      .integer = &count,
      .low = 1,
      .high = 1e6,
      .help = "prompts of each metric and split" },
    { .name = "metric", .choice = &metric, .choices = metrics, .help = "what the prompts test" },
    { .name = "split",
      .choice = &split,
      .choices = splits,
      .help = "compositions that training never shows, or those it does" },
    { .name = "style",
      .choice = &style,
      .choices = styles,
      .help = "worded as a person would, or as the alt-text of the scene's picture" },
    DATA_GRAMMAR_OPTIONS,
    { .name = "font", .text = &font, .value = "FILE", .help = "emoji font; else the system's" },
    { .name = "annotations",
      .text = &annotations,
      .value = "FILE",
      .help = "CLDR names of the emoji; else the system's" },
    { 0 },
};

/* scenes: open for alt-text, else NULL. */
static nn_status word(const nn_scenes *scenes, nn_scene_split from, const nn_scene *answer,
                      nn_text *prompt)
{
    if (style == STYLE_ALT) return nn_scene_alt_text(scenes, from, answer, prompt, NULL);
    return nn_scene_caption(answer, style == STYLE_LONG ? NN_SCENE_LONG : NN_SCENE_SHORT, prompt);
}

static nn_status add_prompt(const nn_scene_config *config, const nn_scenes *scenes, int m, int s,
                            int64_t index, int64_t seed, nn_text *out)
{
    nn_scene answer;
    nn_text prompt = { 0 };
    nn_scene_split from = s ? NN_SCENE_TRAIN : NN_SCENE_HELD_OUT;
    NN_TRY(nn_scene_prompt(config, (nn_scene_metric)m, from, (uint64_t)data_scene_grammar.seed,
                           (uint64_t)index, &answer));
    nn_status status = word(scenes, from, &answer, &prompt);
    if (status == NN_OK) status = nn_text_add(out, "{\"prompt\": ");
    if (status == NN_OK) status = nn_json_write_string(out, prompt.text);
    if (status == NN_OK)
        status = nn_text_add(
            out, ", \"metric\": \"%s\", \"split\": \"%s\", \"seed\": %lld, \"scene\": ", metrics[m],
            splits[s], (long long)seed);
    if (status == NN_OK) status = nn_scene_write_json(&answer, out);
    if (status == NN_OK) status = nn_text_add(out, "}\n");
    nn_text_free(&prompt);
    return status;
}

static nn_status add_prompts(const nn_scene_config *config, const nn_scenes *scenes, nn_text *out,
                             int64_t *n)
{
    for (int s = 0; s < SPLITS; s++)
        for (int m = 0; m < METRICS; m++)
            for (int64_t i = 0; i < count; i++) {
                if ((split < SPLITS && split != s) || (metric < METRICS && metric != m)) continue;
                NN_TRY(add_prompt(config, scenes, m, s, i, data_scene_grammar.seed + *n, out));
                ++*n;
            }
    return NN_OK;
}

nn_status data_prompts(const nn_cli *cli)
{
    nn_scene_config config = data_scene_config();
    nn_scenes *scenes = NULL;
    nn_text out = { 0 };
    int64_t n = 0;
    (void)cli;
    if (style == STYLE_ALT) NN_TRY(nn_scenes_open(&config, font, annotations, &scenes));
    nn_status status = add_prompts(&config, scenes, &out, &n);
    if (status == NN_OK) status = nn_file_write(output, out.text, out.length);
    if (status == NN_OK) printf("%lld prompts in %s\n", (long long)n, output);
    nn_text_free(&out);
    nn_scenes_close(scenes);
    return status;
}
