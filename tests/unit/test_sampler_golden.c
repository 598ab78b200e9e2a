/* Samplers against numbers of diffusers 0.42: tables, results and whole trajectories of two toy
 * models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/rng.h"
#include "models/sampler.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g is not %.9g", got, want);
}

static nn_noise_schedule sd14(int steps_offset)
{
    nn_noise_config c = nn_noise_config_sd14();
    c.steps_offset = steps_offset;
    nn_noise_schedule s;
    OK(nn_noise_schedule_init(&s, &c));
    return s;
}

/* noise / signal before call i, as add_noise shows it. */
static double level(const nn_sampler *s, int i)
{
    const float zero = 0, one = 1;
    float signal, noise;
    nn_sampler_add_noise(s, i, &one, &zero, &signal);
    nn_sampler_add_noise(s, i, &zero, &one, &noise);
    return (double)(noise / signal);
}

/* A denoiser of n numbers. */
typedef void toy_model(const float *x, float t, int n, float *out);

/* Run all steps; first[i] gets x[0] after call i. Noise comes from torch's generator. */
static void run(nn_sampler *s, toy_model *model, int n, float *x, nn_torch_rng *rng, float *first)
{
    float input[256], output[256], noise[256];
    assert_true(n <= 256);
    for (int i = 0; i < nn_sampler_calls(s); i++) {
        nn_sampler_scale_input(s, i, x, input);
        model(input, nn_sampler_timestep(s, i), n, output);
        bool needs = nn_sampler_needs_noise(s, i);
        if (needs) nn_torch_randn(rng, noise, n);
        nn_sampler_step(s, i, output, x, needs ? noise : NULL);
        if (first) first[i] = x[0];
    }
}

static void sine_model(const float *x, float t, int n, float *out)
{
    static const float sign[] = { 1, -1, 0.5f, 2 };
    for (int i = 0; i < n; i++) out[i] = 0.3f * x[i] + 0.7f * sinf(0.01f * t) * sign[i % 4];
}

