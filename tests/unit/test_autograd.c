/* Autograd, planner and executor on small networks: sums of gradients, recomputation, bit-equal
 * reruns and resumes, no allocation in a step, exact plans, and kernels that are wrong on purpose.
 */
#include "tests/unit/engine_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "engine/checkpoint.h"

/* -- a network of two layers -- */

enum { SAMPLES = 8, IN = 4, HIDDEN = 32 };

typedef struct variant {
    int64_t batch;
    int depth; /* squarings between the layers */
    double dropout, scale /* of the gradient */;
    bool accumulate, checkpointed, optimized;
} variant;

static const variant plain = { .batch = SAMPLES, .depth = 1, .scale = 1, .optimized = true };

typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *y, *loss;
} net;

/* w2 f(w1 x + b) + c with f(h) = h^2 / 2 + 0.3, applied `depth` times; every two are a segment. */
static void build(net *n, const variant *v)
{
    nn_graph *g = n->g;
    nn_scope root = nn_root(g, n->params, "net"), up = nn_at(root, "up");
    n->x = nn_input(g, "x", NN_F32, NN_DIMS(v->batch, IN));
    n->y = nn_input(g, "y", NN_F32, NN_DIMS(v->batch, 1));
    nn_tensor *w = nn_param_at(up, "weight", NN_NORMAL(0.4f), NN_DIMS(HIDDEN, IN));
    nn_tensor *h =
        nn_linear(g, n->x, w, nn_param_at(up, "bias", NN_NORMAL(0.4f), NN_DIMS(HIDDEN)), NULL);
    for (int i = 0; i < v->depth; i++) {
        if (v->checkpointed && i % 2 == 0) nn_checkpoint_begin(g);
        h = nn_scale(g, nn_dropout(g, nn_mul(g, h, h), v->dropout), 0.5, 0.3);
        if (v->checkpointed && i % 2 == 1) nn_checkpoint_end(g);
    }
    nn_scope down = nn_at(root, "down");
    w = nn_param_at(down, "weight", NN_NORMAL(0.1f), NN_DIMS(1, HIDDEN));
    h = nn_linear(g, h, w, nn_param_at(down, "bias", NN_ZEROS, NN_DIMS(1)), NULL);
    n->loss = nn_mse(g, h, n->y, NULL);
    nn_keep(n->loss);
    if (n->params->trained) nn_backward(g, n->loss, v->scale, v->accumulate);
}

static void close_plan(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    n->plan = NULL;
    n->g = NULL;
}

static void open_plan(net *n, const variant *v)
{
    OK(nn_graph_create(&n->g));
    nn_graph_training(n->g);
    build(n, v);
    if (v->optimized) nn_optimizer_add(n->optimizer, n->g);
    OK(nn_plan_create(n->g, n->device, NULL, &n->plan));
}

static void open_net(net *n, const variant *v, uint64_t seed)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    o.weight_decay = 0;
    o.clip_norm = 5;
    o.ema_decay = 0.9;
    n->device = open_device("cpu", 2);
    OK(nn_params_create(&n->params));
    OK(nn_graph_create(&n->g));
    build(n, v);
    close_plan(n);
    OK(nn_params_alloc(n->params, n->device, true));
    OK(nn_params_init(n->params, seed));
    OK(nn_optimizer_create(n->params, &o, &n->optimizer));
    open_plan(n, v);
}

