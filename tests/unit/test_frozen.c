/* Frozen stores: weights that are given back to the system once they are packed, and come again. */
#include <math.h>

#include "engine/base/rng.h"
#include "engine/weights.h"
#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"

enum { ROWS = 12, IN = 160, OUT = 96, IDS = 40 };

typedef struct network {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_tensor *ids, *y;
    nn_plan *plan;
} network;

/* A table that every run reads, and matrices that the cpu packs for more rows than a few: one, and
 * two that are joined. */
static void build(network *n)
{
    OK(nn_graph_create(&n->g));
    nn_scope s = nn_root(n->g, n->params, "net");
    n->ids = nn_input(n->g, "ids", NN_I32, 1, (int64_t[]){ ROWS });
    nn_tensor *table = nn_param_at(s, "table", NN_NORMAL(1), 2, (int64_t[]){ IDS, IN });
    nn_tensor *w = nn_param_at(s, "weight", NN_NORMAL(1), 2, (int64_t[]){ OUT, IN });
    nn_tensor *b = nn_param_at(s, "bias", NN_NORMAL(1), 1, (int64_t[]){ OUT });
    const int64_t half[] = { OUT / 2, IN };
    nn_tensor *parts[] = { nn_param_at(s, "upper", NN_NORMAL(1), 2, half),
                           nn_param_at(s, "lower", NN_NORMAL(1), 2, half) };
    nn_tensor *x = nn_embedding(n->g, n->ids, table);
    nn_tensor *y = nn_linear(n->g, x, nn_params_joined(n->g, 2, parts), NULL, NULL);
    n->y = nn_linear(n->g, x, w, b, y);
    nn_keep(n->y);
}

static void declare(network *n, const char *device, bool frozen)
{
    n->device = open_device(device, 2);
    OK(nn_params_create(&n->params));
    build(n);
    nn_graph_destroy(n->g);
    n->g = NULL;
    n->params->frozen = frozen;
    OK(nn_params_alloc(n->params, n->device, false));
}

static void make_plan(network *n)
{
    build(n);
    OK(nn_plan_create(n->g, n->device, &(nn_plan_options){ .frozen = true }, &n->plan));
}

