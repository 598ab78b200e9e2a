/* The scenes corpus: purity, the rule of the splits, captions that are true and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "data/scenes.h"
#include "engine/base/rng.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

enum { SEED = 7, MANY = 20000, SIZE = 64 };

static nn_scene_config full(nn_scene_layout layout)
{
    return nn_scene_config_default(16, 7, SIZE, layout);
}

static nn_scene make(const nn_scene_config *c, nn_scene_split split, uint64_t index)
{
    nn_scene scene;
    OK(nn_scene_make(c, split, SEED, index, &scene));
    return scene;
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

static float center(int at, int size)
{
    return (float)at + 0.5f * (float)size;
}

static bool relation_true(const nn_scene *s, nn_scene_relation r, float margin)
{
    const nn_scene_item *a = &s->item[0], *b = &s->item[1];
    return nn_scene_relation_holds(r, center(a->x, a->size), center(a->y, a->size),
                                   center(b->x, b->size), center(b->y, b->size), margin);
}

static void test_same_index_same_scene(void **state)
{
    (void)state;
    nn_scene_config c = full(NN_SCENE_FREE);
    uint64_t forward = 0, backward = 0;
    for (int i = 0; i < 200; i++) {
        nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
        forward += nn_hash(0, s.item, sizeof s.item) * (uint64_t)(2 * i + 1);
    }
    for (int i = 199; i >= 0; i--) {
        nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
        backward += nn_hash(0, s.item, sizeof s.item) * (uint64_t)(2 * i + 1);
    }
    assert_true(forward == backward);
    nn_scene one, other;
    OK(nn_scene_make(&c, NN_SCENE_ANY, 1, 3, &one));
    OK(nn_scene_make(&c, NN_SCENE_ANY, 2, 3, &other));
    assert_memory_not_equal(one.item, other.item, sizeof one.item);
}

/* The rule as the header states it, from the boxes alone. */
static bool breaks_rule(const nn_scene *s)
{
    bool held = false;
    int count[NN_SCENE_OBJECTS] = { 0 };
    for (int i = 0; i < s->n_items; i++) count[s->item[i].object]++;
    for (int o = 0; o < NN_SCENE_OBJECTS; o++)
        held |= count[o] > 0 && (5 * o + 3 * count[o]) % 8 == 0;
    int first = s->item[0].object, last = s->item[s->n_items - 1].object;
    return held || (first != last && (7 * first + 3 * last) % 5 == 0);
}

static void check_split(int n_objects)
{
    nn_scene_config c = nn_scene_config_default(n_objects, 5, SIZE, NN_SCENE_GRID2);
    int held_in_any = 0;
    for (int i = 0; i < MANY; i++) {
        nn_scene train = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
        nn_scene held = make(&c, NN_SCENE_HELD_OUT, (uint64_t)i);
        nn_scene any = make(&c, NN_SCENE_ANY, (uint64_t)i);
        assert_false(breaks_rule(&train));
        assert_false(nn_scene_is_held_out(&train));
        assert_true(breaks_rule(&held));
        assert_true(nn_scene_is_held_out(&held));
        assert_int_equal(breaks_rule(&any), nn_scene_is_held_out(&any));
        held_in_any += breaks_rule(&any);
    }
    assert_in_range(held_in_any, MANY / 10, MANY / 2);
}

static void test_training_never_sees_held_out(void **state)
{
    (void)state;
    check_split(16);
    check_split(8);
    for (int a = 0; a < NN_SCENE_OBJECTS; a++)
        for (int b = 0; b < NN_SCENE_OBJECTS; b++)
            assert_int_equal(nn_scene_pair_held_out(a, b), nn_scene_pair_held_out(b, a));
}

static void test_kinds_have_their_shares(void **state)
{
    (void)state;
    nn_scene_config c = full(NN_SCENE_GRID2);
    int n[NN_SCENE_KINDS] = { 0 }, object[NN_SCENE_OBJECTS] = { 0 };
    int relation[NN_SCENE_RELATIONS] = { 0 }, count[NN_SCENE_ITEMS + 1] = { 0 };
    for (int i = 0; i < MANY; i++) {
        nn_scene s = make(&c, NN_SCENE_ANY, (uint64_t)i);
        n[s.facts.kind]++;
        object[s.facts.group[0].object]++;
        relation[s.facts.relation]++;
        if (s.facts.kind == NN_SCENE_ALONE) count[s.facts.group[0].count]++;
    }
    assert_in_range(n[NN_SCENE_ALONE], 8700, 9300); /* 4.3 standard deviations of a binomial */
    assert_in_range(n[NN_SCENE_RELATED], 7700, 8300);
    assert_in_range(n[NN_SCENE_COUNTED], 2780, 3220);
    for (int o = 0; o < NN_SCENE_OBJECTS; o++) assert_in_range(object[o], 1090, 1410);
    for (int r = 1; r < NN_SCENE_RELATIONS; r++) assert_in_range(relation[r], 1810, 2190);
    for (int k = 1; k <= NN_SCENE_ITEMS; k++) assert_in_range(count[k], 2040, 2460);
}