static void close_net(net *n)
{
    close_plan(n);
    nn_optimizer_destroy(n->optimizer);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

/* Samples [first, first + count) of the data, which are the same for ever. */
static void feed(net *n, int64_t first, int64_t count)
{
    float x[SAMPLES * IN], y[SAMPLES];
    for (int64_t i = 0; i < count; i++) {
        nn_rng rng = nn_rng_make(9, "sample", (uint64_t)(first + i));
        for (int k = 0; k < IN; k++) x[i * IN + k] = 2 * nn_rng_uniform(&rng) - 1;
        y[i] = 2 * nn_rng_uniform(&rng) - 1;
    }
    OK(nn_plan_write(n->plan, n->x, x));
    OK(nn_plan_write(n->plan, n->y, y));
}

static float train_step(net *n, uint64_t seed, double lr)
{
    float loss, norm;
    feed(n, 0, SAMPLES);
    OK(nn_optimizer_begin(n->optimizer, n->plan, lr));
    OK(nn_plan_run(n->plan, seed));
    OK(nn_optimizer_end(n->optimizer, n->plan, &norm));
    OK(nn_plan_read(n->plan, n->loss, &loss));
    return loss;
}

static size_t flat_bytes(const net *n)
{
    return (size_t)n->params->n_elems * sizeof(float);
}

/* -- gradients -- */

static void test_used_twice(void **unused)
{
    nn_device *d = open_device("cpu", 1);
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    float got[3], have[2][3] = { { 1, 2, 3 }, { 10, 20, 30 } };
    (void)unused;
    OK(nn_params_create(&params));
    for (int pass = 0; pass < 2; pass++) {
        nn_tensor *x[2];
        OK(nn_graph_create(&g));
        nn_graph_training(g);
        nn_scope s = nn_root(g, params, "");
        nn_tensor *sum = NULL;
        for (int i = 0; i < 2; i++) {
            x[i] = nn_input(g, i ? "b" : "a", NN_F32, NN_DIMS(3));
            nn_tensor *w = nn_param_at(s, "w", NN_ONES, NN_DIMS(3));
            nn_tensor *term = nn_sum(g, nn_mul(g, w, x[i]), NN_DIMS(1));
            sum = sum ? nn_add(g, sum, term) : term;
        }
        if (pass == 0) {
            nn_graph_destroy(g);
            OK(nn_params_alloc(params, d, true));
            OK(nn_params_init(params, 1));
            continue;
        }
        nn_backward(g, sum, 2, false);
        OK(nn_plan_create(g, d, NULL, &plan));
        for (int i = 0; i < 2; i++) OK(nn_plan_write(plan, x[i], have[i]));
        OK(nn_plan_run(plan, 1));
    }
    assert_int_equal(params->n, 1);
    memcpy(got, params->grads, sizeof(got));
    for (int i = 0; i < 3; i++) assert_true(got[i] == 2 * (have[0][i] + have[1][i]));
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_params_destroy(params);
    nn_device_close(d);
}

/* Two halves of a batch, each with half the weight, add up to the whole. */
static void test_micro_batches(void **unused)
{
    variant v = { .batch = SAMPLES, .depth = 1, .scale = 1 };
    float *whole = nn_alloc(1024, sizeof(float));
    double largest = 0;
    net n = { 0 };
    (void)unused;
    open_net(&n, &v, 1);
    assert_true(flat_bytes(&n) <= 1024 * sizeof(float));
    feed(&n, 0, SAMPLES);
    OK(nn_plan_run(n.plan, 1));
    memcpy(whole, n.params->grads, flat_bytes(&n));
    v.batch = SAMPLES / 2;
    v.scale = 0.5;
    for (int half = 0; half < 2; half++) {
        close_plan(&n);
        v.accumulate = half > 0;
        open_plan(&n, &v);
        feed(&n, half * SAMPLES / 2, SAMPLES / 2);
        OK(nn_plan_run(n.plan, 1));
    }
    for (int64_t i = 0; i < n.params->n_elems; i++) {
        double error = fabs((double)n.params->grads[i] - (double)whole[i]);
        largest = fmax(largest, fabs((double)whole[i]));
        if (error > 1e-6) fail_msg("element %lld is off by %g", (long long)i, error);
    }
    assert_true(largest > 0.01);
    nn_free(whole);
    close_net(&n);
}

/* Recomputing gives the same bits, dropout included, and a plan with less memory. */
static void test_checkpointed(void **unused)
{
    variant v = { .batch = SAMPLES, .depth = 6, .dropout = 0.2, .scale = 1 };
    float *kept = nn_alloc(1024, sizeof(float));
    net n = { 0 };
    (void)unused;
    open_net(&n, &v, 1);
    feed(&n, 0, SAMPLES);
    OK(nn_plan_run(n.plan, 7));
    memcpy(kept, n.params->grads, flat_bytes(&n));
    nn_plan_stats all = nn_plan_stats_of(n.plan);
    close_plan(&n);
    memset(n.params->grads, 0, flat_bytes(&n));
    v.checkpointed = true;
    open_plan(&n, &v);
    feed(&n, 0, SAMPLES);
    OK(nn_plan_run(n.plan, 7));
    nn_plan_stats some = nn_plan_stats_of(n.plan);
    assert_memory_equal(kept, n.params->grads, flat_bytes(&n));
    assert_true(some.activation_bytes < all.activation_bytes);
    assert_true(some.n_launches > all.n_launches);
    OK(nn_plan_run(n.plan, 8)); /* another mask: the test above can fail */
    assert_memory_not_equal(kept, n.params->grads, flat_bytes(&n));
    nn_free(kept);
    close_net(&n);
}

/* -- training -- */

static void test_overfit(void **unused)
{
    net n = { 0 };
    float loss = 1;
    (void)unused;
    open_net(&n, &plain, 1);
    for (int i = 0; i < 1500 && loss >= 1e-4f; i++) loss = train_step(&n, 1, 1e-2);
    assert_true(loss < 1e-4f);
    close_net(&n);
}

static uint64_t train(uint64_t seed)
{
    variant v = plain;
    net n = { 0 };
    v.dropout = 0.3;
    open_net(&n, &v, seed);
    for (uint64_t i = 0; i < 5; i++) train_step(&n, nn_mix(seed, i), 1e-2);
    uint64_t hash;
    OK(nn_params_hash(n.params, &hash));
    close_net(&n);
    return hash;
}

static void test_same_seed(void **unused)
{
    (void)unused;
    uint64_t first = train(1);
    assert_true(train(1) == first);
    assert_true(train(2) != first);
}

static void test_allocations(void **unused)
{
    net n = { 0 };
    int64_t made[11];
    (void)unused;
    open_net(&n, &plain, 1);
    for (uint64_t i = 1; i <= 10; i++) {
        int64_t before = nn_alloc_count();
        train_step(&n, i, 1e-2);
        made[i] = nn_alloc_count() - before;
    }
    assert_int_equal(made[2], 0);
    assert_int_equal(made[10], 0);
    close_net(&n);
}

/* Train steps [from, to) with the randomness that belongs to each. */
static void train_between(net *n, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        train_step(n, nn_mix(5, (uint64_t)i), 1e-2 / (double)(i + 1));
}

static void stop_and_go_on(net *n, const variant *v, const char *directory, int64_t step)
{
    nn_checkpoint c = { .step = step, .seed = 5 };
    bool found;
    OK(nn_checkpoint_save(directory, 1, &c, n->optimizer));
    close_net(n);
    *n = (net){ 0 };
    open_net(n, v, 999); /* other weights, which must not show */
    OK(nn_checkpoint_resume(directory, &c, n->optimizer, &found));
    assert_true(found);
    assert_int_equal(c.step, step);
    nn_free(c.config);
}

static void test_resume(void **unused)
{
    char directory[] = "/tmp/resume-XXXXXX";
    variant v = plain;
    net whole = { 0 }, parts = { 0 };
    (void)unused;
    v.dropout = 0.3;
    assert_non_null(mkdtemp(directory));
    open_net(&whole, &v, 1);
    open_net(&parts, &v, 1);
    train_between(&whole, 0, 9);
    train_between(&parts, 0, 3);
    stop_and_go_on(&parts, &v, directory, 3);
    train_between(&parts, 3, 7);
    stop_and_go_on(&parts, &v, directory, 7);
    train_between(&parts, 7, 9);
    assert_memory_equal(whole.params->values, parts.params->values, flat_bytes(&whole));
    assert_memory_equal(whole.optimizer->m, parts.optimizer->m, flat_bytes(&whole));
    assert_memory_equal(whole.optimizer->v, parts.optimizer->v, flat_bytes(&whole));
    assert_memory_equal(whole.optimizer->ema, parts.optimizer->ema, flat_bytes(&whole));
    assert_int_equal(whole.optimizer->step, parts.optimizer->step);
    close_net(&whole);
    close_net(&parts);
    char *path = nn_format("%s/step-00000007.safetensors", directory);
    OK(nn_file_remove(path));
    nn_free(path);
    assert_int_equal(rmdir(directory), 0);
}

/* -- errors and plans -- */

static void test_error_path(void **unused)
{
    nn_device *d = open_device("ref", 1);
    nn_params *params;
    nn_graph *g;
    nn_plan *plan = NULL;
    (void)unused;
    OK(nn_params_create(&params));
    OK(nn_graph_create(&g));
    nn_scope s = nn_at(nn_root(g, params, "unet"), "blocks.%d", 3);
    nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(2, 5));
    nn_tensor *y = nn_linear(g, x, nn_param_at(s, "weight", NN_ZEROS, NN_DIMS(7, 4)), NULL, NULL);
    assert_int_equal(y->kind, NN_POISON);
    nn_at(s, "later");
    nn_linear(g, nn_add(g, y, x), x, NULL, NULL); /* errors after the first one do not hide it */
    FAILS(NN_SHAPE, nn_plan_create(g, d, NULL, &plan));
    assert_null(plan);
    assert_string_equal(nn_error_message(),
                        "unet.blocks.3: linear: x is f32 [2,5], w is f32 [7,4]: 5 != 4");
    nn_graph_destroy(g);
    nn_params_destroy(params);
    nn_device_close(d);
}

