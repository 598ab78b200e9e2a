/* The optimizer against its formulas in double, written down a second time here. */
#include "tests/unit/engine_check.h"

#include <math.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/optim.h"

enum { A = 37, B = 5, N = A + B, STEPS = 25 };

/* Loss = sum of w * x over two parameters: the gradient is x, whatever w is. */
typedef struct bench {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    nn_optimizer *optimizer;
    nn_tensor *x[2];
} bench;

static void build(bench *b)
{
    static const int64_t size[2] = { A, B };
    nn_tensor *loss = NULL;
    nn_scope s = nn_root(b->g, b->params, "net");
    for (int i = 0; i < 2; i++) {
        b->x[i] = nn_input(b->g, i ? "xb" : "xa", NN_F32, 1, &size[i]);
        nn_tensor *w = nn_param_at(s, i ? "b" : "a", NN_NORMAL(1), 1, &size[i]);
        nn_tensor *sum = nn_sum(b->g, nn_mul(b->g, w, b->x[i]), 1, (int64_t[]){ 1 });
        loss = loss ? nn_add(b->g, loss, sum) : sum;
    }
    if (b->params->trained) nn_backward(b->g, loss, 1, false);
}

static void open_bench(bench *b, const char *device, const nn_adamw_options *options)
{
    b->device = open_device(device, 2);
    OK(nn_params_create(&b->params));
    OK(nn_graph_create(&b->g));
    build(b);
    nn_graph_destroy(b->g);
    OK(nn_params_alloc(b->params, b->device, true));
    OK(nn_params_init(b->params, 3));
    OK(nn_optimizer_create(b->params, options, &b->optimizer));
    OK(nn_graph_create(&b->g));
    nn_graph_training(b->g);
    build(b);
    nn_optimizer_add(b->optimizer, b->g);
    OK(nn_plan_create(b->g, b->device, NULL, &b->plan));
}

static void close_bench(bench *b)
{
    nn_plan_destroy(b->plan);
    nn_graph_destroy(b->g);
    nn_optimizer_destroy(b->optimizer);
    nn_params_destroy(b->params);
    nn_device_close(b->device);
}

static float run_step(bench *b, const float *gradient, double lr)
{
    float norm;
    OK(nn_plan_write(b->plan, b->x[0], gradient));
    OK(nn_plan_write(b->plan, b->x[1], gradient + A));
    OK(nn_optimizer_begin(b->optimizer, b->plan, lr));
    OK(nn_plan_run(b->plan, 1));
    OK(nn_optimizer_end(b->optimizer, b->plan, &norm));
    return norm;
}

/* Element k of the two parameters in a flat buffer, whose second parameter begins on a multiple of
 * 16. */
static float flat(const float *buffer, int k)
{
    return buffer[k < A ? k : (A + 15) / 16 * 16 + k - A];
}

typedef struct state {
    double w[N], m[N], v[N], ema[N];
} state;

static double norm_of(const float *g)
{
    double sum = 0;
    for (int k = 0; k < N; k++) sum += (double)g[k] * (double)g[k];
    return sqrt(sum);
}

/* Loshchilov & Hutter 2019, algorithm 2, with the norm clipped to o->clip_norm before it. */
static void expect_step(state *s, const float *g, int t, double lr, const nn_adamw_options *o)
{
    double clip = o->clip_norm > 0 ? fmin(1, o->clip_norm / (norm_of(g) + 1e-6)) : 1;
    double decay = t == 1 ? 0 : fmin(o->ema_decay, (1.0 + (t - 1)) / (10.0 + (t - 1)));
    for (int k = 0; k < N; k++) {
        double d = g[k] * clip;
        s->m[k] = o->beta1 * s->m[k] + (1 - o->beta1) * d;
        s->v[k] = o->beta2 * s->v[k] + (1 - o->beta2) * d * d;
        double m_hat = s->m[k] / (1 - pow(o->beta1, t)), v_hat = s->v[k] / (1 - pow(o->beta2, t));
        s->w[k] -= lr * o->weight_decay * s->w[k];
        s->w[k] -= lr * m_hat / (sqrt(v_hat) + o->eps);
        s->ema[k] = decay * s->ema[k] + (1 - decay) * s->w[k];
    }
}

static void assert_near(double have, double want, double allowed, const char *what, int step)
{
    if (!(fabs(have - want) <= allowed * (1 + fabs(want))))
        fail_msg("%s at step %d: %.9g, expected %.9g", what, step, have, want);
}

static void follows_formulas(const char *device, const nn_adamw_options *o)
{
    bench b = { 0 };
    state s = { 0 };
    nn_rng rng = nn_rng_make(5, "gradients", 0);
    open_bench(&b, device, o);
    for (int k = 0; k < N; k++) s.w[k] = s.ema[k] = (double)flat(b.params->values, k);
    for (int t = 1; t <= STEPS; t++) {
        float g[N];
        double lr = 1e-2 / t;
        nn_rng_normal_fill(&rng, g, N);
        for (int k = 0; k < N; k++) g[k] *= t % 3 ? 0.05f : 3.0f; /* clipped every third time */
        float norm = run_step(&b, g, lr);
        expect_step(&s, g, t, lr, o);
        assert_near((double)norm, norm_of(g), 1e-6, "norm", t);
        for (int k = 0; k < N; k++) {
            assert_near((double)flat(b.params->values, k), s.w[k], 2e-6, "weight", t);
            assert_near((double)flat(b.optimizer->m, k), s.m[k], 2e-6, "m", t);
            assert_near((double)flat(b.optimizer->v, k), s.v[k], 2e-6, "v", t);
            if (b.optimizer->ema)
                assert_near((double)flat(b.optimizer->ema, k), s.ema[k], 2e-6, "ema", t);
        }
    }
    assert_int_equal(b.optimizer->step, STEPS);
    close_bench(&b);
}

