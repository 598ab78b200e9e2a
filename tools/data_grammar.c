/* The options that describe a grammar of scenes. */
#include "tools/data.h"

data_grammar data_scene_grammar = {
    .seed = 1,
    .objects = NN_SCENE_OBJECTS,
    .backgrounds = NN_SCENE_BACKGROUNDS,
    .size = 64,
    .layout = NN_SCENE_FREE,
};

const char *const data_layouts[] = { "grid2", "grid4", "lattice", "free", NULL };

nn_scene_config data_scene_config(void)
{
    const data_grammar *g = &data_scene_grammar;
    return nn_scene_config_default((int)g->objects, (int)g->backgrounds, (int)g->size,
                                   (nn_scene_layout)g->layout);
}