/* x 128 bytes (lives throughout), a 256 and then its scaled self in place, c 128, d 512 (kept).
 * d and a share a place, c lies beside both: 512 + 128 + 128. */
static void test_exact_plan(void **unused)
{
    nn_device *d = open_device("null", 1);
    nn_graph *g;
    (void)unused;
    OK(nn_graph_create(&g));
    nn_tensor *w[3];
    static const int64_t dims[3][2] = { { 32, 16 }, { 16, 32 }, { 64, 16 } };
    for (int i = 0; i < 3; i++) {
        nn_view v = nn_view_make(NN_F32, 2, dims[i]);
        w[i] = nn_external(g, "w", &v, NULL);
    }
    nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(2, 16));
    nn_tensor *a = nn_scale(g, nn_linear(g, x, w[0], NULL, NULL), 2, 0);
    nn_tensor *c = nn_linear(g, a, w[1], NULL, NULL);
    nn_scale(g, c, 3, 0); /* nobody looks at it: not run */
    nn_keep(nn_linear(g, c, w[2], NULL, NULL));
    for (int hostile = 0; hostile < 2; hostile++) {
        nn_plan *plan;
        OK(nn_plan_create(g, d, &(nn_plan_options){ .hostile = hostile }, &plan));
        nn_plan_stats s = nn_plan_stats_of(plan);
        assert_int_equal(s.activation_bytes, hostile ? 768 + 3 * 128 : 768);
        assert_int_equal(s.n_launches, 4);
        assert_int_equal(s.workspace_bytes, 0);
        OK(nn_plan_run(plan, 1));
        nn_plan_destroy(plan);
    }
    nn_graph_destroy(g);
    nn_device_close(d);
}