static const struct golden {
    const char *name;
    int n_steps, steps_offset;
    nn_sampler_options o;
    double x[4];
} golden[] = {
    { "ddim", 10, 1, { 0 }, { 0.5689983, -3.5072176, 7.1403484, -2.3878684 } },
    { "ddim", 50, 1, { 0 }, { 1.3506124, -5.1559682, 9.5544739, -1.865203 } },
    { "ddim", 10, 1, { .eta = 1 }, { 4.2824788, -2.6960378, 7.7040048, -1.5576468 } },
    { "ddpm", 10, 1, { 0 }, { 4.2548661, -2.6870675, 7.6609263, -1.5299853 } },
    { "ddpm", 10, 0, { 0 }, { 4.2603202, -2.6668427, 7.6585298, -1.543491 } },
    { "pndm", 10, 1, { 0 }, { 0.3481015, -3.0644486, 6.5121932, -2.5634131 } },
    { "pndm", 50, 1, { 0 }, { 1.1959144, -4.9268737, 9.3035364, -2.0853243 } },
    { "euler", 10, 1, { 0 }, { 2.7728558, -7.217917, 11.7582369, 0.2116404 } },
    { "euler",
      10,
      1,
      { .spacing = NN_SPACING_LEADING },
      { 0.5640403, -3.4777169, 7.0805998, -2.3683319 } },
    { "euler", 10, 1, { .karras = true }, { 2.5503557, -7.0594702, 11.7964439, -0.310226 } },
    { "euler_ancestral", 10, 1, { 0 }, { 6.8277917, -5.3314362, 11.2546158, 0.9439626 } },
    { "heun", 10, 1, { 0 }, { 1.3908714, -5.27107, 9.7492342, -1.8744967 } },
    { "heun", 10, 1, { .karras = true }, { 1.4988451, -5.372756, 9.7885475, -1.6510022 } },
    { "heun", 20, 1, { 0 }, { 1.5169039, -5.4765563, 9.9976397, -1.7177757 } },
    { "lms", 10, 1, { 0 }, { 2.5538609, -6.7698536, 11.1142464, 0.048533 } },
    { "lms", 10, 1, { .karras = true }, { 2.1508918, -6.3203931, 10.8042812, -0.7016182 } },
    { "lms", 20, 1, { 0 }, { 1.8722349, -5.9090242, 10.3552933, -1.0996774 } },
    { "dpmpp_2m", 10, 1, { 0 }, { 1.7627765, -5.8260527, 10.3623657, -1.3503782 } },
    { "dpmpp_2m", 20, 1, { 0 }, { 1.5820328, -5.587419, 10.1369133, -1.642396 } },
    { "dpmpp_2m", 10, 1, { .karras = true }, { 1.4836648, -5.3566947, 9.7789068, -1.6803075 } },
    { "dpmpp_2m", 20, 1, { .karras = true }, { 1.5504636, -5.5202284, 10.0380135, -1.6627904 } },
    { "dpmpp_2m",
      10,
      1,
      { .spacing = NN_SPACING_LEADING },
      { 0.4345239, -3.1735601, 6.6083455, -2.4177957 } },
    { "dpmpp_2m_sde", 10, 1, { 0 }, { 6.7708898, -3.6419091, 9.380887, -0.2707924 } },
    { "dpmpp_2m_sde", 10, 1, { .karras = true }, { 5.8961978, -3.2950194, 8.000205, 0.67906 } },
    { "dpmpp_2m_sde", 20, 1, { 0 }, { 5.6681495, -3.0923095, 8.7346039, -0.9873589 } },
    /* the Brownian path replaced by one that is drawn call by call */
    { "dpmpp_sde", 10, 1, { 0 }, { 5.4797435, -3.761687, 10.721735, -1.5835946 } },
    { "dpmpp_sde", 10, 1, { .karras = true }, { 5.9298515, -4.1806321, 10.9404936, -0.4210887 } },
    { "dpmpp_sde", 20, 1, { 0 }, { 5.9806242, -3.2090983, 7.5684652, -1.990018 } },
    { "unipc", 10, 1, { 0 }, { 1.5837696, -5.6004596, 10.1641579, -1.6524887 } },
    { "unipc", 20, 1, { 0 }, { 1.5375348, -5.5279884, 10.0798254, -1.7134759 } },
    { "unipc", 10, 1, { .karras = true }, { 1.5419918, -5.4622531, 9.918273, -1.6203296 } },
};

static void sample_four(const struct golden *g, float *x, float *first)
{
    nn_noise_schedule schedule = sd14(g->steps_offset);
    nn_sampler *s;
    nn_torch_rng rng;
    nn_torch_seed(&rng, 7);
    OK(nn_sampler_create(g->name, &g->o, &schedule, g->n_steps, 4, &s));
    static const float start[] = { 0.5f, -1.25f, 2.0f, 0.1f };
    for (int i = 0; i < 4; i++) x[i] = start[i] * nn_sampler_init_noise_sigma(s);
    run(s, sine_model, 4, x, &rng, first);
    nn_sampler_destroy(s);
    nn_noise_schedule_deinit(&schedule);
}

static void test_golden(void **state)
{
    (void)state;
    for (int g = 0; g < NN_COUNT(golden); g++) {
        float x[4];
        sample_four(&golden[g], x, NULL);
        for (int i = 0; i < 4; i++)
            if (fabs((double)x[i] - golden[g].x[i]) > 2e-5)
                fail_msg("row %d, %s %d: x[%d] is %.7f, not %.7f", g, golden[g].name,
                         golden[g].n_steps, i, (double)x[i], golden[g].x[i]);
    }
}

static void test_first_steps(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double first[4];
    } rows[] = { { "ddim", { .5387279, .3702999, .2742125, .3971072 } },
                 { "pndm", { .5387279, .4076832, .0966139, .1172146 } },
                 { "euler", { 8.8334875, 6.5782452, 4.6913042, 4.0002475 } },
                 { "dpmpp_2m", { 1.0455916, 1.0852588, .961656, 1.0530661 } },
                 { "unipc", { 1.0455916, .9086614, .7495977, .9520844 } } };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        struct golden g = { .name = rows[r].name, .n_steps = 10, .steps_offset = 1 };
        float x[4], first[16];
        sample_four(&g, x, first);
        for (int i = 0; i < 4; i++) near((double)first[i], rows[r].first[i], 5e-6);
    }
}

