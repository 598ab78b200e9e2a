/* Alt-text as bad as on the web.
 *
 * Calibration: 8,121 titles and descriptions of Open Clip Art. 58.8 % have no title or one shared
 * by at least 5 files (the commonest by 17 %, then 7 %, 5 %, 3 %), 79 % have no description, 3.7
 * keywords each of which many say nothing ("unsorted", hashes, author names); 0.16 % state a
 * count, 0.09 % a relation; a title has 3.3 words. The strings below are invented in that manner.
 * Counts and relations reach the reader in 5 % of the texts (NN_SCENE_ALT_TRUE), and in 5 % they
 * are those of another picture. */
#include <string.h>

#include "data/scenes_corpus.h"
#include "data/scenes_words.h"
#include "engine/base/rng.h"

/* Commonest first: drawn with density falling towards the end. */
static const char *const junk[] = {
    "pixelstorm",
    "part of the paper shapes collection (fri mar 12 10:02:11 2004)",
    "citrus icon theme",
    "card",
    "untitled",
    "free clip art download",
    "clipart",
    "unsorted",
    "icon",
    "stock image",
    "sticker sheet 4",
    "drawing by mara lind",
    "img 0482",
    "new page 1",
    "0x91be07f",
    "click to enlarge",
    "scan 17",
    "public domain graphic",
    "simple shapes set",
    "web button",
    "vector art by t. okoro",
    "photo",
    "dessin",
    "school project",
    "back to gallery",
    "cartoon pack volume 2",
    "thumbnail",
    "made with a trial version",
    "best price online",
    "no rights reserved",
    "ohne titel",
    "final version 3",
    "my first upload",
    "symbol",
    "misc",
    "png transparent",
};

static const int percent[NN_SCENE_ALTS] = { 40, 25, 12, 13, 5, 5 };

static int below(nn_rng *rng, int n)
{
    return (int)nn_rng_below(rng, (uint64_t)n);
}

/* The square of a uniform number: the first of 36 strings gets 17 %, as the commonest title. */
static const char *draw_junk(nn_rng *rng)
{
    float u = nn_rng_uniform(rng);
    return junk[(int)(u * u * (float)NN_COUNT(junk))];
}

static int draw_object(nn_rng *rng, const nn_scene *scene)
{
    return scene->facts.group[below(rng, scene->facts.n_groups)].object;
}

static nn_status add_one(nn_rng *rng, const nn_scene *scene, nn_text *out)
{
    const char *noun = nn_scene_object_name(draw_object(rng, scene), 1), *rest = draw_junk(rng);
    return below(rng, 2) ? nn_text_add(out, "%s %s", noun, rest)
                         : nn_text_add(out, "%s, %s", rest, noun);
}

/* All keywords, from a random one on: "rain, umbrella, clothing". */
static nn_status add_keywords(nn_rng *rng, const nn_scenes *s, const nn_scene *scene, nn_text *out)
{
    const nn_emoji_name *name = &s->name[draw_object(rng, scene)];
    int start = below(rng, name->n_keywords);
    for (int i = 0; i < name->n_keywords; i++)
        NN_TRY(nn_text_add(out, "%s%s", i ? ", " : "",
                           name->keywords[(start + i) % name->n_keywords]));
    return NN_OK;
}

static nn_status add_objects(nn_rng *rng, const nn_scene *scene, nn_text *out)
{
    const nn_scene_facts *f = &scene->facts;
    int first = below(rng, f->n_groups);
    for (int i = 0; i < f->n_groups; i++)
        NN_TRY(nn_text_add(out, "%s%s", i ? " " : "",
                           nn_scene_object_name(f->group[(first + i) % f->n_groups].object, 1)));
    return NN_OK;
}

static nn_status add_foreign(nn_rng *rng, const nn_scenes *s, nn_scene_split split,
                             const nn_scene *scene, nn_text *out)
{
    nn_scene other;
    uint64_t index = scene->index + 1 + nn_rng_below(rng, 1000);
    NN_TRY(nn_scene_make(&s->config, split, scene->seed, index, &other));
    return nn_scene_caption(&other, NN_SCENE_SHORT, out);
}

nn_status nn_scene_alt_text(const nn_scenes *scenes, nn_scene_split split, const nn_scene *scene,
                            nn_text *out, nn_scene_alt *which)
{
    nn_rng rng = nn_rng_make(scene->seed, "scene-alt", scene->index);
    int at = below(&rng, 100), alt = 0;
    while (at >= percent[alt]) at -= percent[alt++];
    if (which) *which = (nn_scene_alt)alt;
    switch ((nn_scene_alt)alt) {
    case NN_SCENE_ALT_JUNK:
        return nn_text_add(out, "%s", draw_junk(&rng));
    case NN_SCENE_ALT_ONE:
        return add_one(&rng, scene, out);
    case NN_SCENE_ALT_KEYWORDS:
        return add_keywords(&rng, scenes, scene, out);
    case NN_SCENE_ALT_OBJECTS:
        return add_objects(&rng, scene, out);
    case NN_SCENE_ALT_FOREIGN:
        return add_foreign(&rng, scenes, split, scene, out);
    default:
        return nn_scene_caption(scene, NN_SCENE_SHORT, out);
    }
}
