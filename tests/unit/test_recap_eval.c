/* recap-eval: results out and back, figures and differences, captions, and pictures through a
 * detector that has learnt nothing and so finds nothing. */
#include "tests/unit/scratch.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "engine/weights.h"
#include "tools/data.h"
#include "tools/eval.h"

#define OK(expr)           assert_int_equal((expr), NN_OK)
#define NEAR(a, b, within) assert_true(fabs((a) - (b)) <= (within))

static const nn_command commands[] = {
    { .name = "scenes", .options = data_scenes_options, .run = data_scenes },
    { .name = "pictures", .options = eval_pictures_options, .run = eval_pictures },
    { .name = "captions", .options = eval_captions_options, .run = eval_captions },
    { .name = "compare",
      .arguments = "A B",
      .least = 2,
      .most = 2,
      .options = eval_compare_options,
      .run = eval_compare },
    { 0 },
};
static const nn_program program = { "test", "", commands };

enum { MOST_WORDS = 32 };

/* The exit code of a command line; a word "@name" is a path in the scratch directory. */
static int call(const char *line)
{
    static char words[1024], paths[8][160];
    char *argv[MOST_WORDS + 1] = { NULL };
    int argc = 0, n_paths = 0;
    snprintf(words, sizeof(words), "test %s --quiet", line);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (*w == '@') {
            snprintf(paths[n_paths], sizeof(paths[0]), "%s/%s", scratch_path, w + 1);
            w = paths[n_paths++];
        }
        argv[argc++] = w;
    }
    return nn_cli_main(&program, argc, argv);
}

/* Twelve pictures, two of each metric and split; every second one is right. */
static void fill(eval_set *set, bool better)
{
    *set = (eval_set){ 0 };
    for (int i = 0; i < 12; i++) {
        OK(nn_grow(&set->samples, &set->capacity, set->n, sizeof(*set->samples)));
        bool right = better || i % 2;
        set->samples[set->n++] = (eval_sample){
            .prompt = nn_arena_format(&set->arena, "prompt \"%d\"", i),
            .file = nn_arena_format(&set->arena, "%06d.png", i),
            .metric = (nn_scene_metric)(i / 2 % 3),
            .split = i / 6,
            .seed = 100 + i,
            .score = { .n_named = 2,
                       .n_present = right ? 2 : 1,
                       .n_exact = right ? 2 : 0,
                       .count_error = { right ? 0 : 3, right ? 0 : -1 },
                       .exact = right,
                       .related = right },
        };
    }
    set->ceiling = (metrics_estimate){ 0.98, 0.97, 0.99, 300 };
    set->distance[1].estimate = (metrics_estimate){ 1.5, 1.25, 1.75, 6 };
    for (int r = 0; r < METRICS_FRECHET_RESAMPLES; r++) set->distance[1].replicate[r] = 1.5 + r;
}

static metrics_estimate figure(const eval_set *set, metrics_kind kind, int split)
{
    metrics_estimate e;
    OK(eval_figure(set, kind, split, &e));
    return e;
}

static void test_figures_take_their_prompts(void **state)
{
    eval_set set;
    (void)state;
    fill(&set, false);
    assert_true(figure(&set, METRICS_SOA, EVAL_HELD_OUT).value == 0.75);
    assert_true(figure(&set, METRICS_CA_EXACT, EVAL_SEEN).value == 0.5);
    NEAR(figure(&set, METRICS_CA_RMSE, EVAL_SEEN).value, sqrt(10.0 / 4), 1e-12);
    assert_int_equal(figure(&set, METRICS_PA, EVAL_SEEN).n, 2);
    assert_int_equal(figure(&set, METRICS_FULL, EVAL_SEEN).n, 6);
    eval_free(&set);
}

static bool same_score(const nn_scene_score *a, const nn_scene_score *b)
{
    return a->n_named == b->n_named && a->n_present == b->n_present && a->n_exact == b->n_exact &&
           a->count_error[0] == b->count_error[0] && a->count_error[1] == b->count_error[1] &&
           a->exact == b->exact && a->related == b->related;
}