/* A published table: timesteps, and noise levels as add_noise shows them. */
static void check_table(const char *name, nn_sampler_options o, const double *t,
                        const double *sigma)
{
    nn_noise_schedule schedule = sd14(1);
    nn_sampler *s;
    OK(nn_sampler_create(name, &o, &schedule, 10, 1, &s));
    assert_int_equal(nn_sampler_calls(s), 10);
    for (int i = 0; i < 10; i++) {
        near((double)nn_sampler_timestep(s, i), t[i], 2e-4);
        if (sigma) near(level(s, i), sigma[i], 3e-6);
    }
    nn_sampler_destroy(s);
    nn_noise_schedule_deinit(&schedule);
}

static void test_tables(void **state)
{
    (void)state;
    const nn_sampler_options plain = { 0 }, karras = { .karras = true };
    check_table("euler", plain, (double[]){ 999, 888, 777, 666, 555, 444, 333, 222, 111, 0 },
                (double[]){ 14.614645, 7.8398848, 4.6091757, 2.9183083, 1.9501623, 1.3449283,
                            .9323583, .6249773, .3686585, .0291675 });
    check_table("euler", karras,
                (double[]){ 999, 916.283997, 815.044922, 687.153259, 523.198914, 327.147217,
                            145.939026, 40.856873, 6.732409, 0 },
                (double[]){ 14.614645, 9.1029358, 5.4784007, 3.1686108, 1.7494229, .9140764,
                            .4469209, .2013998, .081911, .0291675 });
    check_table("dpmpp_2m", plain, (double[]){ 999, 899, 799, 699, 599, 500, 400, 300, 200, 100 },
                (double[]){ 14.614645, 8.3028049, 5.0877652, 3.3210843, 2.2764637, 1.6182796,
                            1.1643916, .8327532, .5716664, .3439318 });
    check_table("unipc", karras, (double[]){ 999, 916, 815, 687, 523, 327, 146, 41, 7, 0 }, NULL);
    check_table("ddim", plain, (double[]){ 901, 801, 701, 601, 501, 401, 301, 201, 101, 1 }, NULL);
    check_table("dpmpp_2m", (nn_sampler_options){ .spacing = NN_SPACING_LEADING },
                (double[]){ 901, 811, 721, 631, 541, 451, 361, 271, 181, 91 }, NULL);
    check_table("euler", (nn_sampler_options){ .spacing = NN_SPACING_TRAILING },
                (double[]){ 999, 899, 799, 699, 599, 499, 399, 299, 199, 99 }, NULL);
    check_table("ddim", (nn_sampler_options){ .spacing = NN_SPACING_LINSPACE },
                (double[]){ 999, 888, 777, 666, 555, 444, 333, 222, 111, 0 }, NULL);
}

static void test_pndm_table(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    nn_sampler *s;
    OK(nn_sampler_create("PNDMScheduler", &(nn_sampler_options){ 0 }, &schedule, 50, 1, &s));
    assert_int_equal(nn_sampler_calls(s), 51);
    static const double first[] = { 981, 961, 961, 941, 921 };
    for (int i = 0; i < 5; i++) near((double)nn_sampler_timestep(s, i), first[i], 0);
    near((double)nn_sampler_timestep(s, 50), 1, 0);
    nn_sampler_destroy(s);
    nn_noise_schedule_deinit(&schedule);
}

/* A latent of 256 numbers: u in [-1, 1) from the hash of a name, times sqrt(3). */
static void fill(const char *name, float *out)
{
    const uint64_t seed = nn_hash_text(name);
    for (uint64_t i = 0; i < 256; i++)
        out[i] = ((float)(nn_mix(seed, i) >> 40) * 0x1p-23f - 1) * 1.7320508f;
}

static void wave_model(const float *x, float t, int n, float *out)
{
    for (int i = 0; i < n; i++) out[i] = 0.2f * x[i] * cosf(0.013f * t) + 0.15f * sinf(x[i]);
}

