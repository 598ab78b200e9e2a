/* The ground truth record:
 *
 *     {"seed": "7", "index": 3, "size": 64, "kind": "related", "relation": "left",
 *      "background": "gray", "sized": false, "sprite_middle": 24,
 *      "objects": [{"object": "dog", "x": 4, "y": 4, "size": 24, "cell": 0}, ...]}
 *
 * The seed is a string, because JSON readers keep only 53 bits of a number. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/scenes_words.h"

enum { MOST_BYTES = 4096, MOST_SIZE = 512 };

nn_status nn_scene_write_json(const nn_scene *scene, nn_text *out)
{
    const nn_scene_facts *f = &scene->facts;
    NN_TRY(
        nn_text_add(out,
                    "{\"seed\": \"%" PRIu64 "\", \"index\": %" PRIu64
                    ", \"size\": %d, \"kind\": \"%s\", \"relation\": \"%s\", "
                    "\"background\": \"%s\", \"sized\": %s, \"sprite_middle\": %d, \"objects\": [",
                    scene->seed, scene->index, scene->size, nn_scene_kind_name(f->kind),
                    nn_scene_relation_name(f->relation), nn_scene_background_name(f->background),
                    scene->sized ? "true" : "false", scene->sprite_middle));
    for (int i = 0; i < scene->n_items; i++) {
        const nn_scene_item *it = &scene->item[i];
        NN_TRY(nn_text_add(
            out, "%s{\"object\": \"%s\", \"x\": %d, \"y\": %d, \"size\": %d, \"cell\": %d}",
            i ? ", " : "", nn_scene_object_name(it->object, 1), it->x, it->y, it->size, it->cell));
    }
    return nn_text_add(out, "]}");
}

static nn_status read_int(const json_t *from, const char *key, int64_t least, int64_t most,
                          int64_t *out)
{
    const json_t *v = json_object_get(from, key);
    if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > most)
        return nn_fail(NN_FORMAT, "scene: \"%s\" is not a whole number in %" PRId64 "..%" PRId64,
                       key, least, most);
    *out = json_integer_value(v);
    return NN_OK;
}

static nn_status read_small(const json_t *from, const char *key, int least, int most, int *out)
{
    int64_t v = 0;
    NN_TRY(read_int(from, key, least, most, &v));
    *out = (int)v;
    return NN_OK;
}

/* A string that is one of n names. */
static nn_status read_name(const json_t *from, const char *key, const char *(*name)(int), int n,
                           int *out)
{
    const char *v = json_string_value(json_object_get(from, key));
    for (int i = 0; v && i < n; i++) {
        if (strcmp(v, name(i)) != 0) continue;
        *out = i;
        return NN_OK;
    }
    return nn_fail(NN_FORMAT, "scene: \"%s\" is %s%.40s, expected one of %d names such as \"%s\"",
                   key, v ? "" : "missing", v ? v : "", n, name(0));
}

static const char *kind_name(int i)
{
    return nn_scene_kind_name((nn_scene_kind)i);
}

static const char *relation_name(int i)
{
    return nn_scene_relation_name((nn_scene_relation)i);
}

static const char *object_name(int i)
{
    return nn_scene_object_name(i, 1);
}

static nn_status read_item(const json_t *from, const nn_scene *scene, nn_scene_item *it)
{
    NN_TRY(read_name(from, "object", object_name, NN_SCENE_OBJECTS, &it->object));
    NN_TRY(read_small(from, "size", 1, scene->size, &it->size));
    NN_TRY(read_small(from, "x", 0, scene->size - it->size, &it->x));
    NN_TRY(read_small(from, "y", 0, scene->size - it->size, &it->y));
    return read_small(from, "cell", -1, 15, &it->cell);
}

