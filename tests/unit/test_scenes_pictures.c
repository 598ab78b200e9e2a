/* What needs the installed font and annotations: sprites, names, pictures, alt-text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/emoji.h"
#include "data/scenes.h"
#include "engine/base/alloc.h"
#include "engine/base/rng.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

enum { SEED = 7, SIZE = 64, BYTES = 3 * SIZE * SIZE };

static nn_scenes *open_scenes(nn_scene_config *c, nn_scene_layout layout)
{
    nn_scenes *scenes;
    *c = nn_scene_config_default(16, 7, SIZE, layout);
    OK(nn_scenes_open(c, NULL, NULL, &scenes));
    return scenes;
}

static void test_sprite_fits_its_square(void **state)
{
    (void)state;
    enum { S = 24 };
    static float rgba[4 * S * S];
    nn_emoji_font *font;
    OK(nn_emoji_font_open(NULL, &font));
    OK(nn_emoji_sprite(font, 0x1F34E, S, rgba));
    float top = 0, bottom = 0, ink = 0, red = 0, blue = 0;
    for (int i = 0; i < S * S; i++) {
        const float *p = rgba + (ptrdiff_t)4 * i;
        for (int c = 0; c < 3; c++) assert_true(p[c] >= 0 && p[c] <= p[3] + 1e-6f);
        assert_true(p[3] <= 1 + 1e-6f);
        if (i < S) top += p[3];
        if (i >= S * (S - 1)) bottom += p[3];
        ink += p[3];
        red += p[0];
        blue += p[2];
    }
    assert_true(top > 0 && bottom > 0); /* an apple is taller than wide */
    assert_true(ink > 0.4f * S * S && ink < 0.95f * S * S);
    assert_true(red > 2 * blue);
    assert_int_equal(nn_emoji_sprite(font, 'q', S, rgba), NN_NOT_FOUND);
    assert_int_equal(nn_emoji_sprite(font, 0x1F34E, 0, rgba), NN_ARGUMENT);
    nn_emoji_font_close(font);
}

static void test_average_keeps_the_mean(void **state)
{
    (void)state;
    static float small[4 * 16 * 16], large[4 * 64 * 64];
    nn_emoji_font *font;
    OK(nn_emoji_font_open(NULL, &font));
    OK(nn_emoji_sprite(font, 0x1F438, 16, small));
    OK(nn_emoji_sprite(font, 0x1F438, 64, large));
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 64; x++) { /* x counts channels */
            float sum = 0;
            for (int v = 0; v < 4; v++)
                for (int u = 0; u < 4; u++)
                    sum += large[4 * ((4 * y + v) * 64 + 4 * (x / 4) + u) + x % 4];
            assert_true(fabsf(sum / 16 - small[64 * y + x]) < 1e-5f);
        }
    nn_emoji_font_close(font);
}

static void test_missing_files_name_their_package(void **state)
{
    (void)state;
    nn_scene_config c = nn_scene_config_default(4, 1, SIZE, NN_SCENE_GRID2);
    nn_scenes *scenes;
    assert_int_equal(nn_scenes_open(&c, "/nowhere/x.ttf", NULL, &scenes), NN_NOT_FOUND);
    assert_non_null(strstr(nn_error_message(), "fonts-noto-color-emoji"));
    assert_int_equal(nn_scenes_open(&c, NULL, "/nowhere/en.xml", &scenes), NN_NOT_FOUND);
    assert_non_null(strstr(nn_error_message(), "unicode-cldr-core"));
    assert_int_equal(nn_scenes_open(&c, NN_EMOJI_ANNOTATIONS, NULL, &scenes), NN_FORMAT);
    assert_int_equal(nn_scenes_open(&c, NULL, NN_EMOJI_FONT, &scenes), NN_NOT_FOUND);
    assert_null(scenes);
}

