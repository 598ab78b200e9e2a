/* The grammar: which objects, how many, how related, on what; and the rule of the splits. */
#include "data/scenes.h"

#include "data/scenes_layout.h"
#include "engine/base/rng.h"

bool nn_scene_count_held_out(int object, int count)
{
    return (5 * object + 3 * count) % 8 == 0;
}

bool nn_scene_pair_held_out(int first, int second)
{
    return (7 * first + 3 * second) % 5 == 0;
}

static bool any_count_held_out(const nn_scene_facts *f)
{
    bool held = false;
    for (int i = 0; i < f->n_groups; i++)
        held |= nn_scene_count_held_out(f->group[i].object, f->group[i].count);
    return held;
}

static bool pair_held_out(const nn_scene_facts *f)
{
    return f->n_groups == 2 && nn_scene_pair_held_out(f->group[0].object, f->group[1].object);
}

bool nn_scene_is_held_out(const nn_scene *scene)
{
    return any_count_held_out(&scene->facts) || pair_held_out(&scene->facts);
}

/* A held-out related scene tests its pair alone, so its single objects must have been seen. */
static bool belongs(const nn_scene_facts *f, nn_scene_split split)
{
    bool counts = any_count_held_out(f), pair = pair_held_out(f);
    if (split == NN_SCENE_ANY) return true;
    if (split == NN_SCENE_TRAIN) return !counts && !pair;
    return f->kind == NN_SCENE_RELATED ? pair && !counts : counts;
}

nn_scene_config nn_scene_config_default(int n_objects, int n_backgrounds, int size,
                                        nn_scene_layout layout)
{
    static const int least[NN_SCENE_LAYOUTS] = { 24, 14, 16, 15 };
    static const int most[NN_SCENE_LAYOUTS] = { 24, 14, 16, 21 };
    return (nn_scene_config){ .n_objects = n_objects,
                              .n_backgrounds = n_backgrounds,
                              .size = size,
                              .layout = layout,
                              .sprite_least = least[layout] * size / 64,
                              .sprite_most = most[layout] * size / 64,
                              .aligned = true,
                              .percent = { 45, 40, 15 } };
}

static nn_status check_sprites(const nn_scene_config *c)
{
    int room = c->layout == NN_SCENE_GRID2  ? c->size / 2
               : c->layout == NN_SCENE_FREE ? c->size / 3
                                            : c->size / 4;
    if (c->sprite_least < 4 || c->sprite_least > c->sprite_most || c->sprite_most > room)
        return nn_fail(NN_ARGUMENT,
                       "scenes: sprites of %d to %d pixels; layout %s at %d pixels has room for "
                       "4 to %d",
                       c->sprite_least, c->sprite_most, nn_scene_layout_name(c->layout), c->size,
                       room);
    return NN_OK;
}

nn_status nn_scene_config_check(const nn_scene_config *c)
{
    if (c->n_objects < 4 || c->n_objects > NN_SCENE_OBJECTS)
        return nn_fail(NN_ARGUMENT, "scenes: %d objects, expected 4 to %d", c->n_objects,
                       NN_SCENE_OBJECTS);
    if (c->n_backgrounds < 1 || c->n_backgrounds > NN_SCENE_BACKGROUNDS)
        return nn_fail(NN_ARGUMENT, "scenes: %d backgrounds, expected 1 to %d", c->n_backgrounds,
                       NN_SCENE_BACKGROUNDS);
    if (c->size < 32 || c->size > 512 || c->size % 8)
        return nn_fail(NN_ARGUMENT, "scenes: %d pixels a side, expected a multiple of 8 in 32..512",
                       c->size);
    if ((unsigned)c->layout >= NN_SCENE_LAYOUTS)
        return nn_fail(NN_ARGUMENT, "scenes: layout %d does not exist", (int)c->layout);
    NN_TRY(check_sprites(c));
    int sum = 0;
    for (int i = 0; i < NN_SCENE_KINDS; i++) {
        if (c->percent[i] < 0)
            return nn_fail(NN_ARGUMENT, "scenes: a kind has the share %d %%", c->percent[i]);
        sum += c->percent[i];
    }
    if (sum != 100)
        return nn_fail(NN_ARGUMENT, "scenes: the shares of the kinds add up to %d %%, expected 100",
                       sum);
    return NN_OK;
}

static int below(nn_rng *rng, int n)
{
    return (int)nn_rng_below(rng, (uint64_t)n);
}

static nn_scene_kind draw_kind(nn_rng *rng, const int percent[NN_SCENE_KINDS])
{
    int at = below(rng, 100), kind = 0;
    while (at >= percent[kind]) at -= percent[kind++];
    return (nn_scene_kind)kind;
}

/* Counts of a counted scene: together 3 or 4, so that at least one is a plural. */
static void draw_counts(nn_rng *rng, nn_scene_facts *f)
{
    static const int counts[][2] = { { 1, 2 }, { 2, 1 }, { 1, 3 }, { 2, 2 }, { 3, 1 } };
    int i = below(rng, NN_COUNT(counts));
    f->group[0].count = counts[i][0];
    f->group[1].count = counts[i][1];
}

/* Rejection keeps every composition of the split equally likely. It ends: nn_scene_make has
 * checked that each kind has one. */
static nn_scene_facts draw_facts(nn_rng *rng, const nn_scene_config *c, nn_scene_split split)
{
    nn_scene_facts f = { .kind = draw_kind(rng, c->percent) };
    f.n_groups = f.kind == NN_SCENE_ALONE ? 1 : 2;
    f.background = below(rng, c->n_backgrounds);
    if (f.kind == NN_SCENE_RELATED)
        f.relation = (nn_scene_relation)(NN_SCENE_LEFT + below(rng, NN_SCENE_RELATIONS - 1));
    do {
        f.group[0].object = below(rng, c->n_objects);
        f.group[0].count = f.kind == NN_SCENE_ALONE ? 1 + below(rng, NN_SCENE_ITEMS) : 1;
        if (f.n_groups == 1) continue;
        f.group[1].object = (f.group[0].object + 1 + below(rng, c->n_objects - 1)) % c->n_objects;
        f.group[1].count = 1;
        if (f.kind == NN_SCENE_COUNTED) draw_counts(rng, &f);
    } while (!belongs(&f, split));
    return f;
}

nn_status nn_scene_make(const nn_scene_config *config, nn_scene_split split, uint64_t seed,
                        uint64_t index, nn_scene *scene)
{
    NN_TRY(nn_scene_config_check(config));
    if (split == NN_SCENE_HELD_OUT && config->n_objects < 6 && config->percent[NN_SCENE_RELATED])
        return nn_fail(NN_ARGUMENT,
                       "scenes: no pair among %d objects is held out; use at least 6 objects or no "
                       "related scenes",
                       config->n_objects);
    nn_rng rng = nn_rng_make(seed, "scene", index);
    *scene = (nn_scene){ .seed = seed,
                         .index = index,
                         .size = config->size,
                         .sized = config->sprite_least != config->sprite_most,
                         .sprite_middle = (config->sprite_least + config->sprite_most + 1) / 2 };
    scene->facts = draw_facts(&rng, config, split);
    nn_scene_lay_out(config, &rng, scene);
    return NN_OK;
}
