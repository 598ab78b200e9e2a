/* Losses, embedding, dropout and the time embedding: values known from elsewhere, errors of the
 * data, and what the op tests cannot see. */
#include "tests/unit/engine_check.h"

#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

/* A graph with one device, one plan and the inputs that were made. */
typedef struct bench {
    nn_device *device;
    nn_graph *g;
    nn_plan *plan;
} bench;

static void open_bench(bench *b, const char *device, int n_threads)
{
    b->device = open_device(device, n_threads);
    OK(nn_graph_create(&b->g));
    nn_graph_training(b->g);
    b->g->scope = "net.head";
}

static void plan(bench *b)
{
    OK(nn_plan_create(b->g, b->device, &(nn_plan_options){ .hostile = true }, &b->plan));
}

static void close_bench(bench *b)
{
    nn_plan_destroy(b->plan);
    nn_graph_destroy(b->g);
    nn_device_close(b->device);
}

static const char *const devices[] = { "cpu", "ref" };

static void near(double have, double want, double allowed)
{
    if (!(fabs(have - want) <= allowed)) fail_msg("%.9g, expected %.9g", have, want);
}

/* -- cross-entropy -- */

typedef struct xent {
    bench b;
    nn_tensor *logits, *labels, *loss, *dx;
} xent;

static void open_xent(xent *x, const char *device, int threads, int64_t rows, int64_t width,
                      double smoothing)
{
    open_bench(&x->b, device, threads);
    x->logits = nn_input(x->b.g, "logits", NN_F32, 2, (int64_t[]){ rows, width });
    x->labels = nn_input(x->b.g, "labels", NN_I32, 1, &rows);
    nn_require_grad(x->logits);
    x->loss = nn_softmax_xent(x->b.g, x->logits, x->labels, smoothing);
    nn_keep(x->loss);
    nn_backward(x->b.g, x->loss, 1, false);
    x->dx = nn_grad_of(x->logits);
    nn_keep(x->dx);
    plan(&x->b);
}

static nn_status run_xent(xent *x, const float *logits, const int32_t *labels, float *loss,
                          float *dx)
{
    NN_TRY(nn_plan_write(x->b.plan, x->logits, logits));
    NN_TRY(nn_plan_write(x->b.plan, x->labels, labels));
    NN_TRY(nn_plan_run(x->b.plan, 1));
    NN_TRY(nn_plan_read(x->b.plan, x->loss, loss));
    return nn_plan_read(x->b.plan, x->dx, dx);
}

static void test_xent_values(void **unused)
{
    const float logits[6] = { 1, 2, 3, 7, 7, 7 };
    (void)unused;
    for (int d = 0; d < NN_COUNT(devices); d++) {
        xent plain = { 0 }, smooth = { 0 };
        float loss = NAN, dx[6] = { 0 };
        open_xent(&plain, devices[d], 1, 2, 3, 0);
        open_xent(&smooth, devices[d], 1, 2, 3, 0.1);
        OK(run_xent(&plain, logits, (int32_t[]){ 2, -100 }, &loss, dx));
        near((double)loss, 0.4076059644, 1e-7);
        near((double)dx[0], 0.0900305732, 1e-7);
        near((double)dx[2], 0.6652409558 - 1, 1e-7);
        for (int i = 3; i < 6; i++) assert_true(dx[i] == 0);
        OK(run_xent(&plain, logits, (int32_t[]){ 2, 0 }, &loss, dx));
        near((double)loss, (0.4076059644 + 1.0986122887) / 2, 1e-7);
        OK(run_xent(&smooth, logits, (int32_t[]){ 2, -1 }, &loss, dx));
        near((double)loss, 0.9 * 0.4076059644 + 0.1 * 1.4076059644, 1e-7);
        near((double)dx[2], 0.6652409558 - 0.9 - 0.1 / 3, 1e-7);
        OK(run_xent(&plain, logits, (int32_t[]){ -1, -1 }, &loss, dx));
        assert_true(loss == 0);
        for (int i = 0; i < 6; i++) assert_true(dx[i] == 0);
        close_bench(&plain.b);
        close_bench(&smooth.b);
    }
}