static void test_formulas(void **unused)
{
    nn_adamw_options plain = NN_ADAMW_DEFAULTS;
    nn_adamw_options all = { .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1 };
    (void)unused;
    all.clip_norm = 1;
    all.ema_decay = 0.5;
    follows_formulas("cpu", &plain);
    follows_formulas("ref", &plain);
    follows_formulas("cpu", &all);
    follows_formulas("ref", &all);
}

static void not_finite(const char *device)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    bench b = { 0 };
    float g[N], before[4][96];
    o.ema_decay = 0.9;
    open_bench(&b, device, &o);
    float *buffers[4] = { b.params->values, b.optimizer->m, b.optimizer->v, b.optimizer->ema };
    size_t bytes = (size_t)b.params->n_elems * sizeof(float);
    assert_true(bytes <= sizeof(before[0]));
    for (int k = 0; k < N; k++) g[k] = 0.1f;
    run_step(&b, g, 0.1);
    for (int i = 0; i < 4; i++) memcpy(before[i], buffers[i], bytes);
    const float bad[] = { NAN, INFINITY, -INFINITY };
    for (int i = 0; i < NN_COUNT(bad); i++) {
        g[A + 2] = bad[i];
        assert_false(isfinite(run_step(&b, g, 0.1)));
        for (int k = 0; k < 4; k++) assert_memory_equal(before[k], buffers[k], bytes);
        assert_int_equal(b.optimizer->step, 1);
        assert_int_equal(b.optimizer->n_skipped, i + 1);
    }
    g[A + 2] = 0.1f;
    run_step(&b, g, 0.1);
    assert_int_equal(b.optimizer->step, 2);
    assert_memory_not_equal(before[0], buffers[0], bytes);
    close_bench(&b);
}

static void test_not_finite(void **unused)
{
    (void)unused;
    not_finite("cpu");
    not_finite("ref");
}

static void test_swap(void **unused)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    bench b = { 0 };
    float g[N], weights[96], average[96];
    (void)unused;
    o.ema_decay = 0.9;
    open_bench(&b, "cpu", &o);
    for (int k = 0; k < N; k++) g[k] = 0.1f;
    for (int t = 0; t < 3; t++) run_step(&b, g, 0.1);
    size_t bytes = (size_t)b.params->n_elems * sizeof(float);
    memcpy(weights, b.params->values, bytes);
    memcpy(average, b.optimizer->ema, bytes);
    assert_memory_not_equal(weights, average, bytes);
    uint64_t version = b.params->version;
    OK(nn_optimizer_swap_ema(b.optimizer));
    assert_true(b.params->version > version);
    assert_memory_equal(b.params->values, average, bytes);
    assert_memory_equal(b.optimizer->ema, weights, bytes);
    OK(nn_optimizer_swap_ema(b.optimizer));
    assert_memory_equal(b.params->values, weights, bytes);
    close_bench(&b);
}

/* Expected: transformers get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup. */
static void test_schedules(void **unused)
{
    static const struct {
        nn_schedule_kind kind;
        int64_t step;
        double lr;
    } rows[] = {
        { NN_LR_CONSTANT, 0, 0 },
        { NN_LR_CONSTANT, 5, 5e-4 },
        { NN_LR_CONSTANT, 10, 1e-3 },
        { NN_LR_CONSTANT, 500, 1e-3 },
        { NN_LR_LINEAR, 9, 9e-4 },
        { NN_LR_LINEAR, 10, 1e-3 },
        { NN_LR_LINEAR, 60, 5e-4 },
        { NN_LR_LINEAR, 109, 1e-5 },
        { NN_LR_LINEAR, 110, 0 },
        { NN_LR_LINEAR, 200, 0 },
        { NN_LR_COSINE, 3, 3e-4 },
        { NN_LR_COSINE, 10, 1e-3 },
        { NN_LR_COSINE, 35, 8.535533905932737e-4 },
        { NN_LR_COSINE, 60, 5e-4 },
        { NN_LR_COSINE, 110, 0 },
        { NN_LR_COSINE, 111, 0 },
    };
    (void)unused;
    for (int i = 0; i < NN_COUNT(rows); i++) {
        nn_schedule s = { rows[i].kind, 1e-3, 10, 110 };
        assert_near(nn_schedule_at(&s, rows[i].step), rows[i].lr, 1e-12, "rate", i);
    }
    nn_schedule at_once = { NN_LR_LINEAR, 1, 0, 4 };
    assert_near(nn_schedule_at(&at_once, 0), 1, 1e-12, "rate", 0);
}

/* Expected: diffusers EMAModel.get_decay. */
static void test_ema_decay(void **unused)
{
    (void)unused;
    assert_near(nn_ema_decay(0.9999, 1), 0, 0, "decay", 1);
    assert_near(nn_ema_decay(0.9999, 2), 2.0 / 11, 1e-12, "decay", 2);
    assert_near(nn_ema_decay(0.9999, 11), 11.0 / 20, 1e-12, "decay", 11);
    assert_near(nn_ema_decay(0.9999, 1000000), 0.9999, 1e-12, "decay", 1000000);
    assert_near(nn_ema_decay(0.1, 2), 0.1, 1e-12, "decay", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),  cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_swap),      cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_ema_decay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
