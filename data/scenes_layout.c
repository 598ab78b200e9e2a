/* Placement by rejection: draw all objects, start again when two overlap or the relation fails.
 * The worst case (an aligned relation on GRID2) accepts one draw in eight. */
#include "data/scenes_layout.h"

#include <math.h>
#include <stdlib.h>

static int below(nn_rng *rng, int n)
{
    return (int)nn_rng_below(rng, (uint64_t)n);
}

static void draw_in_grid(const nn_scene_config *c, nn_rng *rng, int columns, nn_scene_item *it)
{
    int side = c->size / columns;
    it->cell = below(rng, columns * columns);
    it->x = it->cell % columns * side + (side - it->size) / 2;
    it->y = it->cell / columns * side + (side - it->size) / 2;
}

static void draw_item(const nn_scene_config *c, nn_rng *rng, nn_scene_item *it)
{
    it->size = c->sprite_least + below(rng, c->sprite_most - c->sprite_least + 1);
    it->cell = -1;
    int room = c->size - it->size, step = c->size / 8;
    switch (c->layout) {
    case NN_SCENE_GRID2:
        draw_in_grid(c, rng, 2, it);
        break;
    case NN_SCENE_GRID4:
        draw_in_grid(c, rng, 4, it);
        break;
    case NN_SCENE_LATTICE:
        it->x = step * below(rng, room / step + 1);
        it->y = step * below(rng, room / step + 1);
        break;
    default:
        it->x = below(rng, room + 1);
        it->y = below(rng, room + 1);
    }
}

static bool overlap(const nn_scene_item *a, const nn_scene_item *b)
{
    return a->x < b->x + b->size && b->x < a->x + a->size && a->y < b->y + b->size &&
           b->y < a->y + a->size;
}

static bool relation_fits(const nn_scene_config *c, const nn_scene *scene)
{
    nn_scene_relation r = scene->facts.relation;
    if (r == NN_SCENE_UNRELATED) return true;
    const nn_scene_item *a = &scene->item[0], *b = &scene->item[1];
    float ax = (float)a->x + 0.5f * (float)a->size, ay = (float)a->y + 0.5f * (float)a->size;
    float bx = (float)b->x + 0.5f * (float)b->size, by = (float)b->y + 0.5f * (float)b->size;
    if (!nn_scene_relation_holds(r, ax, ay, bx, by, 0.125f * (float)c->size)) return false;
    if (!c->aligned) return true;
    float across = fabsf(ax - bx), along = fabsf(ay - by);
    bool level = r == NN_SCENE_LEFT || r == NN_SCENE_RIGHT;
    return level ? across >= 2 * along : along >= 2 * across;
}

static bool try_once(const nn_scene_config *c, nn_rng *rng, nn_scene *scene)
{
    for (int i = 0; i < scene->n_items; i++) {
        draw_item(c, rng, &scene->item[i]);
        for (int j = 0; j < i; j++)
            if (overlap(&scene->item[i], &scene->item[j])) return false;
    }
    return relation_fits(c, scene);
}

void nn_scene_lay_out(const nn_scene_config *config, nn_rng *rng, nn_scene *scene)
{
    scene->n_items = 0;
    for (int g = 0; g < scene->facts.n_groups; g++)
        for (int k = 0; k < scene->facts.group[g].count; k++)
            scene->item[scene->n_items++].object = scene->facts.group[g].object;
    while (!try_once(config, rng, scene)) continue;
}

bool nn_scene_relation_holds(nn_scene_relation relation, float ax, float ay, float bx, float by,
                             float margin)
{
    switch (relation) {
    case NN_SCENE_LEFT:
        return ax + margin < bx;
    case NN_SCENE_RIGHT:
        return bx + margin < ax;
    case NN_SCENE_ABOVE:
        return ay + margin < by;
    case NN_SCENE_BELOW:
        return by + margin < ay;
    default:
        return false;
    }
}

int nn_scene_place(const nn_scene *scene, const nn_scene_item *item)
{
    int column = 3 * (2 * item->x + item->size) / (2 * scene->size);
    int row = 3 * (2 * item->y + item->size) / (2 * scene->size);
    return 3 * row + column;
}