static void test_xent_errors(void **unused)
{
    const float logits[6] = { 0 };
    (void)unused;
    for (int d = 0; d < NN_COUNT(devices); d++) {
        xent x = { 0 };
        float loss = NAN, dx[6] = { 0 };
        open_xent(&x, devices[d], 1, 2, 3, 0);
        FAILS(NN_ARGUMENT, run_xent(&x, logits, (int32_t[]){ 0, 3 }, &loss, dx));
        MESSAGE_HAS("net.head: softmax_xent: label 3, but there are 3 logits");
        close_bench(&x.b);
    }
}

/* A logit of minus infinity has probability 0; the largest finite ones do not overflow. */
static void test_xent_extremes(void **unused)
{
    enum { WIDTH = 40 };
    (void)unused;
    for (int d = 0; d < NN_COUNT(devices); d++) {
        xent x = { 0 };
        float loss, dx[WIDTH], logits[WIDTH];
        open_xent(&x, devices[d], 1, 1, WIDTH, 0);
        for (int i = 0; i < WIDTH; i++) logits[i] = -INFINITY;
        logits[3] = logits[37] = 3e4f;
        OK(run_xent(&x, logits, (int32_t[]){ 37 }, &loss, dx));
        near((double)loss, 0.6931471806, 2e-3); /* 3e4 in f32 is good to 2e-3 */
        near((double)dx[3], 0.5, 1e-3);
        near((double)dx[37], -0.5, 1e-3);
        assert_true(dx[0] == 0 && dx[39] == 0);
        close_bench(&x.b);
    }
}

/* The vocabulary of CLIP, against sums in double; and the same bits from one thread and from two.
 */
static void test_xent_large(void **unused)
{
    enum { ROWS = 3, WIDTH = 49408 };
    float *logits = nn_alloc(ROWS * WIDTH, sizeof(float)), *dx[2], loss[2];
    const int32_t labels[ROWS] = { 49407, -1, 12345 };
    nn_rng rng = nn_rng_make(1, "logits", 0);
    double want = 0;
    (void)unused;
    assert_non_null(logits);
    nn_rng_normal_fill(&rng, logits, ROWS * WIDTH);
    for (int t = 0; t < 2; t++) {
        xent x = { 0 };
        dx[t] = nn_alloc(ROWS * WIDTH, sizeof(float));
        open_xent(&x, "cpu", t + 1, ROWS, WIDTH, 0);
        OK(run_xent(&x, logits, labels, &loss[t], dx[t]));
        close_bench(&x.b);
    }
    for (int r = 0; r < ROWS; r += 2) {
        const float *row = logits + r * WIDTH;
        double sum = 0;
        for (int i = 0; i < WIDTH; i++) sum += exp((double)row[i]);
        want += (log(sum) - (double)row[labels[r]]) / 2;
        for (int i = 0; i < WIDTH; i += 997)
            near((double)dx[0][r * WIDTH + i], exp((double)row[i]) / sum / 2, 1e-8);
    }
    near((double)loss[0], want, 3e-6);
    assert_memory_equal(&loss[0], &loss[1], sizeof(float));
    assert_memory_equal(dx[0], dx[1], ROWS * WIDTH * sizeof(float));
    nn_free(logits);
    nn_free(dx[0]);
    nn_free(dx[1]);
}

/* -- embedding -- */

static void test_embedding_errors(void **unused)
{
    static const int32_t bad[][2] = { { 0, 3 }, { -1, 0 } };
    static const char *const words[] = { "net.head: embedding: id 3 lies outside the table of 3",
                                         "net.head: embedding: id -1 lies outside the table of 3" };
    (void)unused;
    for (int d = 0; d < NN_COUNT(devices); d++) {
        for (int i = 0; i < NN_COUNT(bad); i++) {
            bench b = { 0 };
            open_bench(&b, devices[d], 1);
            nn_tensor *ids = nn_input(b.g, "ids", NN_I32, NN_DIMS(2));
            nn_tensor *table = nn_input(b.g, "table", NN_F32, NN_DIMS(3, 5));
            nn_keep(nn_embedding(b.g, ids, table));
            plan(&b);
            OK(nn_plan_write(b.plan, ids, bad[i]));
            FAILS(NN_ARGUMENT, nn_plan_run(b.plan, 1));
            MESSAGE_HAS(words[i]);
            close_bench(&b);
        }
    }
}

/* -- dropout -- */

enum { DROPPED = 10007 };

