/* Captions that are true: short and long as a person would write, and object lists. */
#include "data/scenes_words.h"
#include "engine/base/rng.h"

enum { TAILS = 3, LEADS = 3 };

static const char *const leads[LEADS] = { "the image shows", "this is a picture of", "we see" };

static const char *article(const char *noun)
{
    char c = noun[0];
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' ? "an" : "a";
}

/* "an apple", "three cats" */
static nn_status add_group(int object, int count, nn_text *out)
{
    const char *noun = nn_scene_object_name(object, count);
    return nn_text_add(out, "%s %s", count == 1 ? article(noun) : scene_numbers[count], noun);
}

/* "a dog to the left of a cat", "two dogs and a tree" */
static nn_status add_groups(const nn_scene_facts *f, nn_text *out)
{
    NN_TRY(add_group(f->group[0].object, f->group[0].count, out));
    if (f->n_groups == 1) return NN_OK;
    NN_TRY(nn_text_add(out, " %s ", f->relation ? scene_relations[f->relation] : "and"));
    return add_group(f->group[1].object, f->group[1].count, out);
}

static nn_status add_short(const nn_scene *scene, nn_text *out)
{
    nn_rng rng = nn_rng_make(scene->seed, "scene-short", scene->index);
    const char *color = nn_scene_background_name(scene->facts.background);
    NN_TRY(add_groups(&scene->facts, out));
    switch (nn_rng_below(&rng, TAILS)) {
    case 0:
        return nn_text_add(out, " on a %s background", color);
    case 1:
        return nn_text_add(out, " on %s", color);
    default:
        return nn_text_add(out, " with a %s background", color);
    }
}

/* Items in reading order: by row of ninths, then from left to right. */
static void sort_items(const nn_scene *scene, int order[NN_SCENE_ITEMS])
{
    for (int i = 0; i < scene->n_items; i++) {
        int key = nn_scene_place(scene, &scene->item[i]), at = i;
        for (; at > 0 && nn_scene_place(scene, &scene->item[order[at - 1]]) > key; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static const char *size_word(const nn_scene *scene, const nn_scene_item *item)
{
    if (!scene->sized) return "";
    return item->size < scene->sprite_middle ? "small " : "large ";
}

static nn_status add_long(const nn_scene *scene, nn_text *out)
{
    nn_rng rng = nn_rng_make(scene->seed, "scene-long", scene->index);
    int order[NN_SCENE_ITEMS];
    sort_items(scene, order);
    NN_TRY(nn_text_add(out, "%s ", leads[nn_rng_below(&rng, LEADS)]));
    NN_TRY(add_groups(&scene->facts, out));
    NN_TRY(nn_text_add(out, "."));
    for (int i = 0; i < scene->n_items; i++) {
        const nn_scene_item *it = &scene->item[order[i]];
        NN_TRY(nn_text_add(out, " a%s %s%s is at the %s.",
                           scene->sized ? "" : article(nn_scene_object_name(it->object, 1)) + 1,
                           size_word(scene, it), nn_scene_object_name(it->object, 1),
                           scene_places[nn_scene_place(scene, it)]));
    }
    return nn_text_add(out, " the background is %s.",
                       nn_scene_background_name(scene->facts.background));
}

static nn_status add_list(const nn_scene *scene, nn_text *out)
{
    int order[NN_SCENE_ITEMS];
    sort_items(scene, order);
    for (int i = 0; i < scene->n_items; i++) {
        const nn_scene_item *it = &scene->item[order[i]];
        NN_TRY(nn_text_add(out, "%s %s ", nn_scene_object_name(it->object, 1),
                           scene_places[nn_scene_place(scene, it)]));
    }
    return nn_text_add(out, "%s", nn_scene_background_name(scene->facts.background));
}

static nn_status add_tally(const nn_scene *scene, nn_text *out)
{
    const nn_scene_facts *f = &scene->facts;
    for (int g = 0; g < f->n_groups; g++) {
        if (g && f->relation) NN_TRY(nn_text_add(out, "%s ", scene_relation_words[f->relation]));
        NN_TRY(nn_text_add(out, "%s %s ", scene_numbers[f->group[g].count],
                           nn_scene_object_name(f->group[g].object, f->group[g].count)));
    }
    return nn_text_add(out, "%s", nn_scene_background_name(f->background));
}

nn_status nn_scene_caption(const nn_scene *scene, nn_scene_style style, nn_text *out)
{
    switch (style) {
    case NN_SCENE_SHORT:
        return add_short(scene, out);
    case NN_SCENE_LONG:
        return add_long(scene, out);
    case NN_SCENE_TALLY:
        return add_tally(scene, out);
    default:
        return add_list(scene, out);
    }
}
