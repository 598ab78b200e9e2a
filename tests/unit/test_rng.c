/* Random numbers: known answers of Philox and of torch's generators, and what the draws promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/base/status.h"

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g is not %.9g", got, want);
}

static void near_all(const float *got, const double *want, int n, double tolerance)
{
    for (int i = 0; i < n; i++) near((double)got[i], want[i], tolerance);
}

/* The known answers that come with Random123 (kat_vectors, philox4x32 10). */
static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } rows[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        uint32_t c[4];
        memcpy(c, rows[r].counter, sizeof c);
        nn_philox(c, rows[r].key);
        assert_memory_equal(c, rows[r].out, sizeof c);
    }
}

static void test_hash(void **state)
{
    (void)state;
    assert_true(nn_hash_text("") == 0xcbf29ce484222325u);
    assert_true(nn_hash_text("check") == 0x830cf17637260a67u);
    assert_true(nn_hash(nn_hash_text("che"), "ck", 2) == nn_hash_text("check"));
    /* splitmix64 from that state */
    static const double u[] = { 0.04737353, 0.97804761, 0.74197328, 0.96076536 };
    for (uint64_t i = 0; i < 4; i++)
        near((double)(nn_mix(nn_hash_text("check"), i) >> 40) * 0x1p-23 - 1, u[i], 1e-8);
}

static void test_streams_are_functions_of_their_key(void **state)
{
    (void)state;
    nn_rng a = nn_rng_make(1, "noise", 5), b = a,
           other[] = { nn_rng_make(2, "noise", 5), nn_rng_make(1, "time", 5),
                       nn_rng_make(1, "noise", 6) };
    int equal[3] = { 0 };
    for (int i = 0; i < 1000; i++) {
        uint32_t draw = nn_rng_u32(&a);
        assert_int_equal(draw, nn_rng_u32(&b));
        for (int k = 0; k < 3; k++) equal[k] += draw == nn_rng_u32(&other[k]);
    }
    for (int k = 0; k < 3; k++) assert_true(equal[k] < 3);
}

static void test_below(void **state)
{
    (void)state;
    nn_rng rng = nn_rng_make(3, "below", 0);
    int count[7] = { 0 };
    for (int i = 0; i < 70000; i++) {
        uint64_t draw = nn_rng_below(&rng, 7);
        assert_true(draw < 7);
        count[draw]++;
    }
    for (int k = 0; k < 7; k++) assert_in_range(count[k], 9600, 10400); /* four sigma */
    const uint64_t huge = (UINT64_C(1) << 63) + 1; /* nearly half of all draws are refused */
    for (int i = 0; i < 1000; i++) {
        assert_true(nn_rng_below(&rng, huge) < huge);
        assert_int_equal(nn_rng_below(&rng, 1), 0);
    }
}

static void moments(const float *x, int n, double *mean, double *variance)
{
    double sum = 0, square = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i];
        square += (double)x[i] * (double)x[i];
    }
    *mean = sum / n;
    *variance = square / n - *mean * *mean;
}

static void test_uniform_and_normal(void **state)
{
    (void)state;
    enum { N = 100001 };
    static float x[N], y[N];
    double mean, variance;
    nn_rng rng = nn_rng_make(4, "uniform", 0);
    for (int i = 0; i < N; i++) {
        x[i] = nn_rng_uniform(&rng);
        assert_true(x[i] >= 0 && x[i] < 1);
    }
    moments(x, N, &mean, &variance);
    near(mean, 0.5, 0.004);
    near(variance, 1 / 12.0, 0.001);

    nn_rng fill = nn_rng_make(4, "normal", 0);
    nn_rng_normal_fill(&fill, y, N);
    moments(y, N, &mean, &variance);
    near(mean, 0, 0.013);
    near(variance, 1, 0.018);
    int beyond = 0;
    for (int i = 0; i < N; i++) beyond += fabsf(y[i]) > 1.959964f;
    near(beyond / (double)N, 0.05, 0.003);
    double together = 0;
    for (int i = 0; i + 1 < N; i += 2) together += (double)y[i] * (double)y[i + 1];
    near(2 * together / N, 0, 0.02); /* the two of a pair do not know each other */
}