/* Items come group by group; more than two groups is no scene. */
static nn_status add_to_groups(nn_scene_facts *f, int object)
{
    int last = f->n_groups - 1;
    if (last >= 0 && f->group[last].object == object) {
        f->group[last].count++;
        return NN_OK;
    }
    if (f->n_groups == 2 || (f->n_groups == 1 && f->group[0].object == object))
        return nn_fail(NN_FORMAT, "scene: more than two groups of objects");
    f->group[f->n_groups].object = object;
    f->group[f->n_groups++].count = 1;
    return NN_OK;
}

static nn_status check_kind(const nn_scene *s)
{
    const nn_scene_facts *f = &s->facts;
    bool related = f->kind == NN_SCENE_RELATED;
    if (f->n_groups != (f->kind == NN_SCENE_ALONE ? 1 : 2) || related != (f->relation != 0) ||
        (related && s->n_items != 2))
        return nn_fail(NN_FORMAT, "scene: %d objects of %d kinds with relation %s are not \"%s\"",
                       s->n_items, f->n_groups, nn_scene_relation_name(f->relation),
                       nn_scene_kind_name(f->kind));
    return NN_OK;
}

static nn_status read_origin(const json_t *root, nn_scene *s)
{
    const char *seed = json_string_value(json_object_get(root, "seed"));
    char *end = NULL;
    errno = 0;
    if (seed && seed[0] >= '0' && seed[0] <= '9') s->seed = strtoull(seed, &end, 10);
    if (!end || *end || errno)
        return nn_fail(NN_FORMAT, "scene: \"seed\" is not a string of decimal digits");
    int64_t index = 0;
    NN_TRY(read_int(root, "index", 0, INT64_MAX, &index));
    s->index = (uint64_t)index;
    return NN_OK;
}

static nn_status read_head(const json_t *root, nn_scene *s)
{
    int kind = 0, relation = 0;
    NN_TRY(read_small(root, "size", 32, MOST_SIZE, &s->size));
    NN_TRY(read_name(root, "kind", kind_name, NN_SCENE_KINDS, &kind));
    NN_TRY(read_name(root, "relation", relation_name, NN_SCENE_RELATIONS, &relation));
    NN_TRY(read_name(root, "background", nn_scene_background_name, NN_SCENE_BACKGROUNDS,
                     &s->facts.background));
    NN_TRY(read_small(root, "sprite_middle", 1, s->size, &s->sprite_middle));
    const json_t *sized = json_object_get(root, "sized");
    if (!json_is_boolean(sized)) return nn_fail(NN_FORMAT, "scene: \"sized\" is not a boolean");
    s->sized = json_is_true(sized);
    s->facts.kind = (nn_scene_kind)kind;
    s->facts.relation = (nn_scene_relation)relation;
    return NN_OK;
}

static nn_status read_root(const json_t *root, nn_scene *s)
{
    *s = (nn_scene){ 0 };
    NN_TRY(read_origin(root, s));
    NN_TRY(read_head(root, s));
    const json_t *objects = json_object_get(root, "objects");
    size_t n = json_array_size(objects);
    if (n < 1 || n > NN_SCENE_ITEMS)
        return nn_fail(NN_FORMAT, "scene: \"objects\" holds %zu entries, expected 1 to %d", n,
                       NN_SCENE_ITEMS);
    for (size_t i = 0; i < n; i++) {
        NN_TRY(read_item(json_array_get(objects, i), s, &s->item[i]));
        NN_TRY(add_to_groups(&s->facts, s->item[i].object));
    }
    s->n_items = (int)n;
    return check_kind(s);
}

nn_status nn_scene_read_json(const char *json, int64_t length, nn_scene *scene)
{
    if (length < 0 || length > MOST_BYTES)
        return nn_fail(NN_FORMAT, "scene: a record of %" PRId64 " bytes, expected at most %d",
                       length, MOST_BYTES);
    json_error_t error;
    json_t *root = json_loadb(json, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return nn_fail(NN_FORMAT, "scene: not JSON: %s at byte %d", error.text, error.position);
    nn_status status = read_root(root, scene);
    json_decref(root);
    return status;
}
