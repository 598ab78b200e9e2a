/* Frozen plans keep packed weights: they must follow every change of the store's values, and the
 * backend must take these shapes itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/nn.h"

enum { ROWS = 24, IN = 48, OUT = 80, MOST = 1 << 16 };

typedef nn_tensor *build_fn(nn_scope s, nn_graph *g);

static nn_tensor *build_linear(nn_scope s, nn_graph *g)
{
    nn_tensor *x = nn_input(g, "x", NN_F32, 3, (int64_t[]){ 2, ROWS / 2, IN });
    return nn_linear(g, x, nn_param_at(s, "weight", NN_NORMAL(1), 2, (int64_t[]){ OUT, IN }),
                     nn_param_at(s, "bias", NN_NORMAL(1), 1, (int64_t[]){ OUT }), NULL);
}

static nn_tensor *build_conv(nn_scope s, nn_graph *g)
{
    nn_tensor *x = nn_input(g, "x", NN_F32, 4, (int64_t[]){ 2, 5, 7, 24 });
    return nn_conv2d(g, x, nn_param_at(s, "weight", NN_NORMAL(1), 4, (int64_t[]){ 40, 24, 3, 3 }),
                     nn_param_at(s, "bias", NN_NORMAL(1), 1, (int64_t[]){ 40 }), NULL, NULL,
                     (nn_conv){ 1, 1, 1, 1, 1 });
}

static nn_tensor *build_winograd(nn_scope s, nn_graph *g)
{
    nn_tensor *x = nn_input(g, "x", NN_F32, 4, (int64_t[]){ 1, 9, 8, 32 });
    return nn_conv2d(g, x, nn_param_at(s, "weight", NN_NORMAL(1), 4, (int64_t[]){ 48, 32, 3, 3 }),
                     NULL, NULL, NULL, (nn_conv){ 1, 1, 1, 1, 1 });
}

typedef struct network {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_tensor *y;
    nn_plan *plan;
} network;

static nn_tensor *build(network *n, build_fn *fn)
{
    assert_int_equal(nn_graph_create(&n->g), NN_OK);
    return fn(nn_root(n->g, n->params, "net"), n->g);
}

static void open_network(network *n, const char *device, build_fn *fn)
{
    assert_int_equal(nn_device_open(device, 2, &n->device), NN_OK);
    assert_int_equal(nn_params_create(&n->params), NN_OK);
    build(n, fn);
    nn_graph_destroy(n->g);
    assert_int_equal(nn_params_alloc(n->params, n->device, false), NN_OK);
    n->y = build(n, fn);
    nn_keep(n->y);
    assert_int_equal(
        nn_plan_create(n->g, n->device, &(nn_plan_options){ .frozen = true }, &n->plan), NN_OK);
    assert_int_equal(nn_plan_stats_of(n->plan).n_fallbacks, 0);
}

static void close_network(network *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

static void run(network *n, uint64_t input, float *y)
{
    static float x[MOST];
    nn_rng rng = nn_rng_make(input, "x", 0);
    for (int i = 0; i < MOST; i++) x[i] = nn_rng_normal(&rng);
    for (int64_t i = 0; i < n->g->n_tensors; i++)
        if (n->g->tensors[i]->kind == NN_INPUT)
            assert_int_equal(nn_plan_write(n->plan, n->g->tensors[i], x), NN_OK);
    assert_int_equal(nn_plan_run(n->plan, 1), NN_OK);
    assert_int_equal(nn_plan_read(n->plan, n->y, y), NN_OK);
}

static void compare(network *cpu, network *ref, uint64_t input)
{
    static float have[MOST], want[MOST];
    int64_t n = nn_view_elems(&cpu->y->view);
    assert_true(n <= MOST);
    run(cpu, input, have);
    run(ref, input, want);
    for (int64_t i = 0; i < n; i++) assert_true(fabsf(have[i] - want[i]) < 2e-3f);
}

static void follow(build_fn *fn)
{
    network cpu = { 0 }, ref = { 0 };
    open_network(&ref, "ref", fn);
    open_network(&cpu, "cpu", fn);
    assert_true(nn_plan_stats_of(cpu.plan).packed_bytes > 0);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        assert_int_equal(nn_params_init(cpu.params, seed), NN_OK);
        assert_int_equal(nn_params_init(ref.params, seed), NN_OK);
        for (uint64_t input = 0; input < 2; input++) compare(&cpu, &ref, input);
    }
    close_network(&cpu);
    close_network(&ref);
}

static void test_linear(void **state)
{
    (void)state;
    follow(build_linear);
}

static void test_conv(void **state)
{
    (void)state;
    follow(build_conv);
}

static void test_winograd(void **state)
{
    (void)state;
    follow(build_winograd);
}

/* Values written behind the store's back are seen after nn_params_touch, and only then. */
static void test_touch(void **state)
{
    (void)state;
    static float before[MOST], stale[MOST], after[MOST];
    network cpu = { 0 };
    open_network(&cpu, "cpu", build_linear);
    assert_int_equal(nn_params_init(cpu.params, 1), NN_OK);
    run(&cpu, 0, before);
    float *w = nn_params_find(cpu.params, "net.weight")->view.data;
    for (int i = 0; i < OUT * IN; i++) w[i] = 0;
    run(&cpu, 0, stale);
    assert_memory_equal(before, stale, ROWS * OUT * sizeof(float));
    nn_params_touch(cpu.params);
    run(&cpu, 0, after);
    const float *b = nn_params_find(cpu.params, "net.bias")->view.data;
    for (int i = 0; i < OUT; i++) assert_true(after[i] == b[i]);
    close_network(&cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_linear), cmocka_unit_test(test_conv),
                                        cmocka_unit_test(test_winograd),
                                        cmocka_unit_test(test_touch) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