static void run_dropout(const char *device, uint64_t seed, float *y, float *dx)
{
    bench b = { 0 };
    float *ones = nn_alloc(DROPPED, sizeof(float));
    open_bench(&b, device, 2);
    nn_tensor *x = nn_input(b.g, "x", NN_F32, NN_DIMS(DROPPED));
    nn_require_grad(x);
    nn_tensor *t = nn_dropout(b.g, x, 0.3);
    nn_keep(t);
    nn_backward(b.g, nn_sum(b.g, t, NN_DIMS(1)), 1, false);
    nn_keep(nn_grad_of(x));
    plan(&b);
    for (int i = 0; i < DROPPED; i++) ones[i] = 1;
    OK(nn_plan_write(b.plan, x, ones));
    OK(nn_plan_run(b.plan, seed));
    OK(nn_plan_read(b.plan, t, y));
    OK(nn_plan_read(b.plan, nn_grad_of(x), dx));
    nn_free(ones);
    close_bench(&b);
}

static void test_dropout(void **unused)
{
    static float y[3][DROPPED], dx[3][DROPPED];
    int kept = 0, same = 0;
    (void)unused;
    run_dropout("cpu", 1, y[0], dx[0]);
    run_dropout("ref", 1, y[1], dx[1]);
    run_dropout("cpu", 2, y[2], dx[2]);
    assert_memory_equal(y[0], y[1], sizeof(y[0]));
    assert_memory_equal(y[0], dx[0], sizeof(y[0])); /* of ones: gradient and value have one mask */
    for (int i = 0; i < DROPPED; i++) {
        assert_true(y[0][i] == 0 || fabsf(y[0][i] - 1 / 0.7f) < 1e-6f);
        kept += y[0][i] > 0;
        same += y[0][i] == y[2][i];
    }
    near((double)kept / DROPPED, 0.7, 0.02);
    near((double)same / DROPPED, 0.58, 0.02); /* 0.7^2 + 0.3^2: the seeds are independent */
}

static void test_dropout_identity(void **unused)
{
    nn_graph *g;
    (void)unused;
    OK(nn_graph_create(&g));
    nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(4));
    assert_ptr_equal(nn_dropout(g, x, 0.5), x);
    nn_graph_training(g);
    assert_ptr_equal(nn_dropout(g, x, 0), x);
    assert_ptr_not_equal(nn_dropout(g, x, 0.5), x);
    assert_int_equal(nn_dropout(g, x, 1)->kind, NN_POISON);
    FAILS(NN_SHAPE, nn_graph_status(g));
    MESSAGE_HAS("dropout: the probability 1 is not in [0, 1)");
    nn_graph_destroy(g);
}

/* -- time embedding -- */

/* Expected: cos and sin of the f32 angles t * expf(-ln(10000) * i / 160), in double. */
static void test_timestep(void **unused)
{
    static const float times[3] = { 0, 999, 500.5f };
    (void)unused;
    float y[2][3][320];
    for (int d = 0; d < 2; d++) {
        bench b = { 0 };
        open_bench(&b, devices[d], 1);
        nn_tensor *t = nn_input(b.g, "t", NN_F32, NN_DIMS(3));
        nn_tensor *e = nn_timestep(b.g, t, 320);
        nn_keep(e);
        plan(&b);
        OK(nn_plan_write(b.plan, t, times));
        OK(nn_plan_run(b.plan, 1));
        OK(nn_plan_read(b.plan, e, y[d]));
        close_bench(&b);
    }
    for (int n = 0; n < 3; n++) {
        for (int i = 0; i < 160; i++) {
            float frequency = expf(-9.210340371976184f * (float)i / 160.0f);
            double angle = (double)(times[n] * frequency);
            for (int d = 0; d < 2; d++) {
                near((double)y[d][n][i], cos(angle), 1e-7);
                near((double)y[d][n][160 + i], sin(angle), 1e-7);
            }
        }
    }
    near((double)y[0][1][0], 0.9996498, 1e-6);    /* cos 999 */
    near((double)y[0][1][160], -0.0264608, 1e-6); /* sin 999 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xent_values),      cmocka_unit_test(test_xent_errors),
        cmocka_unit_test(test_xent_extremes),    cmocka_unit_test(test_xent_large),
        cmocka_unit_test(test_embedding_errors), cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_identity), cmocka_unit_test(test_timestep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