static void test_names_are_scanned(void **state)
{
    (void)state;
    static const char xml[] =
        "<ldml><annotation cp=\"&amp;\">and</annotation>"
        "<annotation cp=\"\xe2\xad\x90\">star | a &lt; b |x</annotation>"
        "<annotation cp=\"\xe2\xad\x90\" type=\"tts\"> big star </annotation>";
    const uint32_t codes[] = { 0x2B50 };
    nn_arena arena = { 0 };
    nn_emoji_name name;
    OK(nn_emoji_names_parse(xml, sizeof xml - 1, "x", codes, 1, &arena, &name));
    assert_string_equal(name.name, "big star");
    assert_int_equal(name.n_keywords, 3);
    assert_string_equal(name.keywords[1], "a < b");
    assert_true(nn_emoji_is_called(&name, "x") && nn_emoji_is_called(&name, "big"));
    assert_false(nn_emoji_is_called(&name, "bi"));
    for (int64_t cut = 0; cut < (int64_t)sizeof xml - 1; cut++) {
        nn_status status = nn_emoji_names_parse(xml, cut, "x", codes, 1, &arena, &name);
        assert_true(status == NN_FORMAT || status == NN_NOT_FOUND);
    }
    nn_arena_free(&arena);
}

static void test_same_scene_same_bytes(void **state)
{
    (void)state;
    nn_scene_config c;
    nn_scenes *one = open_scenes(&c, NN_SCENE_FREE), *other = open_scenes(&c, NN_SCENE_FREE);
    uint8_t a[BYTES], b[BYTES];
    uint64_t before = 0;
    for (int i = 49; i >= 0; i--) {
        nn_scene s;
        OK(nn_scene_make(&c, NN_SCENE_TRAIN, SEED, (uint64_t)i, &s));
        OK(nn_scene_render(one, &s, a));
        OK(nn_scene_make(&c, NN_SCENE_TRAIN, SEED, (uint64_t)i, &s));
        OK(nn_scene_render(other, &s, b));
        assert_memory_equal(a, b, BYTES);
        uint64_t hash = nn_hash(0, a, BYTES);
        assert_true(hash != before);
        before = hash;
    }
    nn_scene_config wrong = c;
    wrong.size = 128;
    nn_scene s;
    OK(nn_scene_make(&wrong, NN_SCENE_TRAIN, SEED, 0, &s));
    assert_int_equal(nn_scene_render(one, &s, a), NN_ARGUMENT);
    nn_scenes_close(one);
    nn_scenes_close(other);
}

/* Mean over the box of the largest difference of a channel to the empty background. */
static double contrast(const nn_scenes *scenes, int object, int background)
{
    nn_scene s = { .size = SIZE,
                   .facts = { .n_groups = 1, .background = background },
                   .n_items = 1,
                   .item = { { object, 4, 4, 24, 0 } } };
    uint8_t with[BYTES], without[BYTES];
    OK(nn_scene_render(scenes, &s, with));
    s.n_items = 0;
    OK(nn_scene_render(scenes, &s, without));
    double sum = 0, ink = 0;
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            int most = 0;
            for (int k = 0; k < 3; k++) {
                int at = 3 * (y * SIZE + x) + k, d = abs(with[at] - without[at]);
                if (d > most) most = d;
            }
            if (x < 4 || y < 4 || x >= 28 || y >= 28)
                assert_int_equal(most, 0);
            else if (most > 8)
                sum += most, ink++;
        }
    return ink ? sum / ink : 0;
}

static void test_objects_stand_out_and_stay_in_their_box(void **state)
{
    (void)state;
    nn_scene_config c;
    nn_scenes *scenes = open_scenes(&c, NN_SCENE_GRID2);
    for (int o = 0; o < NN_SCENE_OBJECTS; o++)
        for (int b = 0; b < NN_SCENE_BACKGROUNDS; b++) assert_true(contrast(scenes, o, b) >= 60);
    nn_scenes_close(scenes);
}

static void test_background_is_shaded_and_noisy(void **state)
{
    (void)state;
    nn_scene_config c;
    nn_scenes *scenes = open_scenes(&c, NN_SCENE_GRID2);
    nn_scene s = { .size = SIZE, .facts = { .background = 2 } };
    uint8_t rgb[BYTES];
    OK(nn_scene_render(scenes, &s, rgb));
    double row[SIZE] = { 0 }, variance = 0;
    for (int i = 0; i < BYTES; i++) row[i / (3 * SIZE)] += rgb[i] / (3.0 * SIZE);
    for (int i = 0; i < BYTES; i++) variance += pow(rgb[i] - row[i / (3 * SIZE)], 2) / BYTES;
    assert_true(fabs(row[0] - 136 * 1.03) < 0.6 && fabs(row[SIZE - 1] - 136 * 0.97) < 0.6);
    assert_true(sqrt(variance) > 1 && sqrt(variance) < 1.7);
    nn_scenes_close(scenes);
}

