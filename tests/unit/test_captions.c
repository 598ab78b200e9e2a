/* Captions: columns, the draw, the filters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/caption_filter.h"
#include "data/captions.h"
#include "engine/base/alloc.h"

static nn_sample sample(const char *alt, const char *json)
{
    return (nn_sample){ .key = "k",
                        .alt = { alt, alt ? (int64_t)strlen(alt) : 0 },
                        .json = { json, json ? (int64_t)strlen(json) : 0 } };
}

static nn_captions *parse(const char *alt, const char *json)
{
    nn_captions *c = NULL;
    nn_sample s = sample(alt, json);
    assert_int_equal(nn_captions_parse(&s, &c), NN_OK);
    return c;
}

static void alt_text_has_three_sources(void **state)
{
    (void)state;
    nn_captions *c = parse("  a cat \n", NULL);
    assert_string_equal(nn_captions_get(c, "alt"), "a cat");
    assert_null(nn_captions_get(c, "short"));
    nn_captions_free(c);
    c = parse("of the txt", "{\"captions\": {\"alt\": \"of the json\", \"short\": \"s\"}}");
    assert_string_equal(nn_captions_get(c, "alt"), "of the json");
    assert_string_equal(nn_captions_get(c, "short"), "s");
    nn_captions_free(c);
    c = parse(NULL, "{\"caption\": \"img2dataset\", \"url\": \"u\"}");
    assert_string_equal(nn_captions_get(c, "alt"), "img2dataset");
    nn_captions_free(c);
    c = parse("t", "{\"captions\": {\"alt\": null, \"long\": \"\"}}");
    assert_string_equal(nn_captions_get(c, "alt"), "t");
    assert_null(nn_captions_get(c, "long"));
    nn_captions_free(c);
}

static void refuses_what_is_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *alt, *json;
        nn_status status;
    } cases[] = {
        { NULL, "{", NN_FORMAT },
        { NULL, "[]", NN_FORMAT },
        { "a", "{\"captions\": []}", NN_FORMAT },
        { "a", "{\"captions\": {\"short\": 3}}", NN_FORMAT },
        { "a", "{\"a\": 1, \"a\": 2}", NN_FORMAT },
        { "\xff", NULL, NN_FORMAT },
        { NULL, "{\"captions\": {\"short\": \"\\u0000\"}}", NN_FORMAT },
        { NULL, "{}", NN_NOT_FOUND },
        { " \n", NULL, NN_NOT_FOUND },
    };
    for (int i = 0; i < NN_COUNT(cases); i++) {
        nn_captions *c;
        nn_sample s = sample(cases[i].alt, cases[i].json);
        assert_int_equal(nn_captions_parse(&s, &c), cases[i].status);
    }
}

static void visit(void *ctx, const char *column, const char *text)
{
    assert_int_equal(nn_text_add(ctx, "%s=%s;", column, text), NN_OK);
}

static void relabelling_keeps_the_rest(void **state)
{
    (void)state;
    nn_captions *c = parse("x", "{\"scene\": {\"b\": 1, \"a\": [2]}, \"url\": \"u\"}");
    nn_caption_info info = { 9, -4.25, "4f1c", NN_CAPTION_LOOP | NN_CAPTION_TOO_LONG };
    assert_int_equal(nn_captions_set(c, "short", "a \"cat\"", &info), NN_OK);
    assert_int_equal(nn_captions_set(c, "short", "\xff", NULL), NN_ARGUMENT);
    info.logprob = NAN;
    assert_int_equal(nn_captions_set(c, "long", "l", &info), NN_NUMERIC);
    nn_text out = { 0 };
    assert_int_equal(nn_captions_dump(c, &out), NN_OK);
    assert_string_equal(out.text,
                        "{\"caption_info\": {\"short\": {\"flags\": [\"loop\", \"long\"], "
                        "\"logprob\": -4.25, \"model\": \"4f1c\", \"tokens\": 9}}, \"captions\": "
                        "{\"alt\": \"x\", \"short\": \"a \\\"cat\\\"\"}, \"scene\": {\"a\": [2], "
                        "\"b\": 1}, \"url\": \"u\"}");
    nn_text_clear(&out);
    nn_captions_each(c, visit, &out);
    assert_string_equal(out.text, "alt=x;short=a \"cat\";");
    char *scene = nn_captions_field(c, "scene");
    assert_string_equal(scene, "{\"a\": [2], \"b\": 1}");
    nn_free(scene);
    assert_null(nn_captions_field(c, "none"));
    assert_int_equal(nn_captions_set_field(c, "scene", "{"), NN_FORMAT);
    assert_int_equal(nn_captions_set_field(c, "scene", "{\"n\": 3}"), NN_OK);
    scene = nn_captions_field(c, "scene");
    assert_string_equal(scene, "{\"n\": 3}");
    nn_free(scene);
    nn_text_free(&out);
    nn_captions_free(c);
}

static void mixes_parse(void **state)
{
    (void)state;
    nn_caption_mix mix;
    assert_int_equal(nn_caption_mix_parse("alt", 0, &mix), NN_OK);
    assert_int_equal(mix.n, 1);
    assert_true(mix.weight[0] == 1);
    assert_int_equal(nn_caption_mix_parse("short=3,long=1,alt=0", 0.1, &mix), NN_OK);
    assert_int_equal(mix.n, 3);
    assert_true(mix.weight[0] == 0.75 && mix.weight[1] == 0.25 && mix.weight[2] == 0);
    assert_string_equal(mix.column[1], "long");
    static const char *const bad[] = {
        "",
        ",",
        "a,",
        "=1",
        "a=",
        "a=x",
        "a=-1",
        "a=nan",
        "a=inf",
        "a=0",
        "a=1,a=1",
        "a=1x",
        "a,b,c,d,e,f,g,h,i",
        "a_name_of_more_than_thirty_one_bytes",
    };
    for (int i = 0; i < NN_COUNT(bad); i++)
        assert_int_equal(nn_caption_mix_parse(bad[i], 0, &mix), NN_ARGUMENT);
    assert_int_equal(nn_caption_mix_parse("alt", 1.5, &mix), NN_ARGUMENT);
    assert_int_equal(nn_caption_mix_parse("alt", NAN, &mix), NN_ARGUMENT);
}

static void draws_have_the_shares_of_the_mix(void **state)
{
    (void)state;
    enum { N = 40000 };
    nn_caption_mix mix;
    nn_caption_counts counts = { 0 };
    assert_int_equal(nn_caption_mix_parse("short=0.25,long=0.75", 0.1, &mix), NN_OK);
    for (uint64_t id = 0; id < N; id++)
        (void)nn_caption_draw(&mix, 3, 7, (int64_t)(id % 5), id * 0x9E3779B9u, &counts);
    assert_true(fabs((double)counts.dropped / N - 0.1) < 0.006);
    assert_true(fabs((double)counts.drawn[0] / N - 0.225) < 0.009);
    assert_true(fabs((double)counts.drawn[1] / N - 0.675) < 0.009);
    assert_int_equal(counts.fallback + counts.missing, 0);
}

static void draws_depend_on_seed_epoch_and_sample_alone(void **state)
{
    (void)state;
    nn_caption_mix mix;
    int by_epoch = 0, by_seed = 0, by_id = 0;
    assert_int_equal(nn_caption_mix_parse("short=1,long=1", 0, &mix), NN_OK);
    for (uint64_t i = 0; i < 100; i++) {
        int draw = nn_caption_draw(&mix, 3, 1, 2, i, NULL);
        assert_int_equal(draw, nn_caption_draw(&mix, 3, 1, 2, i, NULL));
        by_epoch += draw != nn_caption_draw(&mix, 3, 1, 3, i, NULL);
        by_seed += draw != nn_caption_draw(&mix, 3, 2, 2, i, NULL);
        by_id += draw != nn_caption_draw(&mix, 3, 1, 2, i + 1000, NULL);
    }
    assert_in_range(by_epoch, 25, 75);
    assert_in_range(by_seed, 25, 75);
    assert_in_range(by_id, 25, 75);
}

static void missing_columns_fall_back_and_are_counted(void **state)
{
    (void)state;
    nn_caption_mix mix;
    nn_caption_counts counts = { 0 };
    assert_int_equal(nn_caption_mix_parse("short=1,alt=0", 0, &mix), NN_OK);
    assert_int_equal(nn_caption_draw(&mix, 3, 1, 0, 5, &counts), 0);
    assert_int_equal(counts.fallback, 0);
    assert_int_equal(nn_caption_draw(&mix, 2, 1, 0, 5, &counts), 1);
    assert_int_equal(counts.fallback, 1);
    assert_int_equal(nn_caption_draw(&mix, 0, 1, 0, 5, &counts), NN_CAPTION_EMPTY);
    assert_int_equal(counts.missing, 1);
    nn_captions *c = parse("x", NULL);
    assert_string_equal(nn_caption_draw_text(&mix, c, 1, 0, 5, NULL), "x");
    mix.dropout = 1;
    assert_string_equal(nn_caption_draw_text(&mix, c, 1, 0, 5, NULL), "");
    nn_captions_free(c);
}

static void loops_are_found(void **state)
{
    (void)state;
    static const char *const loops[] = {
        "a red red red ball",
        "a dog and a dog and a dog and",
        "a cat on a mat, a cat on a mat",
        "the sun is up here the sun is up there the sun is up",
        "A Dog A dog a DOG",
    };
    static const char *const fine[] = {
        "",
        "a cat",
        "a very very big ball",
        "a red ball and a blue ball on a green table with a dog and a cat",
        "two dogs, two cats and two birds",
    };
    for (int i = 0; i < NN_COUNT(loops); i++) assert_true(nn_caption_loops(loops[i]));
    for (int i = 0; i < NN_COUNT(fine); i++) assert_false(nn_caption_loops(fine[i]));
}

static void filters_flag_what_they_say(void **state)
{
    (void)state;
    const nn_caption_rules rules = { 3, 6, 75 };
    assert_int_equal(nn_caption_check("a cat on a mat", 7, &rules), 0);
    assert_int_equal(nn_caption_check("a cat", 2, &rules), NN_CAPTION_TOO_SHORT);
    assert_int_equal(nn_caption_check("a cat on a mat by a tree", 8, &rules), NN_CAPTION_TOO_LONG);
    assert_int_equal(nn_caption_check("a cat on a mat", 76, &rules), NN_CAPTION_TOO_LONG);
    assert_int_equal(nn_caption_check("a cat \xff mat", 3, &rules), NN_CAPTION_NOT_TEXT);
    assert_int_equal(nn_caption_check("a cat, Stock Photo", 4, &rules), NN_CAPTION_BOILERPLATE);
    assert_int_equal(nn_caption_check("", 0, &(nn_caption_rules){ 0 }), NN_CAPTION_TOO_SHORT);
    assert_true(nn_caption_is_boilerplate("see www.cats.org"));
    assert_false(nn_caption_is_boilerplate("livestock photos")); /* inside of words */
    assert_string_equal(nn_caption_flag_name(NN_CAPTION_LOOP), "loop");
    assert_string_equal(nn_caption_flag_name(1u << 30), "unknown");
    assert_int_equal(nn_caption_words("  a  cat\n"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alt_text_has_three_sources),
        cmocka_unit_test(refuses_what_is_malformed),
        cmocka_unit_test(relabelling_keeps_the_rest),
        cmocka_unit_test(mixes_parse),
        cmocka_unit_test(draws_have_the_shares_of_the_mix),
        cmocka_unit_test(draws_depend_on_seed_epoch_and_sample_alone),
        cmocka_unit_test(missing_columns_fall_back_and_are_counted),
        cmocka_unit_test(loops_are_found),
        cmocka_unit_test(filters_flag_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
