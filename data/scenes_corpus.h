/* What an opened corpus holds; private to data/scenes_*.c. */
#ifndef DATA_SCENES_CORPUS_H
#define DATA_SCENES_CORPUS_H

#include "data/emoji.h"
#include "data/scenes.h"

struct nn_scenes {
    nn_scene_config config;
    nn_arena arena;                       /* of the names */
    nn_emoji_name name[NN_SCENE_OBJECTS]; /* n_objects of them */
    float *sprites;                       /* per object, all sizes from least to most */
    int64_t sprite_at[NN_SCENE_OBJECTS];  /* offset of the smallest size, in floats */
};

#endif
