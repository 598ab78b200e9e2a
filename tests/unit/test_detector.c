/* The detector: configuration, targets, peaks, size; it learns a handful of scenes by heart. */
#include "tests/unit/scratch.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "engine/optim.h"
#include "engine/weights.h"
#include "models/detector.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

static detector_config parsed(const char *text, nn_status expected)
{
    nn_json json;
    detector_config c = { 0 };
    OK(nn_json_parse(text, (int64_t)strlen(text), "config.json", &json));
    assert_int_equal(detector_config_parse(&json, &c), expected);
    nn_json_close(&json);
    return c;
}

static void test_configuration(void **state)
{
    nn_text text = { 0 };
    detector_config c = detector_config_default(5, 96), back;
    (void)state;
    c.threshold = 0.25;
    c.n_blocks = 2;
    OK(detector_config_write(&c, &text));
    back = parsed(text.text, NN_OK);
    nn_text_free(&text);
    assert_int_equal(back.n_objects, 5);
    assert_int_equal(back.size, 96);
    assert_int_equal(back.n_blocks, 2);
    assert_true(back.threshold == 0.25);
    assert_int_equal(parsed("{}", NN_OK).width, 64);
    assert_int_equal(detector_cells(&back), 24);
    (void)parsed("{\"n_objects\": 17}", NN_FORMAT);
    (void)parsed("{\"size\": 66}", NN_FORMAT);
    (void)parsed("{\"width\": 24}", NN_FORMAT);
    (void)parsed("{\"threshold\": 1}", NN_FORMAT);
    (void)parsed("{\"n_blocks\": -1}", NN_FORMAT);
}

static void test_target_is_one_at_the_centre(void **state)
{
    static float heat[16 * 16 * 4];
    detector_config c = detector_config_default(4, 64);
    nn_scene scene = { .size = 64, .n_items = 2 };
    double sum = 0;
    (void)state;
    scene.item[0] = (nn_scene_item){ .object = 2, .x = 4, .y = 36, .size = 24 }; /* at 16, 48 */
    scene.item[1] = (nn_scene_item){ .object = 9, .x = 0, .y = 0, .size = 24 };
    detector_target(&c, &scene, heat);
    for (int i = 0; i < 16 * 16 * 4; i++) sum += heat[i];
    float one = heat[(12 * 16 + 4) * 4 + 2], beside = heat[(12 * 16 + 5) * 4 + 2];
    assert_true(one == 1.0f);
    assert_true(fabsf(beside - expf(-2)) < 1e-6f);
    double line = 1 + 2 * exp(-2) + 2 * exp(-8); /* separable */
    assert_true(fabs(sum - line * line) < 1e-5);
}

/* A perfect heat map answers its own scene, on every layout. */
static void test_peaks_of_the_target_are_the_scene(void **state)
{
    static float heat[16 * 16 * 16];
    detector_config c = detector_config_default(16, 64);
    (void)state;
    for (int layout = 0; layout < NN_SCENE_LAYOUTS; layout++) {
        nn_scene_config config = nn_scene_config_default(16, 7, 64, (nn_scene_layout)layout);
        for (uint64_t i = 0; i < 300; i++) {
            nn_scene scene;
            nn_scene_detection found[DETECTOR_MOST];
            OK(nn_scene_make(&config, NN_SCENE_ANY, 3, i, &scene));
            detector_target(&c, &scene, heat);
            for (int k = 0; k < NN_COUNT(heat); k++) heat[k] = 8 * heat[k] - 4;
            int n = detector_peaks(&c, heat, found);
            nn_scene_score score = nn_scene_score_picture(&scene, found, n);
            assert_int_equal(n, scene.n_items);
            assert_true(score.exact);
            assert_true(score.related == (scene.facts.relation != NN_SCENE_UNRELATED));
        }
    }
}