static void check_boxes(const nn_scene *s)
{
    for (int i = 0; i < s->n_items; i++) {
        const nn_scene_item *a = &s->item[i];
        assert_in_range(a->x, 0, SIZE - a->size);
        assert_in_range(a->y, 0, SIZE - a->size);
        for (int j = 0; j < i; j++) {
            const nn_scene_item *b = &s->item[j];
            assert_true(a->x >= b->x + b->size || b->x >= a->x + a->size ||
                        a->y >= b->y + b->size || b->y >= a->y + a->size);
        }
    }
}

static void test_layouts(void **state)
{
    (void)state;
    for (int layout = 0; layout < NN_SCENE_LAYOUTS; layout++) {
        nn_scene_config c = full((nn_scene_layout)layout);
        uint64_t cells = 0;
        for (int i = 0; i < 3000; i++) {
            nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
            check_boxes(&s);
            for (int k = 0; k < s.n_items; k++) {
                const nn_scene_item *it = &s.item[k];
                assert_in_range(it->size, c.sprite_least, c.sprite_most);
                if (layout == NN_SCENE_LATTICE) assert_int_equal((it->x | it->y) % 8, 0);
                if (it->cell >= 0) cells |= UINT64_C(1) << it->cell;
            }
            if (s.facts.relation) assert_true(relation_true(&s, s.facts.relation, 8));
        }
        static const uint64_t all[NN_SCENE_LAYOUTS] = { 0xf, 0xffff, 0, 0 };
        assert_true(cells == all[layout]);
    }
}

static void test_largest_sprites_find_room(void **state)
{
    (void)state;
    static const int most[NN_SCENE_LAYOUTS] = { 32, 16, 16, 21 };
    for (int layout = 0; layout < NN_SCENE_LAYOUTS; layout++) {
        nn_scene_config c = full((nn_scene_layout)layout);
        c.sprite_least = c.sprite_most = most[layout];
        for (int i = 0; i < 2000; i++) {
            nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
            check_boxes(&s);
        }
        c.sprite_most++;
        nn_scene s;
        assert_int_equal(nn_scene_make(&c, NN_SCENE_ANY, 0, 0, &s), NN_ARGUMENT);
    }
}

static void test_aligned_relations_lie_on_one_axis(void **state)
{
    (void)state;
    nn_scene_config c = full(NN_SCENE_GRID2);
    int diagonal = 0;
    for (int i = 0; i < 2000; i++) {
        nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
        if (s.facts.relation) assert_true(s.item[0].x == s.item[1].x || s.item[0].y == s.item[1].y);
    }
    c.aligned = false;
    for (int i = 0; i < 2000; i++) {
        nn_scene s = make(&c, NN_SCENE_TRAIN, (uint64_t)i);
        diagonal += s.facts.relation && s.item[0].x != s.item[1].x && s.item[0].y != s.item[1].y;
    }
    assert_in_range(diagonal, 300, 500); /* 800 related scenes, half of the placements */
}

static void test_short_captions_by_hand(void **state)
{
    (void)state;
    nn_scene s = { .size = SIZE,
                   .facts = { NN_SCENE_ALONE, 1, { { 0, 1 } }, NN_SCENE_UNRELATED, 3 },
                   .n_items = 1,
                   .item = { { 0, 36, 4, 24, 1 } } };
    nn_text t = { 0 };
    OK(nn_scene_caption(&s, NN_SCENE_SHORT, &t));
    assert_true(nn_starts_with(t.text, "an apple ") && strstr(t.text, " blue"));
    nn_text_clear(&t);
    OK(nn_scene_caption(&s, NN_SCENE_LIST, &t));
    assert_string_equal(t.text, "apple top right blue");
    nn_text_clear(&t);
    OK(nn_scene_caption(&s, NN_SCENE_LONG, &t));
    assert_non_null(strstr(t.text, " an apple. an apple is at the top right. the background is "
                                   "blue."));
    s.sized = true;
    s.sprite_middle = 25;
    nn_text_clear(&t);
    OK(nn_scene_caption(&s, NN_SCENE_LONG, &t));
    assert_non_null(strstr(t.text, " a small apple is at the top right."));
    nn_text_free(&t);
}