/* mean, std and max abs of the result; its elements 0, 1, 85, 128, 155, 255; x[0] after each call.
 */
static const struct trajectory {
    const char *name;
    int n_steps;
    bool karras;
    double mean, std, most, at[6], first[51];
} trajectories[] = {
    { "ddim",
      50,
      false,
      0.0782022,
      11.8035,
      20.9101,
      { 7.31909, -16.5176, -6.84045, -6.63381, -8.85351, -4.1093 },
      { 0.7393681, 0.7976368, 0.859612, 0.9266583, 1.00024,  1.081842, 1.172886, 1.274654, 1.388192,
        1.514224,  1.653057,  1.804496, 1.967778,  2.141548, 2.323879, 2.512358, 2.704238, 2.896651,
        3.086858,  3.272508,  3.451874, 3.624019,  3.788872, 3.947211, 4.100538, 4.2509,   4.400657,
        4.552238,  4.707909,  4.869568, 5.038571,  5.215597, 5.400562, 5.592573, 5.789936, 5.990212,
        6.19033,   6.386746,  6.575649, 6.75319,   6.915712, 7.059975, 7.18332,  7.283752, 7.35988,
        7.410601,  7.434134,  7.424542, 7.335343,  7.319087 } },
    { "ddim",
      20,
      false,
      0.0646495,
      10.1769,
      18.0506,
      { 6.39581, -14.1416, -5.97309, -5.78755, -7.68177, -3.52628 },
      { 0.8244943, 0.9958126, 1.216638, 1.500604, 1.848872, 2.245122, 2.657444,
        3.05074,   3.404928,  3.726034, 4.041061, 4.381066, 4.763875, 5.18355,
        5.608718,  5.990815,  6.280589, 6.442981, 6.408861, 6.395812 } },
    { "pndm",
      50,
      false,
      0.0803129,
      11.912,
      21.1139,
      { 7.36376, -16.6898, -6.87944, -6.67081, -8.92712, -4.12547 },
      { 0.7393681, 0.738169, 0.7951995, 0.8569204, 0.9244269, 0.9991908, 1.08269,  1.176347,
        1.281407,  1.398852, 1.529292,  1.672866,  1.829154,  1.997122,  2.17511,  2.360887,
        2.551781,  2.744876, 2.937259,  3.126306,  3.309928,  3.486788,  3.656405, 3.819182,
        3.976315,  4.129641, 4.281416,  4.43409,   4.590059,  4.751451,  4.919931, 5.096544,
        5.281599,  5.474594, 5.674198,  5.878277,  6.083988,  6.287916,  6.486268, 6.675102,
        6.850572,  7.009168, 7.147932,  7.264604,  7.357669,  7.426263,  7.469804, 7.487004,
        7.472363,  7.379622, 7.363756 } },
    { "euler",
      30,
      false,
      0.0801656,
      12.7307,
      22.6444,
      { 7.86709, -17.8511, -7.3474, -7.12566, -9.5585, -4.47711 },
      { 9.400017, 8.846261, 8.388154, 8.057931, 7.863744, 7.795228, 7.828926, 7.932572,
        8.069,    8.200684, 8.2953,   8.33148,  8.303032, 8.219648, 8.103288, 7.981506,
        7.880351, 7.819056, 7.807387, 7.84523,  7.923689, 8.027164, 8.136071, 8.230001,
        8.290857, 8.305318, 8.265427, 8.163761, 7.917627, 7.867092 } },
    { "euler",
      30,
      true,
      0.0800788,
      12.6688,
      22.5555,
      { 7.81297, -17.772, -7.29629, -7.07555, -9.49129, -4.44028 },
      { 9.562796, 9.127422, 8.712538, 8.346787, 8.056755, 7.863962, 7.781549, 7.810013,
        7.931535, 8.10402,  8.26018,  8.322401, 8.242722, 8.052147, 7.864084, 7.798046,
        7.887063, 8.059962, 8.208849, 8.271311, 8.252443, 8.189604, 8.115553, 8.047305,
        7.990444, 7.945229, 7.910146, 7.883362, 7.863193, 7.812967 } },
    { "euler_ancestral",
      20,
      false,
      0.724033,
      16.0947,
      42.2788,
      { 5.18812, 1.21649, -5.91795, -19.37, 0.193223, -9.75457 },
      { 13.8258,  7.369951, 11.80154, 7.100259, 3.414731, 1.845613, 3.028593,
        2.730263, 4.082349, 4.691495, 4.6789,   4.212851, 4.9583,   5.38908,
        5.060602, 5.150676, 5.195402, 5.322628, 5.214683, 5.188116 } },
    { "dpmpp_2m",
      25,
      false,
      0.0822192,
      12.8909,
      22.9703,
      { 7.93621, -18.0852, -7.40384, -7.17797, -9.68135, -4.50836 },
      { 0.8061281, 0.9327942, 1.083413, 1.272311, 1.511649, 1.809181, 2.164962, 2.568425, 2.998071,
        3.426028,  3.827512,  4.191117, 4.515483, 4.836544, 5.169838, 5.534804, 5.939305, 6.376574,
        6.825257,  7.252864,  7.622294, 7.899944, 8.061704, 8.085995, 7.936215 } },
    { "dpmpp_2m",
      25,
      true,
      0.0818432,
      12.8825,
      22.9552,
      { 7.93418, -18.0812, -7.4026, -7.17652, -9.66713, -4.49459 },
      { 0.7710627, 0.8660965, 0.9806797, 1.12755,  1.326192, 1.600397, 1.978976, 2.482912, 3.102697,
        3.772234,  4.394136,  4.951095,  5.573776, 6.353268, 7.160139, 7.755576, 8.048461, 8.132542,
        8.128376,  8.097786,  8.06249,   8.030048, 8.002931, 7.981684, 7.934178 } },
    { "unipc",
      20,
      false,
      0.0828701,
      12.946,
      23.0748,
      { 7.968, -18.1623, -7.43152, -7.20412, -9.72864, -4.52323 },
      { 0.8401482, 0.9993052, 1.217682, 1.515351, 1.904028, 2.379145, 2.909045,
        3.440449,  3.925772,  4.346902, 4.751195, 5.175054, 5.651883, 6.186699,
        6.750913,  7.286972,  7.725094, 8.006186, 8.088174, 7.968 } },
};