/* -- kernels that are wrong on purpose -- */

static void add_first(const nn_call *c, int64_t n)
{
    const float *a = c->in[0].data, *b = c->in[1].data;
    float *y = c->out[0].data;
    for (int64_t i = 0; i < n; i++) y[i] = (i < 4 ? a[i] + b[i] : 0);
}

static nn_status add_right(const nn_call *c)
{
    add_first(c, 4);
    return NN_OK;
}

static nn_status add_too_many(const nn_call *c)
{
    add_first(c, 5);
    return NN_OK;
}

static nn_status add_too_few(const nn_call *c)
{
    add_first(c, 3);
    return NN_OK;
}

static nn_status add_before(const nn_call *c)
{
    add_first(c, 4);
    ((float *)c->out[0].data)[-1] = 0;
    return NN_OK;
}

/* The status of a + b on a backend whose add is `run`, in hostile mode. */
static nn_status add_with(nn_status (*run)(const nn_call *), float y[4])
{
    static const float a[4] = { 1, 2, 3, 4 }, b[4] = { 10, 20, 30, 40 };
    const nn_kernel wrong[] = { { .name = "add_wrong", .run = run }, { 0 } };
    const nn_kernel *table[NN_OP_COUNT];
    nn_device *d = open_device("ref", 1);
    nn_backend backend = *d->backend;
    memcpy(table, backend.kernels, sizeof(table));
    table[NN_OP_ADD] = wrong;
    backend.kernels = table;
    d->backend = &backend;
    nn_graph *g;
    nn_plan *plan;
    OK(nn_graph_create(&g));
    g->scope = "net.sum";
    nn_tensor *ta = nn_input(g, "a", NN_F32, NN_DIMS(4)),
              *tb = nn_input(g, "b", NN_F32, NN_DIMS(4));
    nn_tensor *ty = nn_add(g, ta, tb);
    nn_keep(ty);
    OK(nn_plan_create(g, d, &(nn_plan_options){ .hostile = true }, &plan));
    OK(nn_plan_write(plan, ta, a));
    OK(nn_plan_write(plan, tb, b));
    nn_status status = nn_plan_run(plan, 1);
    OK(nn_plan_read(plan, ty, y));
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_device_close(d);
    return status;
}

static void test_hostile(void **unused)
{
    float y[4];
    (void)unused;
    OK(add_with(add_right, y));
    for (int i = 0; i < 4; i++) assert_true(y[i] == (float)(11 * (i + 1)));
    FAILS(NN_DEVICE, add_with(add_too_many, y));
    MESSAGE_HAS("net.sum: add: kernel add_wrong wrote outside of output 0");
    FAILS(NN_DEVICE, add_with(add_before, y));
    OK(add_with(add_too_few, y));
    assert_true(isnan(y[3]) && !isnan(y[2]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_used_twice),   cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_checkpointed), cmocka_unit_test(test_overfit),
        cmocka_unit_test(test_same_seed),    cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_resume),       cmocka_unit_test(test_error_path),
        cmocka_unit_test(test_exact_plan),   cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