static void close_network(network *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

static void run(network *n, float *y)
{
    OK(nn_plan_write(n->plan, n->ids, (int32_t[ROWS]){ 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 39 }));
    OK(nn_plan_run(n->plan, 0));
    OK(nn_plan_read(n->plan, n->y, y));
}

static nn_param *weight_of(const network *n)
{
    return nn_params_find(n->params, "net.weight");
}

/* A frozen network, however it was filled, computes what one does that keeps its values. */
static void same(network *frozen, network *plain)
{
    float a[ROWS * OUT], b[ROWS * OUT];
    run(plain, b);
    run(frozen, a);
    assert_memory_equal(a, b, sizeof(a));
    run(frozen, a);
    assert_memory_equal(a, b, sizeof(a));
    nn_params_give_back_all(frozen->params);
    run(frozen, a);
    assert_memory_equal(a, b, sizeof(a));
    nn_params_touch(frozen->params); /* packs again */
    run(frozen, a);
    assert_memory_equal(a, b, sizeof(a));
}

static nn_status refuse(const void *of, const nn_param *param, nn_pool *pool, float *out)
{
    (void)of;
    (void)param;
    (void)pool;
    (void)out;
    return nn_fail(NN_IO, "read again");
}

/* What was packed ahead is not read by the run, until the values change. */
static void test_packed_ahead(void **state)
{
    (void)state;
    float a[ROWS * OUT], b[ROWS * OUT];
    network frozen = { 0 }, plain = { 0 };
    declare(&frozen, "cpu", true);
    declare(&plain, "cpu", false);
    OK(nn_params_init(frozen.params, 7));
    OK(nn_params_init(plain.params, 7));
    make_plan(&frozen);
    make_plan(&plain);
    run(&plain, b);
    OK(nn_plan_pack(frozen.plan));
    assert_true(weight_of(&frozen)->absent);
    nn_params_fetch *fetch = weight_of(&frozen)->fetch;
    weight_of(&frozen)->fetch = refuse;
    run(&frozen, a);
    assert_memory_equal(a, b, sizeof(a));
    OK(nn_plan_pack(frozen.plan));
    nn_params_touch(frozen.params);
    FAILS(NN_IO, nn_plan_pack(frozen.plan));
    weight_of(&frozen)->fetch = fetch;
    OK(nn_plan_pack(frozen.plan));
    run(&frozen, a);
    assert_memory_equal(a, b, sizeof(a));
    close_network(&frozen);
    close_network(&plain);
}

static void same_values(network *frozen, network *plain)
{
    static float a[OUT * IN], b[OUT * IN];
    OK(nn_params_read(frozen->params, weight_of(frozen), a));
    OK(nn_params_read(plain->params, weight_of(plain), b));
    assert_memory_equal(a, b, sizeof(a));
    OK(nn_params_read(frozen->params, nn_params_find(frozen->params, "net.lower"), a));
    OK(nn_params_read(plain->params, nn_params_find(plain->params, "net.lower"), b));
    assert_memory_equal(a, b, sizeof(a) / 2);
}

static void test_drawn(void **state)
{
    (void)state;
    static const char *const devices[] = { "cpu", "ref" };
    for (int i = 0; i < NN_COUNT(devices); i++) {
        network frozen = { 0 }, plain = { 0 };
        declare(&frozen, devices[i], true);
        declare(&plain, devices[i], false);
        OK(nn_params_init(frozen.params, 7));
        OK(nn_params_init(plain.params, 7));
        make_plan(&frozen);
        make_plan(&plain);
        assert_true(weight_of(&frozen)->absent);
        same(&frozen, &plain);
        bool packs = nn_plan_stats_of(frozen.plan).packed_bytes > 0;
        assert_true(weight_of(&frozen)->absent == packs);
        assert_true(nn_params_find(frozen.params, "net.upper")->absent == packs);
        assert_true(nn_params_find(frozen.params, "net.lower")->absent == packs);
        assert_false(nn_params_find(frozen.params, "net.table")->absent);
        assert_int_equal(nn_plan_stats_of(frozen.plan).weight_bytes,
                         (IDS + (packs ? 1 : 2) * OUT) * IN * sizeof(float));
        assert_int_equal(nn_plan_stats_of(plain.plan).weight_bytes, 0);
        same_values(&frozen, &plain);
        close_network(&frozen);
        close_network(&plain);
    }
}

/* Of f32 files the values are read where they lie; others are converted whenever they come. */
static void test_files(void **state)
{
    (void)state;
    static const nn_dtype dtypes[] = { NN_F32, NN_F16 };
    for (int i = 0; i < NN_COUNT(dtypes); i++) {
        network first = { 0 }, frozen = { 0 }, plain = { 0 };
        const char *path = scratch("w.safetensors");
        declare(&first, "cpu", false);
        OK(nn_params_init(first.params, 3));
        OK(nn_params_save(first.params, path, NULL, 0, dtypes[i]));
        declare(&frozen, "cpu", true);
        declare(&plain, "cpu", false);
        OK(nn_params_load(frozen.params, path, NULL, 0, NULL));
        OK(nn_params_load(plain.params, path, NULL, 0, NULL));
        OK(nn_file_remove(path)); /* the map stays */
        assert_true(weight_of(&frozen)->mapped == (dtypes[i] == NN_F32));
        make_plan(&frozen);
        make_plan(&plain);
        same(&frozen, &plain);
        assert_true(weight_of(&frozen)->absent == (dtypes[i] != NN_F32));
        same_values(&frozen, &plain);
        close_network(&first);
        close_network(&frozen);
        close_network(&plain);
    }
}

static void test_errors(void **state)
{
    (void)state;
    static float values[OUT * IN];
    network n = { 0 };
    declare(&n, "cpu", true);
    build(&n);
    FAILS(NN_ARGUMENT,
          nn_plan_create(n.g, n.device, &(nn_plan_options){ .frozen = true }, &n.plan));
    MESSAGE_HAS("net.table");
    FAILS(NN_ARGUMENT, nn_params_read(n.params, weight_of(&n), values));
    MESSAGE_HAS("before the store was loaded");
    nn_graph_destroy(n.g);
    OK(nn_params_init(n.params, 1));
    FAILS(NN_UNSUPPORTED, nn_params_write(n.params, weight_of(&n), values));
    MESSAGE_HAS("net.weight: belongs to a frozen store");
    make_plan(&n);
    close_network(&n);
}

/* Where values must be kept after all, the store is as any other. */
static void test_not_frozen(void **state)
{
    (void)state;
    static float values[OUT * IN];
    network n = { 0 };
    n.device = open_device("cpu", 1);
    OK(nn_params_create(&n.params));
    build(&n);
    nn_graph_destroy(n.g);
    n.params->frozen = true;
    OK(nn_params_alloc(n.params, n.device, true));
    assert_false(n.params->frozen);
    OK(nn_params_write(n.params, weight_of(&n), values));
    make_plan(&n);
    close_network(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_drawn), cmocka_unit_test(test_files),
                                        cmocka_unit_test(test_errors),
                                        cmocka_unit_test(test_packed_ahead),
                                        cmocka_unit_test(test_not_frozen) };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
