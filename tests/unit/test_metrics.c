/* Metrics: figures of made-up scores, intervals that cover, distances with closed forms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/rng.h"
#include "models/metrics.h"

#define OK(expr)           assert_int_equal((expr), NN_OK)
#define NEAR(a, b, within) assert_true(fabs((a) - (b)) <= (within))

static void test_terms_of_a_score(void **state)
{
    nn_scene_score score = {
        .n_named = 2, .n_present = 1, .n_exact = 1, .count_error = { 2, -1 }, .related = true
    };
    double over, under;
    (void)state;
    metrics_term(METRICS_SOA, &score, &over, &under);
    assert_true(over == 1 && under == 2);
    metrics_term(METRICS_CA_EXACT, &score, &over, &under);
    assert_true(over == 1 && under == 2);
    metrics_term(METRICS_CA_RMSE, &score, &over, &under);
    assert_true(over == 5 && under == 2);
    metrics_term(METRICS_PA, &score, &over, &under);
    assert_true(over == 1 && under == 1);
    metrics_term(METRICS_FULL, &score, &over, &under);
    assert_true(over == 0 && under == 1);
    assert_true(metrics_counts(METRICS_FULL, NN_SCENE_PA));
    assert_false(metrics_counts(METRICS_SOA, NN_SCENE_PA));
    assert_string_equal(metrics_name(METRICS_CA_RMSE), "ca_rmse");
}

static void test_value_is_a_ratio_or_its_root(void **state)
{
    double over[] = { 1, 0, 3 }, under[] = { 2, 1, 1 };
    (void)state;
    NEAR(metrics_value((metrics_terms){ over, under, 3, false }), 1, 0);
    over[0] = 33;
    NEAR(metrics_value((metrics_terms){ over, under, 3, true }), 3, 1e-15);
    metrics_estimate e = metrics_bootstrap((metrics_terms){ over, under, 0, false }, 1);
    assert_true(isnan(e.value) && e.n == 0);
}

enum { N = 120, TRIALS = 150 };
static double ones[N];

/* The normal approximation holds for a mean of coins; the bootstrap must agree with it. */
static void test_interval_of_coins(void **state)
{
    double over[N];
    (void)state;
    for (int i = 0; i < N; i++) over[i] = i % 3 == 0;
    metrics_terms t = { over, ones, N, false };
    metrics_estimate e = metrics_bootstrap(t, 7), again = metrics_bootstrap(t, 7);
    double half = 1.96 * sqrt(1.0 / 3 * 2 / 3 / N);
    NEAR(e.value, 1.0 / 3, 1e-15);
    NEAR(e.low, 1.0 / 3 - half, 0.02);
    NEAR(e.high, 1.0 / 3 + half, 0.02);
    assert_memory_equal(&e, &again, sizeof(e));
    assert_int_equal(e.n, N);
    e = metrics_bootstrap((metrics_terms){ ones, ones, N, false }, 7);
    assert_true(e.low == 1 && e.high == 1);
}

/* Among many experiments, about 95 % of the intervals hold the truth. */
static void test_intervals_cover(void **state)
{
    double over[N];
    int covered = 0;
    (void)state;
    for (int trial = 0; trial < TRIALS; trial++) {
        nn_rng rng = nn_rng_make(11, "coins", (uint64_t)trial);
        for (int i = 0; i < N; i++) over[i] = nn_rng_uniform(&rng) < 0.3f;
        metrics_estimate e = metrics_bootstrap((metrics_terms){ over, ones, N, false }, 1);
        covered += e.low <= 0.3 && 0.3 <= e.high;
    }
    assert_in_range(covered, TRIALS * 88 / 100, TRIALS * 99 / 100);
}

/* Arms that rise and fall with the prompt: pairing takes the prompt's share out. */
static void test_paired_difference(void **state)
{
    double a[N], b[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        b[i] = i % 10;
        a[i] = b[i] + 1 + (i % 2 ? 0.1 : -0.1);
    }
    metrics_terms left = { a, ones, N, false }, right = { b, ones, N, false };
    metrics_estimate d = metrics_difference(left, right, 3), alone = metrics_bootstrap(left, 3);
    NEAR(d.value, 1, 1e-12);
    assert_true(d.low > 0.97 && d.high < 1.03);
    assert_true(alone.high - alone.low > 10 * (d.high - d.low));
    d = metrics_difference(left, left, 3);
    assert_true(d.low == 0 && d.high == 0);
}

