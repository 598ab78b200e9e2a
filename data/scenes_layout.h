/* Placement of a scene's objects; private to data/scenes*.c. */
#ifndef DATA_SCENES_LAYOUT_H
#define DATA_SCENES_LAYOUT_H

#include "data/scenes.h"
#include "engine/base/rng.h"

/* Fill scene->item from scene->facts: boxes inside the picture that do not overlap and make the
 * relation true. The config must have been checked. */
void nn_scene_lay_out(const nn_scene_config *config, nn_rng *rng, nn_scene *scene);

#endif
