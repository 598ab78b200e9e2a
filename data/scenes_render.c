/* Opening a corpus (sprites, names) and drawing its scenes. */
#include <math.h>
#include <string.h>

#include "data/scenes_corpus.h"
#include "data/scenes_words.h"
#include "engine/base/alloc.h"
#include "engine/base/rng.h"

enum { MOST_SIZE = 512 };
static const float shading = 0.06f;   /* brightness lost from top to bottom */
static const float noise_step = 0.2f; /* noise: triangular on -15 .. 15 times this, sd 1.3 */

static nn_status load_names(nn_scenes *s, const char *annotations)
{
    uint32_t codes[NN_SCENE_OBJECTS];
    int n = s->config.n_objects;
    for (int i = 0; i < n; i++) codes[i] = scene_objects[i].code;
    NN_TRY(nn_emoji_names_load(annotations, codes, n, &s->arena, s->name));
    for (int i = 0; i < n; i++)
        if (!nn_emoji_is_called(&s->name[i], scene_objects[i].one))
            return nn_fail(NN_FORMAT,
                           "annotations: U+%04X is \"%s\" and has no keyword \"%s\"; expected the "
                           "English annotations of the Debian package unicode-cldr-core",
                           (unsigned)codes[i], s->name[i].name, scene_objects[i].one);
    return NN_OK;
}

static int64_t sprite_floats(int size)
{
    return (int64_t)4 * size * size;
}

static nn_status load_sprites(nn_scenes *s, nn_emoji_font *font)
{
    const nn_scene_config *c = &s->config;
    int64_t each = 0;
    for (int size = c->sprite_least; size <= c->sprite_most; size++) each += sprite_floats(size);
    s->sprites = nn_alloc(each * c->n_objects, sizeof(float));
    NN_NEED(s->sprites);
    float *at = s->sprites;
    for (int i = 0; i < c->n_objects; i++) {
        s->sprite_at[i] = at - s->sprites;
        for (int size = c->sprite_least; size <= c->sprite_most; size++) {
            NN_TRY(nn_emoji_sprite(font, scene_objects[i].code, size, at));
            at += sprite_floats(size);
        }
    }
    return NN_OK;
}

static nn_status load(nn_scenes *s, const char *font_path, const char *annotations)
{
    NN_TRY(nn_scene_config_check(&s->config));
    NN_TRY(load_names(s, annotations));
    nn_emoji_font *font;
    NN_TRY(nn_emoji_font_open(font_path, &font));
    nn_status status = load_sprites(s, font);
    nn_emoji_font_close(font);
    return status;
}

nn_status nn_scenes_open(const nn_scene_config *config, const char *font, const char *annotations,
                         nn_scenes **scenes)
{
    *scenes = NULL;
    nn_scenes *s = nn_alloc(1, sizeof *s);
    NN_NEED(s);
    s->config = *config;
    nn_status status = load(s, font, annotations);
    if (status != NN_OK) {
        nn_scenes_close(s);
        return status;
    }
    *scenes = s;
    return NN_OK;
}

void nn_scenes_close(nn_scenes *scenes)
{
    if (!scenes) return;
    nn_arena_free(&scenes->arena);
    nn_free(scenes->sprites);
    nn_free(scenes);
}

static const float *sprite_of(const nn_scenes *s, const nn_scene_item *it)
{
    const float *at = s->sprites + s->sprite_at[it->object];
    for (int size = s->config.sprite_least; size < it->size; size++) at += sprite_floats(size);
    return at;
}

static void fill_row(float *row, int size, int y, const uint8_t rgb[3])
{
    float light = 1 + shading * (0.5f - (float)y / (float)(size - 1));
    for (int x = 0; x < size; x++)
        for (int c = 0; c < 3; c++) row[3 * x + c] = fminf(255, light * (float)rgb[c]);
}

/* Lay row y of a sprite over the picture: out = sprite + (1 - alpha) * out. */
static void blend_row(float *row, const nn_scene_item *it, int y, const float *sprite)
{
    if (y < it->y || y >= it->y + it->size) return;
    const float *rgba = sprite + (ptrdiff_t)4 * (y - it->y) * it->size;
    float *out = row + (ptrdiff_t)3 * it->x;
    for (int x = 0; x < it->size; x++, rgba += 4, out += 3)
        for (int c = 0; c < 3; c++) out[c] = 255 * rgba[c] + (1 - rgba[3]) * out[c];
}

static void store_row(const float *row, int n, nn_rng *rng, uint8_t *out)
{
    uint32_t bits = 0;
    for (int i = 0; i < n; i++, bits >>= 8) {
        if (i % 4 == 0) bits = nn_rng_u32(rng);
        int noise = (int)(bits & 15) + (int)(bits >> 4 & 15) - 15;
        float v = row[i] + noise_step * (float)noise;
        out[i] = (uint8_t)(fminf(fmaxf(v, 0), 255) + 0.5f);
    }
}

static nn_status check_fits(const nn_scene_config *c, const nn_scene *scene)
{
    bool ok = scene->size == c->size && scene->facts.background < c->n_backgrounds;
    for (int i = 0; i < scene->n_items; i++)
        ok &= scene->item[i].object < c->n_objects && scene->item[i].size >= c->sprite_least &&
              scene->item[i].size <= c->sprite_most;
    if (!ok)
        return nn_fail(NN_ARGUMENT,
                       "scene %llu of %d pixels was made with another config than the corpus that "
                       "renders it (%d pixels, %d objects, %d backgrounds)",
                       (unsigned long long)scene->index, scene->size, c->size, c->n_objects,
                       c->n_backgrounds);
    return NN_OK;
}

nn_status nn_scene_render(const nn_scenes *scenes, const nn_scene *scene, uint8_t *rgb)
{
    NN_TRY(check_fits(&scenes->config, scene));
    const float *sprite[NN_SCENE_ITEMS];
    for (int i = 0; i < scene->n_items; i++) sprite[i] = sprite_of(scenes, &scene->item[i]);
    nn_rng rng = nn_rng_make(scene->seed, "scene-noise", scene->index);
    float row[3 * MOST_SIZE];
    for (int y = 0; y < scene->size; y++, rgb += (ptrdiff_t)3 * scene->size) {
        fill_row(row, scene->size, y, scene_backgrounds[scene->facts.background].rgb);
        for (int i = 0; i < scene->n_items; i++) blend_row(row, &scene->item[i], y, sprite[i]);
        store_row(row, 3 * scene->size, &rng, rgb);
    }
    return NN_OK;
}