static void test_permutation(void **state)
{
    (void)state;
    enum { N = 1000 };
    static int64_t order[N], again[N];
    bool seen[N] = { false };
    nn_rng rng = nn_rng_make(5, "order", 0), same = rng;
    nn_rng_permute(&rng, order, N);
    nn_rng_permute(&same, again, N);
    assert_memory_equal(order, again, sizeof order);
    int fixed = 0;
    for (int i = 0; i < N; i++) {
        assert_in_range(order[i], 0, N - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        fixed += order[i] == i;
    }
    assert_true(fixed < 10); /* one is expected */
    int first[3] = { 0 };
    for (int i = 0; i < 3000; i++) {
        nn_rng_permute(&rng, order, 3);
        first[order[0]]++;
    }
    for (int k = 0; k < 3; k++) assert_in_range(first[k], 890, 1110);
}

static void test_torch_integers(void **state)
{
    (void)state;
    nn_torch_rng rng;
    nn_torch_seed(&rng, 0);
    static const uint32_t first[] = { 2357136044u, 2546248239u, 3071714933u };
    for (int i = 0; i < 3; i++) assert_int_equal(nn_torch_u32(&rng), first[i]);
    static const uint32_t below[] = { 44, 239, 933, 760, 963, 379 };
    nn_torch_seed(&rng, 0);
    for (int i = 0; i < 6; i++) assert_int_equal(nn_torch_u32(&rng) % 1000, below[i]);
    /* The reference implementation's check value: the 10000th output of seed 5489. */
    nn_torch_seed(&rng, 5489);
    uint32_t last = 0;
    for (int i = 0; i < 10000; i++) last = nn_torch_u32(&rng);
    assert_int_equal(last, 4123659995u);
}

static void test_torch_rand(void **state)
{
    (void)state;
    nn_torch_rng rng;
    float x[3];
    nn_torch_seed(&rng, 0);
    nn_torch_rand(&rng, x, 3);
    near_all(x, (double[]){ 0.49625659, 0.76822180, 0.08847743 }, 3, 1e-8);
}

static void test_torch_randn_latent(void **state)
{
    (void)state;
    enum { N = 4 * 64 * 64 };
    static float x[N];
    static const struct {
        uint64_t seed;
        double first[8], last[2], sum, sum_abs;
    } rows[] = { { 0,
                   { -1.12583983, -1.15236020, -0.25057858, -0.43387881, 0.84871036, 0.69200915,
                     -0.31601277, -2.11521935 },
                   { -1.36646974, -1.07820797 },
                   -124.1127,
                   13111.5336 },
                 { 42,
                   { 1.92691529, 1.48728406, 0.90071720, -2.10552096, 0.67841846, -1.23454487,
                     -0.04306748, -1.60466695 },
                   { 0.97280973, -0.29340610 },
                   149.7648,
                   13158.0692 },
                 { 1234,
                   { -0.11171857, -0.49659011, 0.16307370, -0.88168776, 0.05390019, 0.66837370,
                     -0.05965761, -0.46749794 },
                   { 0.54430950, 1.57986307 },
                   -6.5699,
                   13222.9082 } };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        nn_torch_rng rng;
        nn_torch_seed(&rng, rows[r].seed);
        nn_torch_randn(&rng, x, N);
        near_all(x, rows[r].first, 8, 4e-7);
        near_all(x + N - 2, rows[r].last, 2, 4e-7);
        double sum = 0, sum_abs = 0;
        for (int i = 0; i < N; i++) {
            sum += (double)x[i];
            sum_abs += fabs((double)x[i]);
        }
        near(sum, rows[r].sum, 1e-3);
        near(sum_abs, rows[r].sum_abs, 1e-3);
    }
}