static void test_agreement_of_captions(void **state)
{
    nn_scene_config config = nn_scene_config_default(8, 4, 64, NN_SCENE_GRID2);
    double agrees[METRICS_FACTS];
    nn_text caption = { 0 };
    nn_scene scene;
    (void)state;
    OK(nn_scene_make(&config, NN_SCENE_TRAIN, 1, 0, &scene));
    OK(nn_scene_caption(&scene, NN_SCENE_LONG, &caption));
    metrics_agreement(&scene, caption.text, agrees);
    nn_text_free(&caption);
    for (int f = 0; f < METRICS_FACTS; f++) assert_true(agrees[f] == 1);
    metrics_agreement(&scene, "img_0042.jpg", agrees);
    assert_true(agrees[METRICS_OBJECTS] == 0 && agrees[METRICS_FACTS_FULL] == 0);
    assert_string_equal(metrics_fact_name(METRICS_BACKGROUND), "background");
}

static void test_eigenvalues(void **state)
{
    enum { D = 24 };
    static double a[D * D], copy[D * D], values[D], v[D * D];
    (void)state;
    nn_rng rng = nn_rng_make(5, "matrix", 0);
    for (int i = 0; i < D; i++)
        for (int j = 0; j <= i; j++) a[i * D + j] = a[j * D + i] = nn_rng_normal(&rng);
    memcpy(copy, a, sizeof(a));
    metrics_eigen(copy, D, values, v);
    for (int k = 0; k < D; k++)
        for (int i = 0; i < D; i++) {
            double av = 0;
            for (int j = 0; j < D; j++) av += a[i * D + j] * v[k * D + j];
            NEAR(av, values[k] * v[k * D + i], 1e-12);
        }
    double small[4] = { 2, 1, 1, 2 };
    metrics_eigen(small, 2, values, NULL);
    NEAR(fmin(values[0], values[1]), 1, 1e-15);
    NEAR(fmax(values[0], values[1]), 3, 1e-15);
    double zero[4] = { 0 };
    metrics_eigen(zero, 2, values, NULL);
    assert_true(values[0] == 0 && values[1] == 0);
}

static double distance(const float *a, int64_t na, const float *b, int64_t nb, int dim)
{
    metrics_frechet *f;
    double d;
    OK(metrics_frechet_create(a, na, dim, &f));
    OK(metrics_frechet_distance(f, b, nb, &d));
    metrics_frechet_destroy(f);
    return d;
}

/* In one dimension: (m1 - m2)^2 + (s1 - s2)^2. */
static void test_distance_of_one_dimension(void **state)
{
    float a[] = { -1, 1 }, b[] = { 2, 4, 6 }; /* variance 2 and 4 */
    (void)state;
    NEAR(distance(a, 2, b, 3, 1), 16 + pow(2 - sqrt(2), 2), 1e-12);
    NEAR(distance(a, 2, a, 2, 1), 0, 1e-15);
}

/* 2 d points at +-r[k] on the axes, turned by an angle in the plane of the first two, moved. */
static int64_t cross(float *out, int dim, const double *r, double angle, double shift)
{
    memset(out, 0, sizeof(float) * (size_t)(2 * dim * dim));
    for (int i = 0; i < 2 * dim; i++) {
        float *x = out + i * dim;
        x[i / 2] = (float)(i % 2 ? r[i / 2] : -r[i / 2]);
        float x0 = x[0], x1 = x[1];
        x[0] = (float)(cos(angle) * x0 - sin(angle) * x1);
        x[1] = (float)(sin(angle) * x0 + cos(angle) * x1);
        for (int k = 0; k < dim; k++) x[k] += (float)shift;
    }
    return 2 * dim;
}