static void check_items_read(const nn_scene *s, const nn_scene_reading *r, bool with_size)
{
    assert_int_equal(r->n_items, s->n_items);
    int64_t said = 0, truth = 0;
    for (int i = 0; i < s->n_items; i++) {
        const nn_scene_item *it = &s->item[i];
        int size = !with_size || !s->sized ? 0 : it->size < s->sprite_middle ? 1 : 2;
        truth += 1 << (it->object % 8 * 3 + size) << nn_scene_place(s, it) % 3;
        truth += (int64_t)1000003 * it->object * nn_scene_place(s, it);
        said += 1 << (r->item[i].object % 8 * 3 + r->item[i].size) << r->item[i].place % 3;
        said += (int64_t)1000003 * r->item[i].object * r->item[i].place;
    }
    assert_true(said == truth);
}

static void check_caption(const nn_scene *s, nn_scene_style style, nn_text *t)
{
    static const int most[] = { 12, 49, 49, 9 };
    nn_scene_reading r;
    nn_text_clear(t);
    OK(nn_scene_caption(s, style, t));
    assert_in_range(words_of(t->text), 2, most[style]);
    nn_scene_parse(t->text, &r);
    nn_scene_agreement a = nn_scene_compare(s, &r);
    assert_true(a.objects && a.counts && a.background);
    if (style == NN_SCENE_LONG || style == NN_SCENE_LIST)
        check_items_read(s, &r, style == NN_SCENE_LONG);
    if (style == NN_SCENE_LIST) return; /* lists state no relation */
    assert_true(a.relation && a.full);
    assert_int_equal(r.facts.kind, s->facts.kind);
    assert_int_equal(r.facts.relation, s->facts.relation);
    assert_int_equal(r.facts.group[0].object, s->facts.group[0].object);
}

static void test_captions_read_back(void **state)
{
    (void)state;
    nn_text t = { 0 };
    for (int layout = 0; layout < NN_SCENE_LAYOUTS; layout++) {
        nn_scene_config c = full((nn_scene_layout)layout);
        c.aligned = layout % 2;
        for (int i = 0; i < 5000; i++) {
            nn_scene s = make(&c, NN_SCENE_ANY, (uint64_t)i);
            for (int style = NN_SCENE_SHORT; style <= NN_SCENE_TALLY; style++)
                check_caption(&s, (nn_scene_style)style, &t);
        }
    }
    nn_text_free(&t);
}

static void test_wrong_captions_are_found_out(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool objects, counts, relation, background;
    } cases[] = {
        { "a dog to the left of a cat on gray", true, true, true, true },
        { "A cat to the right of a dog, on gray!", true, true, true, true },
        { "a dog to the right of a cat on gray", true, true, false, true },
        { "a dog and a cat on a gray background", true, true, false, true },
        { "two dogs to the left of a cat on gray", true, false, true, true },
        { "a dog to the left of a car on gray", false, false, false, true },
        { "a big old dog to the left of a small cat on gray", true, false, true, true },
        { "a dog on gray", false, false, false, true },
        { "a dog to the left of a cat on pink", true, true, true, false },
        { "dogs", false, false, false, false },
        { "", false, false, false, false },
        { "left left a a cat cat cat cat . . top", false, false, false, false },
    };
    nn_scene s = { .size = SIZE,
                   .facts = { NN_SCENE_RELATED, 2, { { 2, 1 }, { 3, 1 } }, NN_SCENE_LEFT, 2 },
                   .n_items = 2,
                   .item = { { 2, 4, 4, 24, 0 }, { 3, 36, 4, 24, 1 } } };
    for (int i = 0; i < NN_COUNT(cases); i++) {
        nn_scene_reading r;
        nn_scene_parse(cases[i].text, &r);
        nn_scene_agreement a = nn_scene_compare(&s, &r);
        assert_int_equal(a.objects, cases[i].objects);
        assert_int_equal(a.counts, cases[i].counts);
        assert_int_equal(a.relation, cases[i].relation);
        assert_int_equal(a.background, cases[i].background);
        assert_int_equal(a.full, i < 2);
    }
}

