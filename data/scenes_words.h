/* The vocabulary of the scenes; private to data/scenes_*.c. */
#ifndef DATA_SCENES_WORDS_H
#define DATA_SCENES_WORDS_H

#include "data/scenes.h"

typedef struct scene_object {
    uint32_t code; /* of the emoji */
    const char *one, *many;
} scene_object;
extern const scene_object scene_objects[NN_SCENE_OBJECTS];

typedef struct scene_background {
    const char *name;
    uint8_t rgb[3];
} scene_background;
extern const scene_background scene_backgrounds[NN_SCENE_BACKGROUNDS];

extern const char *const scene_numbers[NN_SCENE_ITEMS + 1];        /* "three"          */
extern const char *const scene_relations[NN_SCENE_RELATIONS];      /* "to the left of" */
extern const char *const scene_places[NN_SCENE_PLACES];            /* "top left"       */
extern const char *const scene_relation_words[NN_SCENE_RELATIONS]; /* "left"           */

#endif