static void test_results_come_back(void **state)
{
    eval_set set, back;
    (void)state;
    fill(&set, false);
    OK(eval_write(&set, scratch("a.json")));
    OK(eval_read(scratch("a.json"), &back));
    OK(eval_check_paired(&set, &back));
    assert_int_equal(back.n, 12);
    for (int i = 0; i < 12; i++) {
        assert_string_equal(back.samples[i].file, set.samples[i].file);
        assert_true(same_score(&back.samples[i].score, &set.samples[i].score));
    }
    assert_int_equal(back.distance[0].estimate.n, 0);
    assert_true(back.distance[1].estimate.high == 1.75);
    assert_true(back.distance[1].replicate[7] == 8.5);
    assert_true(back.ceiling.low == 0.97);
    eval_free(&back);
    back = set;
    back.n = 11;
    assert_int_equal(eval_check_paired(&set, &back), NN_ARGUMENT);
    eval_free(&set);
}

static void test_difference_of_arms(void **state)
{
    eval_set worse, better;
    metrics_estimate d;
    (void)state;
    fill(&worse, false);
    fill(&better, true);
    OK(eval_difference(&better, &worse, METRICS_SOA, EVAL_HELD_OUT, &d));
    assert_true(d.value == 0.25 && d.n == 2);
    OK(eval_difference(&better, &worse, METRICS_FULL, EVAL_SEEN, &d));
    assert_true(d.value == 0.5 && d.low >= 0 && d.high <= 1);
    OK(eval_write(&better, scratch("better.json")));
    OK(eval_write(&worse, scratch("worse.json")));
    assert_int_equal(call("compare @better.json @worse.json --output @d.json"), 0);
    nn_json json, seen;
    OK(nn_json_open(scratch("d.json"), 1 << 20, &json));
    OK(nn_json_child(&json, "seen", &seen));
    assert_true(eval_read_estimate(json_object_get(seen.node, "ca_exact")).value == 0.5);
    assert_true(eval_read_estimate(json_object_get(seen.node, "fd_detector")).value == 0);
    nn_json_close(&json);
    worse.samples[3].seed++;
    assert_int_equal(eval_difference(&better, &worse, METRICS_SOA, 0, &d), NN_ARGUMENT);
    eval_free(&worse);
    eval_free(&better);
}

static void expect_malformed(const char *line, const char *part)
{
    eval_set set;
    scratch_write("samples.jsonl", line, (int64_t)strlen(line));
    expect_failure(eval_read_samples(scratch_path, &set), NN_FORMAT, part);
}

static void test_malformed_samples_are_refused(void **state)
{
    (void)state;
    expect_malformed("", "no picture");
    expect_malformed("{", "picture 0");
    expect_malformed("{\"prompt\": \"a\"}\n", "\"file\"");
    expect_malformed("{\"prompt\": \"a\", \"file\": \"b\", \"metric\": \"fid\"}\n", "metric");
    expect_malformed("{\"prompt\": \"a\", \"file\": \"../b\", \"metric\": \"soa\", \"split\": "
                     "\"seen\", \"scene\": {}}\n",
                     "plain name");
    expect_malformed("{\"prompt\": \"a\", \"file\": \"b\", \"metric\": \"soa\", \"split\": "
                     "\"seen\", \"scene\": {\"seed\": 1}}\n",
                     "scene");
}

#define GRAMMAR "--objects 8 --backgrounds 4 --layout grid2 --size 32 --seed 5 "
enum { PICTURES = 24, SIDE = 32 };

/* A detector as initialised, in DIR. */
static void save_newborn(void)
{
    detector_config c = detector_config_default(8, SIDE);
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_text text = { 0 };
    OK(nn_device_open("cpu", 1, &device));
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    nn_scope root = nn_root(g, params, "");
    nn_tensor *x = nn_input(g, "pixels", NN_F32, NN_DIMS(1, SIDE, SIDE, 3));
    (void)detector_logits(root, &c, detector_map(root, &c, x));
    nn_graph_destroy(g);
    OK(nn_params_alloc(params, device, false));
    OK(nn_params_init(params, 3));
    OK(nn_params_save(params, scratch("model.safetensors"), NULL, 0, NN_F32));
    OK(detector_config_write(&c, &text));
    scratch_write("config.json", text.text, text.length);
    nn_text_free(&text);
    nn_params_destroy(params);
    nn_device_close(device);
}

