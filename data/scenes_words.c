/* Words and colors. Every object word is a CLDR keyword of its emoji or a word of its name, which
 * nn_scenes_open checks; plurals are ours. */
#include "data/scenes_words.h"

#include <string.h>

const scene_object scene_objects[NN_SCENE_OBJECTS] = {
    { 0x1F34E, "apple", "apples" },     { 0x1F34C, "banana", "bananas" },
    { 0x1F436, "dog", "dogs" },         { 0x1F431, "cat", "cats" },
    { 0x1F697, "car", "cars" },         { 0x1F333, "tree", "trees" },
    { 0x1F3E0, "house", "houses" },     { 0x26BD, "ball", "balls" },
    { 0x2B50, "star", "stars" },        { 0x1F33B, "sunflower", "sunflowers" },
    { 0x1F41F, "fish", "fish" },        { 0x1F680, "rocket", "rockets" },
    { 0x1F438, "frog", "frogs" },       { 0x1F344, "mushroom", "mushrooms" },
    { 0x1F388, "balloon", "balloons" }, { 0x2602, "umbrella", "umbrellas" },
};

/* Chosen so that each object stands out from each of them. */
const scene_background scene_backgrounds[NN_SCENE_BACKGROUNDS] = {
    { "white", { 244, 244, 244 } },  { "black", { 22, 22, 22 } },   { "gray", { 136, 136, 136 } },
    { "blue", { 30, 62, 158 } },     { "pink", { 246, 168, 200 } }, { "green", { 24, 84, 52 } },
    { "yellow", { 252, 242, 172 } },
};

const char *const scene_numbers[NN_SCENE_ITEMS + 1] = { "no", "one", "two", "three", "four" };

const char *const scene_relations[NN_SCENE_RELATIONS] = { "", "to the left of", "to the right of",
                                                          "above", "below" };
const char *const scene_relation_words[NN_SCENE_RELATIONS] = { "none", "left", "right", "above",
                                                               "below" };

const char *const scene_places[NN_SCENE_PLACES] = {
    "top left",     "top center",  "top right",     "middle left", "middle center",
    "middle right", "bottom left", "bottom center", "bottom right"
};

static const char *const kinds[NN_SCENE_KINDS] = { "alone", "related", "counted" };
static const char *const layouts[NN_SCENE_LAYOUTS] = { "grid2", "grid4", "lattice", "free" };

const char *nn_scene_object_name(int object, int count)
{
    NN_ASSERT(object >= 0 && object < NN_SCENE_OBJECTS);
    return count == 1 ? scene_objects[object].one : scene_objects[object].many;
}

const char *nn_scene_background_name(int background)
{
    NN_ASSERT(background >= 0 && background < NN_SCENE_BACKGROUNDS);
    return scene_backgrounds[background].name;
}

const char *nn_scene_kind_name(nn_scene_kind kind)
{
    return kinds[kind];
}

const char *nn_scene_relation_name(nn_scene_relation relation)
{
    return scene_relation_words[relation];
}

const char *nn_scene_layout_name(nn_scene_layout layout)
{
    return layouts[layout];
}

nn_status nn_scene_layout_from_name(const char *name, nn_scene_layout *layout)
{
    for (int i = 0; i < NN_SCENE_LAYOUTS; i++) {
        if (strcmp(name, layouts[i]) != 0) continue;
        *layout = (nn_scene_layout)i;
        return NN_OK;
    }
    return nn_fail(NN_ARGUMENT, "layout '%s': expected grid2, grid4, lattice or free", name);
}
