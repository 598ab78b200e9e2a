/* recap-data: corpora of scenes, prompts with their answers, the human-captioned set. */
#include "tests/unit/scratch.h"

#include <jansson.h>

#include "data/json.h"
#include "engine/base/alloc.h"
#include "tools/data.h"

static const nn_command commands[] = {
    { .name = "scenes", .options = data_scenes_options, .run = data_scenes },
    { .name = "prompts", .options = data_prompts_options, .run = data_prompts },
    { .name = "humans", .options = data_humans_options, .run = data_humans },
    { 0 },
};
static const nn_program program = { "recap-data", "", commands };

enum { MOST_WORDS = 32 };

/* The exit code of a command line; a word "@name" is a path in the scratch directory. */
static int call(const char *line)
{
    static char words[1024], paths[4][160];
    char *argv[MOST_WORDS + 1] = { NULL };
    int argc = 0, n_paths = 0;
    snprintf(words, sizeof(words), "recap-data %s --quiet", line);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (*w == '@') {
            snprintf(paths[n_paths], sizeof(paths[0]), "%s/%s", scratch_path, w + 1);
            w = paths[n_paths++];
        }
        argv[argc++] = w;
    }
    return nn_cli_main(&program, argc, argv);
}

static nn_shards *open_shards(const char *name)
{
    nn_shards *shards;
    nn_shard_report report = { .strict = true };
    assert_int_equal(nn_shards_open(scratch(name), NULL, &report, &shards), NN_OK);
    return shards;
}

static nn_captions *captions_of(const nn_shards *shards, int64_t i)
{
    nn_captions *captions;
    assert_int_equal(nn_captions_parse(nn_shards_at(shards, i), &captions), NN_OK);
    return captions;
}

static nn_scene scene_of(const nn_captions *captions)
{
    nn_scene scene;
    char *json = nn_captions_field(captions, "scene");
    assert_non_null(json);
    assert_int_equal(nn_scene_read_json(json, (int64_t)strlen(json), &scene), NN_OK);
    nn_free(json);
    return scene;
}

#define GRAMMAR "--objects 8 --backgrounds 4 --layout grid2 --size 64 --seed 5 "

static void test_scenes_carry_their_truth(void **state)
{
    (void)state;
    assert_int_equal(call("scenes --output @train --count 60 --shard-size 40 " GRAMMAR), 0);
    nn_shards *shards = open_shards("train-{000000..000001}.tar");
    assert_int_equal(nn_shards_count(shards), 60);
    for (int64_t i = 0; i < 60; i++) {
        const nn_sample *s = nn_shards_at(shards, i);
        nn_captions *captions = captions_of(shards, i);
        nn_scene scene = scene_of(captions);
        nn_image image;
        assert_false(nn_scene_is_held_out(&scene));
        assert_int_equal(scene.index, i);
        const char *columns[] = { "true_short", "true_long", "list", "tally" };
        for (int c = 0; c < NN_COUNT(columns); c++) {
            nn_scene_reading reading;
            nn_scene_parse(nn_captions_get(captions, columns[c]), &reading);
            assert_true(nn_scene_compare(&scene, &reading).objects);
        }
        assert_int_equal(strlen(nn_captions_get(captions, "alt")), s->alt.n);
        assert_memory_equal(nn_captions_get(captions, "alt"), s->alt.data, s->alt.n);
        assert_null(nn_captions_get(captions, "short"));
        assert_int_equal(nn_image_decode(s->image.data, s->image.n, s->key, &image), NN_OK);
        assert_int_equal(image.width, 64);
        nn_image_free(&image);
        nn_captions_free(captions);
    }
    nn_shards_close(shards);
}

static void test_held_out_scenes_are_held_out(void **state)
{
    (void)state;
    assert_int_equal(call("scenes --output @held --count 20 --split held_out " GRAMMAR), 0);
    nn_shards *shards = open_shards("held-000000.tar");
    for (int64_t i = 0; i < 20; i++) {
        nn_captions *captions = captions_of(shards, i);
        nn_scene scene = scene_of(captions);
        assert_true(nn_scene_is_held_out(&scene));
        nn_captions_free(captions);
    }
    nn_shards_close(shards);
}

static void test_same_seed_same_bytes(void **state)
{
    char *bytes[2];
    int64_t n[2];
    (void)state;
    assert_int_equal(call("scenes --output @one --count 5 --split train " GRAMMAR), 0);
    assert_int_equal(call("scenes --output @two --count 5 --split train " GRAMMAR), 0);
    assert_int_equal(nn_file_read(scratch("one-000000.tar"), 1 << 20, &bytes[0], &n[0]), NN_OK);
    assert_int_equal(nn_file_read(scratch("two-000000.tar"), 1 << 20, &bytes[1], &n[1]), NN_OK);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    nn_free(bytes[0]);
    nn_free(bytes[1]);
}

