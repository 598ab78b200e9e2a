/* Scenes that answer prompts, and the score of a picture whose objects were detected. */
#include "data/scenes.h"
#include "engine/base/rng.h"

static const char *const streams[] = { "prompt-soa", "prompt-ca", "prompt-pa" };

/* The config that makes only the kinds of scenes that the metric is about. */
static nn_scene_config narrowed(const nn_scene_config *config, nn_scene_metric metric)
{
    nn_scene_config c = *config;
    if (metric == NN_SCENE_CA) {
        c.percent[NN_SCENE_ALONE] = 75;
        c.percent[NN_SCENE_RELATED] = 0;
        c.percent[NN_SCENE_COUNTED] = 25;
    } else if (metric == NN_SCENE_PA) {
        c.percent[NN_SCENE_ALONE] = c.percent[NN_SCENE_COUNTED] = 0;
        c.percent[NN_SCENE_RELATED] = 100;
    }
    return c;
}

nn_status nn_scene_prompt(const nn_scene_config *config, nn_scene_metric metric,
                          nn_scene_split split, uint64_t seed, uint64_t index, nn_scene *answer)
{
    NN_TRY(nn_scene_config_check(config));
    nn_scene_config c = narrowed(config, metric);
    return nn_scene_make(&c, split, nn_mix(seed, nn_hash_text(streams[metric])), index, answer);
}

/* How often an object was found, and the mean of its centres. */
typedef struct tally {
    int n;
    float x, y;
} tally;

static tally tally_of(int object, const nn_scene_detection *found, int n)
{
    tally t = { 0 };
    for (int i = 0; i < n; i++) {
        if (found[i].object != object) continue;
        t.n++;
        t.x += found[i].x;
        t.y += found[i].y;
    }
    if (t.n) {
        t.x /= (float)t.n;
        t.y /= (float)t.n;
    }
    return t;
}

nn_scene_score nn_scene_score_picture(const nn_scene *answer, const nn_scene_detection *found,
                                      int n)
{
    const nn_scene_facts *f = &answer->facts;
    nn_scene_score score = { .n_named = f->n_groups };
    tally t[2] = { { 0 } };
    for (int i = 0; i < f->n_groups; i++) {
        t[i] = tally_of(f->group[i].object, found, n);
        score.n_present += t[i].n > 0;
        score.n_exact += t[i].n == f->group[i].count;
        score.count_error[i] = t[i].n - f->group[i].count;
    }
    score.exact = score.n_exact == f->n_groups && t[0].n + t[1].n == n;
    score.related = f->relation && score.n_present == 2 &&
                    nn_scene_relation_holds(f->relation, t[0].x, t[0].y, t[1].x, t[1].y,
                                            0.0625f * (float)answer->size);
    return score;
}