static void test_parser_survives_noise(void **state)
{
    (void)state;
    static const char *const pieces[] = { "cat", "top ",  ".",    " two",  "left",  " ",
                                          "a",   "blue",  "\xf0", "99",    "dogs",  "is",
                                          ",",   "small", "\n",   "right", "apple " };
    nn_rng rng = nn_rng_make(SEED, "noise", 0);
    nn_text t = { 0 };
    for (int i = 0; i < 2000; i++) {
        nn_text_clear(&t);
        for (int n = (int)nn_rng_below(&rng, 300); n >= 0; n--)
            OK(nn_text_add(&t, "%s", pieces[nn_rng_below(&rng, (uint64_t)NN_COUNT(pieces))]));
        nn_scene_reading r;
        nn_scene_parse(t.text, &r);
        assert_in_range(r.facts.n_groups, 0, 2);
        assert_in_range(r.n_items, 0, NN_SCENE_ITEMS);
        assert_in_range(r.facts.background + 1, 0, NN_SCENE_BACKGROUNDS);
    }
    nn_text_free(&t);
}

static void test_json_round_trip(void **state)
{
    (void)state;
    nn_text t = { 0 };
    for (int i = 0; i < 400; i++) {
        nn_scene_config c = full((nn_scene_layout)(i % NN_SCENE_LAYOUTS));
        nn_scene s, back;
        OK(nn_scene_make(&c, NN_SCENE_ANY, UINT64_MAX - (uint64_t)i, (uint64_t)i, &s));
        nn_text_clear(&t);
        OK(nn_scene_write_json(&s, &t));
        OK(nn_scene_read_json(t.text, t.length, &back));
        assert_true(back.seed == s.seed && back.index == s.index && back.size == s.size);
        assert_int_equal(back.sized, s.sized);
        assert_int_equal(back.sprite_middle, s.sprite_middle);
        assert_memory_equal(&back.facts, &s.facts, sizeof s.facts);
        assert_int_equal(back.n_items, s.n_items);
        assert_memory_equal(back.item, s.item, (size_t)s.n_items * sizeof s.item[0]);
        for (int64_t cut = 0; i < 8 && cut < t.length; cut++)
            assert_int_equal(nn_scene_read_json(t.text, cut, &back), NN_FORMAT);
    }
    nn_text_free(&t);
}

static void test_json_rejects_impossible_scenes(void **state)
{
    (void)state;
#define HEAD(kind, relation)                                                                       \
    "{\"seed\": \"1\", \"index\": 0, \"size\": 64, \"kind\": \"" kind                              \
    "\", \"relation\": \"" relation                                                                \
    "\", \"background\": \"gray\", \"sized\": false, \"sprite_middle\": 24, \"objects\": ["
#define ITEM(name, x)                                                                              \
    "{\"object\": \"" name "\", \"x\": " x ", \"y\": 4, \"size\": 24, \"cell\": 0}"
    static const char good[] = HEAD("related", "left") ITEM("dog", "4") "," ITEM("cat", "36") "]}";
    static const char *const bad[] = {
        HEAD("alone", "none") "]}",
        HEAD("alone", "none") ITEM("dog", "41") "]}",
        HEAD("alone", "none") ITEM("dog", "-1") "]}",
        HEAD("alone", "none") ITEM("dragon", "4") "]}",
        HEAD("alone", "left") ITEM("dog", "4") "]}",
        HEAD("alone", "none") ITEM("dog", "4") "," ITEM("cat", "36") "]}",
        HEAD("related", "none") ITEM("dog", "4") "," ITEM("cat", "36") "]}",
        HEAD("counted", "none") ITEM("dog", "4") "," ITEM("cat", "4") "," ITEM("dog", "4") "]}",
        HEAD("rotated", "none") ITEM("dog", "4") "]}",
        HEAD("alone", "none") "7]}",
        "[]",
        "{}",
        "null",
    };
    nn_scene s;
    OK(nn_scene_read_json(good, (int64_t)strlen(good), &s));
    for (int i = 0; i < NN_COUNT(bad); i++)
        assert_int_equal(nn_scene_read_json(bad[i], (int64_t)strlen(bad[i]), &s), NN_FORMAT);
}

static void test_prompts_have_their_kind_and_split(void **state)
{
    (void)state;
    nn_scene_config c = nn_scene_config_default(8, 5, SIZE, NN_SCENE_GRID2);
    nn_text t = { 0 };
    for (int metric = NN_SCENE_SOA; metric <= NN_SCENE_PA; metric++)
        for (int held = 0; held < 2; held++)
            for (int i = 0; i < 500; i++) {
                nn_scene s;
                nn_text_clear(&t);
                OK(nn_scene_prompt(&c, (nn_scene_metric)metric,
                                   held ? NN_SCENE_HELD_OUT : NN_SCENE_TRAIN, SEED, (uint64_t)i,
                                   &s));
                OK(nn_scene_caption(&s, i % 2 ? NN_SCENE_LONG : NN_SCENE_SHORT, &t));
                assert_int_equal(breaks_rule(&s), held);
                if (metric == NN_SCENE_PA) assert_int_equal(s.facts.kind, NN_SCENE_RELATED);
                if (metric == NN_SCENE_CA) assert_int_not_equal(s.facts.kind, NN_SCENE_RELATED);
                nn_scene_reading r;
                nn_scene_parse(t.text, &r);
                assert_true(nn_scene_compare(&s, &r).full);
            }
    nn_text_free(&t);
}