static void test_only_the_strongest_of_a_place_counts(void **state)
{
    static float heat[16 * 16 * 4];
    nn_scene_detection found[DETECTOR_MOST];
    detector_config c = detector_config_default(4, 64);
    (void)state;
    for (int i = 0; i < NN_COUNT(heat); i++) heat[i] = -5;
    assert_int_equal(detector_peaks(&c, heat, found), 0);
    heat[(3 * 16 + 3) * 4 + 1] = 2;
    heat[(3 * 16 + 4) * 4 + 2] = 1;     /* another kind beside it */
    heat[(5 * 16 + 5) * 4 + 1] = 1;     /* its own kind, two cells away */
    heat[(5 * 16 + 6) * 4 + 2] = 1.5f;  /* another kind, three cells away from the first */
    heat[(6 * 16 + 3) * 4 + 1] = -0.1f; /* below one half */
    assert_int_equal(detector_peaks(&c, heat, found), 2);
    assert_int_equal(found[0].object, 1);
    assert_true(found[0].x == 14 && found[0].y == 14);
    assert_int_equal(found[1].object, 2);
    for (int i = 0; i < NN_COUNT(heat); i++) heat[i] = 3; /* flat: the first of every plateau */
    assert_true(detector_peaks(&c, heat, found) <= DETECTOR_MOST);
}

static void test_size_of_the_network(void **state)
{
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    detector_config c = detector_config_default(16, 64);
    (void)state;
    OK(nn_device_open("null", 1, &device));
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    nn_scope root = nn_root(g, params, "");
    nn_tensor *map = detector_map(root, &c, nn_input(g, "pixels", NN_F32, NN_DIMS(1, 64, 64, 3)));
    nn_tensor *logits = detector_logits(root, &c, map), *features = detector_features(root, map);
    nn_keep(logits);
    nn_keep(features);
    assert_int_equal(logits->view.dim[1], 16);
    assert_int_equal(logits->view.dim[3], 16);
    assert_int_equal(features->view.dim[1], 64);
    OK(nn_graph_status(g));
    OK(nn_params_alloc(params, device, false));
    OK(nn_plan_create(g, device, NULL, &plan));
    assert_in_range(nn_params_count(params), 240000, 244000);
    double gflop = 1e-9 * nn_plan_stats_of(plan).flops;
    assert_true(gflop > 0.12 && gflop < 0.13);
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_params_destroy(params);
    nn_device_close(device);
}

enum { BATCH = 6, SIDE = 32, KINDS = 4, CELLS = SIDE / DETECTOR_STRIDE, STEPS = 150 };

/* Scenes that the little detector learns by heart. */
typedef struct lesson {
    nn_scene scene[BATCH];
    float pixels[BATCH * SIDE * SIDE * 3], targets[BATCH * CELLS * CELLS * KINDS];
} lesson;

static void prepare(lesson *l, const detector_config *c)
{
    nn_scene_config config = nn_scene_config_default(KINDS, 2, SIDE, NN_SCENE_GRID2);
    nn_scenes *scenes;
    static uint8_t rgb[SIDE * SIDE * 3];
    OK(nn_scenes_open(&config, NULL, NULL, &scenes));
    for (int i = 0; i < BATCH; i++) {
        OK(nn_scene_make(&config, NN_SCENE_ANY, 1, (uint64_t)i, &l->scene[i]));
        OK(nn_scene_render(scenes, &l->scene[i], rgb));
        detector_pixels(rgb, SIDE * SIDE, l->pixels + i * SIDE * SIDE * 3);
        detector_target(c, &l->scene[i], l->targets + i * CELLS * CELLS * KINDS);
    }
    nn_scenes_close(scenes);
}