/* Lines of FILE that hold a text. */
static int lines_with(const char *name, const char *part)
{
    char *bytes;
    int64_t n;
    int lines = 0;
    assert_int_equal(nn_file_read(scratch(name), 1 << 20, &bytes, &n), NN_OK);
    for (char *save, *line = strtok_r(bytes, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        lines += strstr(line, part) != NULL;
    nn_free(bytes);
    return lines;
}

static void test_prompts_have_answers(void **state)
{
    (void)state;
    assert_int_equal(call("prompts --output @p.jsonl --count 7 --metric all --split both " GRAMMAR),
                     0);
    assert_int_equal(lines_with("p.jsonl", "\"prompt\": \""), 42);
    assert_int_equal(lines_with("p.jsonl", "\"metric\": \"soa\""), 14);
    assert_int_equal(lines_with("p.jsonl", "\"split\": \"held_out\""), 21);
    assert_int_equal(lines_with("p.jsonl", "\"seed\": 46, \"scene\": {"), 1);
    assert_int_equal(call("prompts --output @c.jsonl --count 9 --metric ca --split seen " GRAMMAR),
                     0);
    assert_int_equal(lines_with("c.jsonl", "\"metric\": \"ca\", \"split\": \"seen\""), 9);
    assert_int_equal(lines_with("c.jsonl", "\"prompt\""), 9);
    assert_int_equal(lines_with("c.jsonl", "\"kind\": \"related\""), 0);
}

/* Line i of FILE as JSON, which the caller closes. */
static nn_json line_of(const char *name, int i)
{
    nn_json json;
    char *bytes;
    int64_t n;
    assert_int_equal(nn_file_read(scratch(name), 1 << 20, &bytes, &n), NN_OK);
    char *save, *line = strtok_r(bytes, "\n", &save);
    while (line && i-- > 0) line = strtok_r(NULL, "\n", &save);
    assert_non_null(line);
    int64_t length = line ? (int64_t)strlen(line) : 0;
    assert_int_equal(nn_json_parse(line, length, name, &json), NN_OK);
    nn_free(bytes);
    return json;
}

static const char *prompt_of(const nn_json *line)
{
    return json_string_value(json_object_get(line->node, "prompt"));
}

static nn_scene answer_of(const nn_json *line)
{
    nn_scene scene;
    char *json = json_dumps(json_object_get(line->node, "scene"), 0);
    assert_int_equal(nn_scene_read_json(json, (int64_t)strlen(json), &scene), NN_OK);
    free(json);
    return scene;
}

/* Whether all but the wording agrees. */
static bool same_task(const nn_json *a, const nn_json *b)
{
    static const char *const keys[] = { "metric", "split", "seed", "scene" };
    for (int k = 0; k < NN_COUNT(keys); k++)
        if (!json_equal(json_object_get(a->node, keys[k]), json_object_get(b->node, keys[k])))
            return false;
    return true;
}

static void expect_wording(const nn_scenes *scenes, const nn_json *line, const char *style)
{
    nn_scene scene = answer_of(line);
    nn_text words = { 0 };
    if (!strcmp(style, "alt"))
        assert_int_equal(nn_scene_alt_text(scenes, NN_SCENE_HELD_OUT, &scene, &words, NULL), NN_OK);
    else
        assert_int_equal(
            nn_scene_caption(&scene, *style == 'l' ? NN_SCENE_LONG : NN_SCENE_SHORT, &words),
            NN_OK);
    assert_string_equal(prompt_of(line), words.text);
    nn_text_free(&words);
}

/* The same scenes from the same noise, in other words. */
static void test_prompts_in_every_style(void **state)
{
    enum { N = 60 };
    nn_scene_config c = nn_scene_config_default(8, 4, 64, NN_SCENE_GRID2);
    nn_scenes *scenes;
    int differ[2] = { 0 };
    (void)state;
#define ALL "--count 20 --metric all --split held_out " GRAMMAR
    assert_int_equal(call("prompts --output @short.jsonl --style short " ALL), 0);
    assert_int_equal(call("prompts --output @long.jsonl --style long " ALL), 0);
    assert_int_equal(call("prompts --output @alt.jsonl --style alt " ALL), 0);
    assert_int_equal(nn_scenes_open(&c, NULL, NULL, &scenes), NN_OK);
    for (int i = 0; i < N; i++) {
        nn_json brief = line_of("short.jsonl", i);
        nn_json other[] = { line_of("long.jsonl", i), line_of("alt.jsonl", i) };
        expect_wording(scenes, &brief, "short");
        expect_wording(scenes, &other[0], "long");
        expect_wording(scenes, &other[1], "alt");
        for (int k = 0; k < 2; k++) {
            assert_true(same_task(&brief, &other[k]));
            differ[k] += strcmp(prompt_of(&brief), prompt_of(&other[k])) != 0;
            nn_json_close(&other[k]);
        }
        nn_json_close(&brief);
    }
    nn_scenes_close(scenes);
    assert_int_equal(differ[0], N);
    assert_true(differ[1] > N * 3 / 4); /* one alt-text in twenty is the short caption */
    assert_int_equal(call("prompts --output @x.jsonl --style haiku " ALL), 2);
}

static void test_humans_write_short_and_long(void **state)
{
    (void)state;
    assert_int_equal(call("scenes --output @base --count 12 --split train " GRAMMAR), 0);
    assert_int_equal(call("humans --input @base-000000.tar --output @rated --count 10"), 0);
    nn_shards *from = open_shards("base-000000.tar"), *to = open_shards("rated-000000.tar");
    assert_int_equal(nn_shards_count(to), 10);
    for (int64_t i = 0; i < 10; i++) {
        nn_captions *a = captions_of(from, i), *b = captions_of(to, i);
        assert_string_equal(nn_captions_get(b, "short"), nn_captions_get(a, "true_short"));
        assert_string_equal(nn_captions_get(b, "long"), nn_captions_get(a, "true_long"));
        assert_null(nn_captions_get(b, "alt"));
        assert_null(nn_captions_get(b, "true_short"));
        nn_captions_free(a);
        nn_captions_free(b);
    }
    nn_shards_close(from);
    nn_shards_close(to);
    assert_int_equal(call("humans --input @base-000000.tar --output @rated --count 13"), 2);
    assert_int_equal(call("humans --input @rated-000000.tar --output @again --count 3"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenes_carry_their_truth),
        cmocka_unit_test(test_held_out_scenes_are_held_out),
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_prompts_have_answers),
        cmocka_unit_test(test_prompts_in_every_style),
        cmocka_unit_test(test_humans_write_short_and_long),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