static void test_truth_scores_full(void **state)
{
    (void)state;
    nn_scene_config c = full(NN_SCENE_FREE);
    for (int i = 0; i < 2000; i++) {
        nn_scene s = make(&c, NN_SCENE_ANY, (uint64_t)i);
        nn_scene_detection found[NN_SCENE_ITEMS];
        for (int k = 0; k < s.n_items; k++)
            found[k] = (nn_scene_detection){ s.item[k].object, center(s.item[k].x, s.item[k].size),
                                             center(s.item[k].y, s.item[k].size) };
        nn_scene_score score = nn_scene_score_picture(&s, found, s.n_items);
        assert_int_equal(score.n_present, score.n_named);
        assert_int_equal(score.n_exact, score.n_named);
        assert_true(score.exact);
        assert_int_equal(score.related, s.facts.relation != NN_SCENE_UNRELATED);
        assert_false(nn_scene_score_picture(&s, found, s.n_items - 1).exact);
    }
}

static void test_score_by_hand(void **state)
{
    (void)state;
    nn_scene s = { .size = SIZE,
                   .facts = { NN_SCENE_RELATED, 2, { { 2, 1 }, { 3, 1 } }, NN_SCENE_ABOVE, 0 } };
    const nn_scene_detection found[] = {
        { 2, 10, 10 }, { 3, 12, 40 }, { 3, 50, 44 }, { 9, 50, 10 }
    };
    nn_scene_score score = nn_scene_score_picture(&s, found, 2);
    assert_true(score.exact && score.related);
    score = nn_scene_score_picture(&s, found, 3);
    assert_true(score.related && !score.exact);
    assert_int_equal(score.n_exact, 1);
    assert_int_equal(score.count_error[1], 1);
    const nn_scene_detection extra[] = { found[0], found[1], found[3] };
    score = nn_scene_score_picture(&s, extra, 3);
    assert_int_equal(score.n_exact, 2);
    assert_false(score.exact);
    s.facts.relation = NN_SCENE_LEFT; /* two pixels are no relation */
    assert_false(nn_scene_score_picture(&s, found, 2).related);
    score = nn_scene_score_picture(&s, found, 0);
    assert_int_equal(score.n_present, 0);
    assert_int_equal(score.count_error[0], -1);
    assert_false(score.related);
}

static void test_bad_configs_are_refused(void **state)
{
    (void)state;
    nn_scene_config good = full(NN_SCENE_GRID2), bad[7];
    for (int i = 0; i < NN_COUNT(bad); i++) bad[i] = good;
    bad[0].n_objects = 17;
    bad[1].n_backgrounds = 0;
    bad[2].size = 60;
    bad[3].sprite_most = 33;
    bad[4].percent[0] = 44;
    bad[5].percent[0] = -5, bad[5].percent[1] = 90;
    bad[6].layout = NN_SCENE_LAYOUTS;
    nn_scene s;
    for (int i = 0; i < NN_COUNT(bad); i++)
        assert_int_equal(nn_scene_make(&bad[i], NN_SCENE_ANY, 0, 0, &s), NN_ARGUMENT);
    good.n_objects = 5;
    OK(nn_scene_make(&good, NN_SCENE_TRAIN, 0, 0, &s));
    assert_int_equal(nn_scene_make(&good, NN_SCENE_HELD_OUT, 0, 0, &s), NN_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_index_same_scene),
        cmocka_unit_test(test_training_never_sees_held_out),
        cmocka_unit_test(test_kinds_have_their_shares),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_largest_sprites_find_room),
        cmocka_unit_test(test_aligned_relations_lie_on_one_axis),
        cmocka_unit_test(test_short_captions_by_hand),
        cmocka_unit_test(test_captions_read_back),
        cmocka_unit_test(test_wrong_captions_are_found_out),
        cmocka_unit_test(test_parser_survives_noise),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_rejects_impossible_scenes),
        cmocka_unit_test(test_prompts_have_their_kind_and_split),
        cmocka_unit_test(test_truth_scores_full),
        cmocka_unit_test(test_score_by_hand),
        cmocka_unit_test(test_bad_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