static void test_distance_of_diagonal_gaussians(void **state)
{
    enum { D = 5 };
    float a[2 * D * D], b[2 * D * D];
    double r[] = { 1, 2, 3, 0.5, 0 }, q[] = { 2, 2, 1, 1.5, 1 }, expected = D * 0.25;
    (void)state;
    int64_t n = cross(a, D, r, 0, 0);
    cross(b, D, q, 0, 0.5);
    for (int k = 0; k < D; k++)
        expected += pow(r[k] - q[k], 2) * 2 / (double)(n - 1); /* variance 2 r^2 / (n - 1) */
    NEAR(distance(a, n, b, n, D), expected, 1e-6);
    NEAR(distance(b, n, a, n, D), expected, 1e-6);
}

/* Covariances that do not commute; for 2 x 2 the trace of the root is
 * sqrt(tr(S1 S2) + 2 sqrt(det S1 det S2)). */
static void test_distance_of_turned_gaussians(void **state)
{
    float a[8], b[8];
    double r[] = { 1, 3 }, q[] = { 2, 0.5 }, k = 2.0 / 3, angle = 0.6;
    (void)state;
    cross(a, 2, r, 0, 0);
    cross(b, 2, q, angle, 0);
    double c2 = pow(cos(angle), 2), s2 = pow(sin(angle), 2);
    double s11 = k * (4 * c2 + 0.25 * s2), s22 = k * (4 * s2 + 0.25 * c2);
    double product = k * 1 * s11 + k * 9 * s22, det = pow(k, 4) * 9 * 1;
    double expected = k * (10 + 4.25) - 2 * sqrt(product + 2 * sqrt(det));
    NEAR(distance(a, 4, b, 4, 2), expected, 1e-6);
}

static void test_interval_of_a_distance(void **state)
{
    enum { MANY = 400, D = 8 };
    static float a[MANY * D], b[MANY * D], c[MANY * D];
    static double first[METRICS_FRECHET_RESAMPLES], second[METRICS_FRECHET_RESAMPLES];
    metrics_frechet *f;
    metrics_estimate e, g;
    (void)state;
    for (int i = 0; i < MANY * D; i++) {
        nn_rng rng = nn_rng_make(2, "features", (uint64_t)i);
        a[i] = nn_rng_normal(&rng);
        b[i] = nn_rng_normal(&rng) + 0.5f;
        c[i] = b[i] + 0.1f;
    }
    OK(metrics_frechet_create(a, MANY, D, &f));
    OK(metrics_frechet_estimate(f, b, MANY, 9, first, &e));
    OK(metrics_frechet_estimate(f, c, MANY, 9, second, &g));
    assert_true(e.low < e.value && e.value < e.high && e.n == MANY);
    NEAR(e.value, D * 0.25, 0.4); /* identities, means half apart; few pictures say too much */
    metrics_estimate d = metrics_frechet_difference(&g, second, &e, first);
    NEAR(d.value, D * (0.36 - 0.25), 0.1);
    assert_true(d.low > 0 && d.high - d.low < 0.5 * (e.high - e.low));
    b[3] = NAN;
    assert_int_equal(metrics_frechet_estimate(f, b, MANY, 9, first, &e), NN_NUMERIC);
    assert_int_equal(metrics_frechet_estimate(f, a, 1, 9, first, &e), NN_ARGUMENT);
    metrics_frechet_destroy(f);
}

int main(void)
{
    for (int i = 0; i < N; i++) ones[i] = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms_of_a_score),
        cmocka_unit_test(test_value_is_a_ratio_or_its_root),
        cmocka_unit_test(test_interval_of_coins),
        cmocka_unit_test(test_intervals_cover),
        cmocka_unit_test(test_paired_difference),
        cmocka_unit_test(test_agreement_of_captions),
        cmocka_unit_test(test_eigenvalues),
        cmocka_unit_test(test_distance_of_one_dimension),
        cmocka_unit_test(test_distance_of_diagonal_gaussians),
        cmocka_unit_test(test_distance_of_turned_gaussians),
        cmocka_unit_test(test_interval_of_a_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