/* The pictures of a corpus as if they had been drawn for prompts. */
static double unpack(const char *shards_name)
{
    nn_shards *shards;
    nn_shard_report report = { .strict = true };
    nn_text lines = { 0 };
    double squares = 0, kinds = 0;
    OK(nn_shards_open(scratch(shards_name), NULL, &report, &shards));
    for (int i = 0; i < PICTURES; i++) {
        const nn_sample *s = nn_shards_at(shards, i);
        nn_captions *captions;
        nn_scene scene;
        char name[16];
        snprintf(name, sizeof(name), "%06d.png", i);
        scratch_write(name, s->image.data, s->image.n);
        OK(nn_captions_parse(s, &captions));
        char *json = nn_captions_field(captions, "scene");
        OK(nn_scene_read_json(json, (int64_t)strlen(json), &scene));
        OK(nn_text_add(&lines,
                       "{\"prompt\": \"p\", \"metric\": \"%s\", \"split\": \"held_out\", "
                       "\"seed\": %d, \"scene\": %s, \"file\": \"%s\"}\n",
                       i % 2 ? "ca" : "soa", i, json, name));
        for (int k = 0; k < scene.facts.n_groups && i % 2; k++) {
            squares += pow(scene.facts.group[k].count, 2);
            kinds++;
        }
        nn_free(json);
        nn_captions_free(captions);
    }
    nn_shards_close(shards);
    scratch_write("samples.jsonl", lines.text, lines.length);
    nn_text_free(&lines);
    return sqrt(squares / kinds);
}

static void test_pictures_nobody_recognises(void **state)
{
    eval_set set;
    (void)state;
    save_newborn();
    assert_int_equal(call("scenes --output @corpus --count 24 --shard-size 100 " GRAMMAR), 0);
    double rmse = unpack("corpus-000000.tar");
    assert_int_equal(call("pictures --samples @ --detector @ --reference @corpus-000000.tar "
                          "--output @r.json --threads 1"),
                     0);
    OK(eval_read(scratch("r.json"), &set));
    assert_true(figure(&set, METRICS_SOA, EVAL_HELD_OUT).high == 0);
    assert_true(figure(&set, METRICS_FULL, EVAL_HELD_OUT).value == 0);
    NEAR(figure(&set, METRICS_CA_RMSE, EVAL_HELD_OUT).value, rmse, 1e-12);
    assert_int_equal(figure(&set, METRICS_SOA, EVAL_HELD_OUT).n, PICTURES / 2);
    assert_int_equal(set.distance[EVAL_HELD_OUT].estimate.n, PICTURES);
    assert_true(set.distance[EVAL_HELD_OUT].estimate.value < 1e-9); /* its own reference */
    assert_int_equal(set.distance[EVAL_SEEN].estimate.n, 0);
    assert_true(set.ceiling.n == PICTURES && set.ceiling.value == 0);
    eval_free(&set);
    remove(scratch("000003.png"));
    assert_int_equal(call("pictures --samples @ --detector @ --output @r.json --threads 1"), 1);
}

static void test_captions_against_the_truth(void **state)
{
    nn_json json, columns;
    (void)state;
    assert_int_equal(call("scenes --output @told --count 24 --shard-size 100 " GRAMMAR), 0);
    assert_int_equal(call("captions --shards @told-000000.tar --column true_long,alt,short "
                          "--output @c.json"),
                     0);
    OK(nn_json_open(scratch("c.json"), 1 << 20, &json));
    OK(nn_json_child(&json, "columns", &columns));
    const json_t *told = json_object_get(columns.node, "true_long");
    metrics_estimate full = eval_read_estimate(json_object_get(told, "full"));
    assert_true(full.value == 1 && full.low == 1 && full.n == 24);
    const json_t *alt = json_object_get(columns.node, "alt");
    assert_true(eval_read_estimate(json_object_get(alt, "full")).value < 0.5);
    assert_int_equal(eval_read_estimate(json_object_get(alt, "objects")).n, 24);
    assert_true(json_is_null(json_object_get(json_object_get(columns.node, "short"), "full")));
    nn_json_close(&json);
    assert_int_equal(call("captions --shards @told-000000.tar --column ,"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_take_their_prompts),
        cmocka_unit_test(test_results_come_back),
        cmocka_unit_test(test_difference_of_arms),
        cmocka_unit_test(test_malformed_samples_are_refused),
        cmocka_unit_test(test_pictures_nobody_recognises),
        cmocka_unit_test(test_captions_against_the_truth),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