static void train(const detector_config *c, nn_params *params, const lesson *l)
{
    nn_graph *g;
    nn_plan *plan;
    nn_optimizer *optimizer;
    nn_adamw_options options = NN_ADAMW_DEFAULTS;
    OK(nn_graph_create(&g));
    nn_graph_training(g);
    nn_tensor *x = nn_input(g, "pixels", NN_F32, NN_DIMS(BATCH, SIDE, SIDE, 3));
    nn_tensor *y = nn_input(g, "targets", NN_F32, NN_DIMS(BATCH, CELLS, CELLS, KINDS));
    nn_tensor *loss = detector_loss(nn_root(g, params, ""), c, x, y);
    nn_keep(loss);
    nn_backward(g, loss, 1, false);
    OK(nn_optimizer_create(params, &options, &optimizer));
    nn_optimizer_add(optimizer, g);
    OK(nn_plan_create(g, params->device, NULL, &plan));
    float first = 0, value = 0, norm;
    for (int step = 0; step < STEPS; step++) {
        OK(nn_plan_write(plan, x, l->pixels));
        OK(nn_plan_write(plan, y, l->targets));
        OK(nn_optimizer_begin(optimizer, plan, 2e-3));
        OK(nn_plan_run(plan, (uint64_t)step));
        OK(nn_optimizer_end(optimizer, plan, &norm));
        OK(nn_plan_read(plan, loss, &value));
        if (!step) first = value;
    }
    assert_true(value < 0.1f * first);
    nn_plan_destroy(plan);
    nn_optimizer_destroy(optimizer);
    nn_graph_destroy(g);
}

static void look(const detector_config *c, nn_params *params, const lesson *l)
{
    static float logits[BATCH * CELLS * CELLS * KINDS], features[BATCH * 32];
    detector_session *session;
    OK(detector_session_create(c, params, params->device, BATCH, &session));
    OK(detector_session_look(session, l->pixels, logits, features));
    detector_session_destroy(session);
    for (int i = 0; i < BATCH; i++) {
        nn_scene_detection found[DETECTOR_MOST];
        int n = detector_peaks(c, logits + i * CELLS * CELLS * KINDS, found);
        assert_true(nn_scene_score_picture(&l->scene[i], found, n).exact);
    }
    assert_memory_not_equal(features, features + c->width, (size_t)c->width * sizeof(float));
}

static void test_learns_by_heart_and_comes_back_from_files(void **state)
{
    static lesson l;
    detector_config c = detector_config_default(KINDS, SIDE), read;
    nn_device *device;
    nn_params *params, *again;
    nn_graph *g;
    nn_text config = { 0 };
    (void)state;
    c.width = 32;
    c.n_blocks = 1;
    prepare(&l, &c);
    OK(nn_device_open("cpu", 1, &device));
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    (void)detector_loss(nn_root(g, params, ""), &c,
                        nn_input(g, "x", NN_F32, NN_DIMS(1, SIDE, SIDE, 3)),
                        nn_input(g, "y", NN_F32, NN_DIMS(1, CELLS, CELLS, KINDS)));
    OK(nn_graph_status(g));
    nn_graph_destroy(g);
    OK(nn_params_alloc(params, device, true));
    OK(nn_params_init(params, 1));
    train(&c, params, &l);
    look(&c, params, &l);

    OK(detector_config_write(&c, &config));
    scratch_write("config.json", config.text, config.length);
    nn_text_free(&config);
    assert_int_equal(detector_open(scratch_path, device, &read, &again), NN_NOT_FOUND);
    OK(nn_params_save(params, scratch("model.safetensors"), NULL, 0, NN_F32));
    OK(detector_open(scratch_path, device, &read, &again));
    look(&read, again, &l);
    nn_params_destroy(again);
    nn_params_destroy(params);
    nn_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_target_is_one_at_the_centre),
        cmocka_unit_test(test_peaks_of_the_target_are_the_scene),
        cmocka_unit_test(test_only_the_strongest_of_a_place_counts),
        cmocka_unit_test(test_size_of_the_network),
        cmocka_unit_test(test_learns_by_heart_and_comes_back_from_files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