static int words_of(const char *text)
{
    int n = 0;
    for (bool in = false; *text; text++) {
        if (*text != ' ' && !in) n++;
        in = *text != ' ';
    }
    return n;
}

static bool states_count_or_relation(const char *text)
{
    nn_scene_reading r;
    nn_scene_parse(text, &r);
    return r.facts.relation || r.facts.group[0].count || r.facts.group[1].count;
}

static void test_alt_text_has_its_mix(void **state)
{
    (void)state;
    enum { N = 20000 };
    static const int percent[NN_SCENE_ALTS] = { 40, 25, 12, 13, 5, 5 };
    nn_scene_config c;
    nn_scenes *scenes = open_scenes(&c, NN_SCENE_GRID2);
    int seen[NN_SCENE_ALTS] = { 0 }, foreign_full = 0;
    nn_text t = { 0 };
    for (int i = 0; i < N; i++) {
        nn_scene s;
        nn_scene_alt alt;
        nn_text_clear(&t);
        OK(nn_scene_make(&c, NN_SCENE_TRAIN, SEED, (uint64_t)i, &s));
        OK(nn_scene_alt_text(scenes, NN_SCENE_TRAIN, &s, &t, &alt));
        assert_in_range(words_of(t.text), 1, 12);
        seen[alt]++;
        nn_scene_reading r;
        nn_scene_parse(t.text, &r);
        bool full = nn_scene_compare(&s, &r).full;
        if (alt == NN_SCENE_ALT_TRUE)
            assert_true(full);
        else if (alt == NN_SCENE_ALT_FOREIGN)
            foreign_full += full;
        else
            assert_false(states_count_or_relation(t.text));
        if (alt == NN_SCENE_ALT_JUNK) assert_int_equal(r.facts.n_groups, 0);
        if (alt == NN_SCENE_ALT_OBJECTS) assert_int_equal(r.facts.n_groups, s.facts.n_groups);
    }
    for (int k = 0; k < NN_SCENE_ALTS; k++) {
        double p = percent[k] / 100.0, sd = sqrt(N * p * (1 - p));
        assert_true(fabs(seen[k] - N * p) < 4.5 * sd);
    }
    assert_in_range(foreign_full, 0, 30);
    nn_text_free(&t);
    nn_scenes_close(scenes);
}

static void test_speed(void **state)
{
    (void)state;
    nn_scene_config c;
    nn_scenes *scenes = open_scenes(&c, NN_SCENE_GRID2);
    uint8_t rgb[BYTES];
    clock_t start = clock();
    int64_t allocations = nn_alloc_count();
    for (int i = 0; i < 1000; i++) {
        nn_scene s;
        OK(nn_scene_make(&c, NN_SCENE_TRAIN, SEED, (uint64_t)i, &s));
        OK(nn_scene_render(scenes, &s, rgb));
    }
    assert_true(nn_alloc_count() == allocations);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 2); /* 0.08 s when optimised */
    nn_scenes_close(scenes);
}

static void test_every_failing_allocation_is_survived(void **state)
{
    (void)state;
    nn_scene_config c = nn_scene_config_default(4, 1, SIZE, NN_SCENE_GRID2);
    for (int64_t k = 1;; k++) {
        nn_scenes *scenes;
        nn_alloc_fail_at(k);
        nn_status status = nn_scenes_open(&c, NULL, NULL, &scenes);
        nn_alloc_fail_at(0);
        if (status == NN_OK) {
            assert_true(k > 3);
            nn_scenes_close(scenes);
            break;
        }
        assert_int_equal(status, NN_MEMORY);
        assert_null(scenes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sprite_fits_its_square),
        cmocka_unit_test(test_average_keeps_the_mean),
        cmocka_unit_test(test_missing_files_name_their_package),
        cmocka_unit_test(test_names_are_scanned),
        cmocka_unit_test(test_same_scene_same_bytes),
        cmocka_unit_test(test_objects_stand_out_and_stay_in_their_box),
        cmocka_unit_test(test_background_is_shaded_and_noisy),
        cmocka_unit_test(test_alt_text_has_its_mix),
        cmocka_unit_test(test_speed),
        cmocka_unit_test(test_every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