static void check_latent(const struct trajectory *want, const float *x)
{
    static const int at[] = { 0, 1, 85, 128, 155, 255 };
    double mean = 0, square = 0, most = 0;
    for (int i = 0; i < 256; i++) {
        mean += (double)x[i] / 256;
        square += (double)x[i] * (double)x[i] / 256;
        most = fmax(most, fabs((double)x[i]));
    }
    near(mean, want->mean, 1e-4);
    near(sqrt(square - mean * mean), want->std, 1e-4);
    near(most, want->most, 1e-4);
    for (int i = 0; i < 6; i++) near((double)x[at[i]], want->at[i], 1e-4);
}

static void test_trajectories(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    for (int k = 0; k < NN_COUNT(trajectories); k++) {
        const struct trajectory *want = &trajectories[k];
        nn_sampler *s;
        nn_sampler_options o = { .karras = want->karras };
        OK(nn_sampler_create(want->name, &o, &schedule, want->n_steps, 256, &s));
        float x[256], input[256], output[256], noise[256];
        fill("st_xT", x);
        for (int i = 0; i < 256; i++) x[i] *= nn_sampler_init_noise_sigma(s);
        for (int i = 0; i < nn_sampler_calls(s); i++) {
            char name[16];
            snprintf(name, sizeof name, "st_z_%d", i);
            fill(name, noise);
            nn_sampler_scale_input(s, i, x, input);
            wave_model(input, nn_sampler_timestep(s, i), 256, output);
            nn_sampler_step(s, i, output, x, nn_sampler_needs_noise(s, i) ? noise : NULL);
            near((double)x[0], want->first[i], 1e-4);
        }
        check_latent(want, x);
        nn_sampler_destroy(s);
    }
    nn_noise_schedule_deinit(&schedule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_first_steps),
        cmocka_unit_test(test_tables),       cmocka_unit_test(test_pndm_table),
        cmocka_unit_test(test_trajectories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