static void test_torch_randn_small(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        double x[4];
    } rows[] = { { 0, { 1.54099607, -0.29342890, -2.17878938, 0.56843126 } },
                 { 42, { 0.33669037, 0.12880941, 0.23446237, 0.23033303 } },
                 { 1234, { 0.04613046, 0.40240282, -1.01152909, 0.21673824 } } };
    nn_torch_rng rng;
    float x[17];
    for (int r = 0; r < NN_COUNT(rows); r++) {
        nn_torch_seed(&rng, rows[r].seed);
        nn_torch_randn(&rng, x, 4);
        near_all(x, rows[r].x, 4, 1e-8);
    }
    nn_torch_seed(&rng, 0); /* 16 and more leave the waiting number of a pair alone */
    nn_torch_randn(&rng, x, 3);
    near_all(x, (double[]){ 1.5409961, -0.2934289, -2.1787894 }, 3, 1e-7);
    nn_torch_randn(&rng, x, 16);
    near_all(x, (double[]){ -0.3561284, 0.4372227, 0.4913050 }, 3, 4e-7);
    nn_torch_randn(&rng, x, 2);
    near_all(x, (double[]){ 0.5684313, -0.8566747 }, 2, 1e-7);
    nn_torch_seed(&rng, 0);
    nn_torch_randn(&rng, x, 17);
    near_all(x, (double[]){ -1.1258398, -1.6959312, 0.5666506 }, 3, 4e-7);
    near_all(x + 14, (double[]){ 0.9462984, -0.8436767, 0.9318266 }, 3, 4e-7);
}

static void test_torch_cuda_randn(void **state)
{
    (void)state;
    enum { N = 16384, THREADS = 108 * 2048 };
    static float x[N];
    nn_torch_cuda_rng rng = { .seed = 0, .max_threads = THREADS };
    nn_torch_cuda_randn(&rng, x, N);
    near_all(x,
             (double[]){ -0.9246624, -0.4253439, -2.6438458, 0.1451839, -0.1208666, -0.5797257,
                         -0.6228516, -0.3283871, -1.0745417, -0.3631440, -1.6710502, 2.2655048 },
             12, 1e-6);
    assert_int_equal(rng.offset, 4);
    rng = (nn_torch_cuda_rng){ .seed = 42, .max_threads = THREADS };
    nn_torch_cuda_randn(&rng, x, N);
    near_all(x, (double[]){ 0.1940189, 2.1613741, -0.1720506, 0.8490601 }, 4, 1e-6);
    near((double)x[16383], 0.0829886, 1e-6);
    nn_torch_cuda_randn(&rng, x, N);
    near_all(x, (double[]){ 0.1391376, -0.1082158 }, 2, 1e-6);
    rng = (nn_torch_cuda_rng){ .seed = 1234, .max_threads = THREADS };
    nn_torch_cuda_randn(&rng, x, 4);
    near_all(x, (double[]){ -1.6164905, 0.5684552, -0.5102247, -0.9113394 }, 4, 1e-6);
}

/* A device of one block: each thread writes every 256th number, four per draw. */
static void test_torch_cuda_grid(void **state)
{
    (void)state;
    static float x[3000], y[256];
    nn_torch_cuda_rng small = { .seed = 9, .max_threads = 256 },
                      large = { .seed = 9, .max_threads = 1 << 20 };
    nn_torch_cuda_randn(&small, x, 3000);
    assert_int_equal(small.offset, 4 * 3);    /* 1024 numbers a round */
    for (int round = 0; round < 3; round++) { /* the first of each four is what a wide grid draws */
        nn_torch_cuda_randn(&large, y, 256);
        assert_memory_equal(x + 1024 * round, y, 256 * sizeof(float));
    }
    double mean, variance;
    moments(x, 3000, &mean, &variance);
    near(mean, 0, 0.08);
    near(variance, 1, 0.11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_streams_are_functions_of_their_key),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_uniform_and_normal),
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_torch_integers),
        cmocka_unit_test(test_torch_rand),
        cmocka_unit_test(test_torch_randn_latent),
        cmocka_unit_test(test_torch_randn_small),
        cmocka_unit_test(test_torch_cuda_randn),
        cmocka_unit_test(test_torch_cuda_grid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
