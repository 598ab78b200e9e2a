/* Samplers against exact solutions and against each other; their limits, memory and guidance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
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

/* noise / signal before call i of a sampler of one or two numbers, as add_noise shows it. */
static double level(const nn_sampler *s, int i)
{
    const float zero[2] = { 0 }, one[2] = { 1, 1 };
    float signal[2], noise[2];
    nn_sampler_add_noise(s, i, one, zero, signal);
    nn_sampler_add_noise(s, i, zero, one, noise);
    return (double)(noise[0] / signal[0]);
}

/* A denoiser of n numbers. */
typedef void toy_model(const float *x, float t, int n, float *out);

/* Run all steps. Noise comes from torch's generator. */
static void run(nn_sampler *s, toy_model *model, int n, float *x, nn_torch_rng *rng)
{
    float input[256], output[256], noise[256];
    assert_true(n <= 256);
    for (int i = 0; i < nn_sampler_calls(s); i++) {
        nn_sampler_scale_input(s, i, x, input);
        model(input, nn_sampler_timestep(s, i), n, output);
        bool needs = nn_sampler_needs_noise(s, i);
        if (needs) nn_torch_randn(rng, noise, n);
        nn_sampler_step(s, i, output, x, needs ? noise : NULL);
    }
}

/* One model in its three ways of speaking: it believes x0 = 0.4 tanh(x) at every level. */
static nn_prediction speaks;
static const nn_noise_schedule *knows;

static void three_tongues(const float *x, float t, int n, float *out)
{
    const int low = (int)t, high = low < 999 ? low + 1 : low;
    const double s0 = log(1 / (double)knows->alpha_bar[low] - 1) / 2;
    const double s1 = log(1 / (double)knows->alpha_bar[high] - 1) / 2;
    const double sigma = exp(s0 + ((double)t - low) * (s1 - s0));
    const float signal = (float)(1 / sqrt(sigma * sigma + 1)), noise = signal * (float)sigma;
    for (int i = 0; i < n; i++) {
        float x0 = 0.4f * tanhf(x[i]), eps = (x[i] - signal * x0) / noise;
        out[i] = speaks == NN_PREDICT_EPSILON ? eps
                 : speaks == NN_PREDICT_V     ? signal * eps - noise * x0
                                              : x0;
    }
}

static void test_prediction_types(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    knows = &schedule;
    const char *name;
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        /* Whole timesteps for all: the model looks its noise level up. */
        nn_sampler_options o = { .spacing = NN_SPACING_LEADING };
        float x[3][4];
        for (speaks = NN_PREDICT_EPSILON; speaks <= NN_PREDICT_SAMPLE; speaks++) {
            schedule.config.prediction = speaks;
            nn_sampler *s;
            nn_status status = nn_sampler_create(name, &o, &schedule, 20, 4, &s);
            if (!strcmp(name, "pndm") && speaks != NN_PREDICT_EPSILON) {
                /* pndm combines outputs before it reads them: another rule per tongue */
                assert_int_equal(status, speaks == NN_PREDICT_V ? NN_OK : NN_ARGUMENT);
                memcpy(x[speaks], x[0], sizeof x[0]);
                nn_sampler_destroy(s);
                continue;
            }
            OK(status);
            nn_torch_rng rng;
            nn_torch_seed(&rng, 1);
            for (int i = 0; i < 4; i++)
                x[speaks][i] = (float)(i - 1) * nn_sampler_init_noise_sigma(s);
            run(s, three_tongues, 4, x[speaks], &rng);
            nn_sampler_destroy(s);
        }
        for (int i = 0; i < 4; i++) {
            near((double)x[NN_PREDICT_V][i], (double)x[NN_PREDICT_EPSILON][i], 1e-4);
            near((double)x[NN_PREDICT_SAMPLE][i], (double)x[NN_PREDICT_EPSILON][i], 1e-4);
        }
    }
    nn_noise_schedule_deinit(&schedule);
}

/* Data N(0, 0.5^2): the best denoiser is linear, and the exact flow only scales. In units of
 * x0 + sigma eps the map from sigma to 0 is x 0.5 / sqrt(0.25 + sigma^2). */
static void gaussian(const float *x, float t, int n, float *out)
{
    const int low = (int)t, high = low < 999 ? low + 1 : low;
    const double s0 = sqrt(1 / (double)knows->alpha_bar[low] - 1);
    const double s1 = sqrt(1 / (double)knows->alpha_bar[high] - 1);
    const double sigma = s0 + ((double)t - low) * (s1 - s0), a = 1 / (sigma * sigma + 1);
    for (int i = 0; i < n; i++) out[i] = (float)((double)x[i] * sqrt(1 - a) / (0.25 * a + 1 - a));
}

/* Relative error of the sampled flow. jumps: the last step goes to the denoiser's x0 at once, as
 * Euler's does, instead of following the flow. */
static double flow_error(const char *name, bool karras, bool jumps, int n_steps)
{
    nn_noise_schedule schedule = sd14(1);
    knows = &schedule;
    nn_sampler *s;
    OK(nn_sampler_create(name, &(nn_sampler_options){ .karras = karras }, &schedule, n_steps, 1,
                         &s));
    const double most = level(s, 0), least = level(s, nn_sampler_calls(s) - 1);
    const float zero = 0, one = 1;
    float x;
    nn_sampler_add_noise(s, 0, &zero, &one, &x);
    run(s, gaussian, 1, &x, NULL);
    nn_sampler_destroy(s);
    nn_noise_schedule_deinit(&schedule);
    double exact = most * 0.5 / sqrt(0.25 + most * most);
    if (jumps) exact *= 0.5 / sqrt(0.25 + least * least);
    return fabs((double)x / exact - 1);
}

static void test_exact_flow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool karras, jumps;
        double most;
    } rows[] = { { "euler", false, true, 0.08 },    { "ddim", false, false, 0.08 },
                 { "pndm", false, false, 0.01 },    { "heun", false, true, 0.005 },
                 { "heun", true, true, 0.005 },     { "lms", false, false, 0.002 },
                 { "lms", true, false, 0.002 },     { "dpmpp_2m", false, true, 0.005 },
                 { "dpmpp_2m", true, true, 0.005 }, { "unipc", false, true, 0.005 },
                 { "unipc", true, true, 0.002 } };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        double error = flow_error(rows[r].name, rows[r].karras, rows[r].jumps, 40);
        if (error > rows[r].most)
            fail_msg("%s%s: %g", rows[r].name, rows[r].karras ? " Karras" : "", error);
    }
}

/* Half the step is 1/2, 1/4, ... of the error. */
static void test_orders(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double factor;
    } rows[] = { { "euler", 2 }, { "heun", 4 }, { "dpmpp_2m", 4 } };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        double wide = flow_error(rows[r].name, true, true, 40);
        near(wide / flow_error(rows[r].name, true, true, 80), rows[r].factor, 0.2 * rows[r].factor);
    }
}

static bool draws_noise(const char *name)
{
    static const char *const names[] = { "ddpm", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde" };
    for (int k = 0; k < NN_COUNT(names); k++)
        if (!strcmp(name, names[k])) return true;
    return false;
}

/* Starting in the middle needs no past: all families still reach the data from there. */
static void test_start_from_a_picture(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    knows = &schedule;
    const char *name;
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        nn_sampler_options o = { .spacing = NN_SPACING_LEADING };
        nn_sampler *s;
        double exact = 0;
        OK(nn_sampler_create(name, &o, &schedule, 50, 1, &s));
        float ends[2];
        for (int pass = 0; pass < 2; pass++) { /* the second one must not see the first */
            const float x0 = 0.5f, eps = 0.1f;
            float x, input, output, noise = 0;
            nn_sampler_restart(s, 20);
            nn_sampler_add_noise(s, 20, &x0, &eps, &x);
            const double variance = 1 / (double)schedule.alpha_bar[(int)nn_sampler_timestep(s, 20)];
            const double sigma = sqrt(variance - 1);
            exact = (0.5 + sigma * 0.1) * 0.5 / sqrt(0.25 + sigma * sigma);
            for (int i = 20; i < nn_sampler_calls(s); i++) {
                nn_sampler_scale_input(s, i, &x, &input);
                gaussian(&input, nn_sampler_timestep(s, i), 1, &output);
                nn_sampler_step(s, i, &output, &x, nn_sampler_needs_noise(s, i) ? &noise : NULL);
            }
            ends[pass] = x;
        }
        assert_true(ends[0] == ends[1]);
        if (!draws_noise(name))
            near((double)ends[0], exact, 0.15 * exact);
        else /* noise that is 0 lets them shrink */
            assert_true(ends[0] > 0.01f && (double)ends[0] < exact);
        nn_sampler_destroy(s);
    }
    nn_noise_schedule_deinit(&schedule);
}

static void test_one_step(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    knows = &schedule;
    const char *name;
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        nn_sampler *s;
        OK(nn_sampler_create(name, &(nn_sampler_options){ 0 }, &schedule, 1, 1, &s));
        assert_int_equal(nn_sampler_calls(s), 1);
        float x = 1;
        nn_torch_rng rng;
        nn_torch_seed(&rng, 1);
        run(s, gaussian, 1, &x, &rng);
        assert_true(isfinite(x));
        nn_sampler_destroy(s);
    }
    nn_noise_schedule_deinit(&schedule);
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    nn_noise_schedule c = sd14(1);
    const nn_sampler_options plain = { 0 }, karras = { .karras = true }, eta = { .eta = 1 };
    nn_sampler *s;
    assert_int_equal(nn_sampler_create("eular", &plain, &c, 10, 4, &s), NN_NOT_FOUND);
    assert_non_null(strstr(nn_error_message(), "'euler'"));
    assert_null(s);
    assert_int_equal(nn_sampler_create("ddim", &plain, &c, 0, 4, &s), NN_ARGUMENT);
    assert_int_equal(nn_sampler_create("ddim", &plain, &c, 1001, 4, &s), NN_ARGUMENT);
    assert_int_equal(nn_sampler_create("ddim", &plain, &c, 1000, 4, &s), NN_ARGUMENT); /* t 1000 */
    assert_int_equal(nn_sampler_create("ddim", &plain, &c, 10, 0, &s), NN_ARGUMENT);
    assert_int_equal(nn_sampler_create("ddim", &karras, &c, 10, 4, &s), NN_ARGUMENT);
    assert_int_equal(nn_sampler_create("euler", &eta, &c, 10, 4, &s), NN_ARGUMENT);
    assert_int_equal(nn_sampler_create("unipc", &plain, &c, 1000, 4, &s), NN_ARGUMENT); /* twins */
    assert_null(s);
    nn_noise_schedule_deinit(&c);
}

/* The options and the family that a file asks for; name "" = none. */
static nn_status parse(const char *text, nn_sampler_options *o, char name[64])
{
    nn_json json;
    const char *found = NULL;
    OK(nn_json_parse(text, (int64_t)strlen(text), "scheduler_config.json", &json));
    nn_status status = nn_sampler_options_parse(&json, o);
    if (status == NN_OK) status = nn_sampler_name_parse(&json, &found);
    snprintf(name, 64, "%s", found ? found : "");
    nn_json_close(&json);
    return status;
}

static void test_config(void **state)
{
    (void)state;
    nn_sampler_options o;
    char name[64];
    OK(parse("{\"_class_name\": \"PNDMScheduler\", \"steps_offset\": 1, \"skip_prk_steps\": true}",
             &o, name));
    assert_string_equal(name, "pndm");
    assert_int_equal(o.spacing, NN_SPACING_DEFAULT);
    assert_false(o.karras);
    OK(parse("{\"timestep_spacing\": \"trailing\", \"use_karras_sigmas\": true}", &o, name));
    assert_string_equal(name, "");
    assert_int_equal(o.spacing, NN_SPACING_TRAILING);
    assert_true(o.karras);
    OK(parse("{\"_class_name\": \"DPMSolverMultistepScheduler\", \"solver_order\": 2, "
             "\"algorithm_type\": \"sde-dpmsolver++\", \"solver_type\": \"midpoint\"}",
             &o, name));
    assert_string_equal(name, "dpmpp_2m_sde");
    OK(parse("{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": "
             "\"dpmsolver++\", \"final_sigmas_type\": \"zero\"}",
             &o, name));
    assert_string_equal(name, "dpmpp_2m");
}

static void test_wrong_config(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "{\"timestep_spacing\": \"log\"}", "'log'" },
        { "{\"_class_name\": \"EDMEulerScheduler\"}", "EDMEulerScheduler" },
        { "{\"_class_name\": \"PNDMScheduler\", \"skip_prk_steps\": false}", "skip_prk_steps" },
        { "{\"_class_name\": \"EulerDiscreteScheduler\", \"use_beta_sigmas\": true}",
          "use_beta_sigmas" },
        { "{\"_class_name\": \"UniPCMultistepScheduler\", \"solver_type\": \"bh1\"}", "'bh1'" },
        { "{\"_class_name\": \"UniPCMultistepScheduler\", \"solver_order\": 3}", "3" },
        { "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": "
          "\"dpmsolver\"}",
          "'dpmsolver'" },
        { "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"final_sigmas_type\": "
          "\"sigma_min\"}",
          "'sigma_min'" },
    };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        nn_sampler_options o;
        char name[64];
        assert_int_equal(parse(rows[r][0], &o, name), NN_UNSUPPORTED);
        assert_string_equal(name, "");
        assert_non_null(strstr(nn_error_message(), rows[r][1]));
        assert_non_null(strstr(nn_error_message(), "scheduler_config.json"));
    }
}

/* Step k begins with a call whose level is a new one; the steps between belong to it. */
static void test_calls_of_steps(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    const char *name;
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        nn_sampler *s;
        OK(nn_sampler_create(name, &(nn_sampler_options){ 0 }, &schedule, 7, 1, &s));
        assert_int_equal(nn_sampler_call_of_step(s, 0), 0);
        const bool doubled = !strcmp(name, "heun") || !strcmp(name, "dpmpp_sde");
        for (int step = 1; step < 7; step++) {
            int call = nn_sampler_call_of_step(s, step);
            assert_int_equal(call, doubled ? 2 * step : !strcmp(name, "pndm") ? step + 1 : step);
            assert_true(level(s, call) < level(s, nn_sampler_call_of_step(s, step - 1)));
        }
        assert_int_equal(nn_sampler_call_of_step(s, 6), nn_sampler_calls(s) - 1);
        nn_sampler_destroy(s);
    }
    nn_noise_schedule_deinit(&schedule);
}

/* A model that knows the clean latent is denoised to it, at every level and in every tongue. */
static void test_denoise(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    const char *name;
    for (int k = 0; (name = nn_sampler_name(k)); k++) {
        for (int p = NN_PREDICT_EPSILON; p <= NN_PREDICT_V; p++) {
            nn_sampler *s;
            schedule.config.prediction = (nn_prediction)p;
            OK(nn_sampler_create(name, &(nn_sampler_options){ 0 }, &schedule, 10, 2, &s));
            const float x0[] = { 0.3f, -1.5f }, noise[] = { 1.25f, 0.5f };
            for (int i = 0; i < nn_sampler_calls(s); i++) {
                float x[2], out[2];
                const double sigma = level(s, i), signal = 1 / sqrt(sigma * sigma + 1);
                for (int e = 0; e < 2; e++)
                    out[e] =
                        p == NN_PREDICT_V
                            ? (float)(signal * (double)noise[e] - signal * sigma * (double)x0[e])
                            : noise[e];
                nn_sampler_add_noise(s, i, x0, noise, x);
                nn_sampler_denoise(s, i, out, x, out);
                for (int e = 0; e < 2; e++) near((double)out[e], (double)x0[e], 1e-5);
            }
            nn_sampler_destroy(s);
        }
    }
    nn_noise_schedule_deinit(&schedule);
}

static void test_allocations(void **state)
{
    (void)state;
    nn_noise_schedule schedule = sd14(1);
    nn_sampler *s = NULL;
    int64_t k = 1;
    for (; !s && k < 100; k++) {
        nn_alloc_fail_at(k);
        nn_status status =
            nn_sampler_create("unipc", &(nn_sampler_options){ 0 }, &schedule, 10, 4, &s);
        nn_alloc_fail_at(0);
        assert_int_equal(status, s ? NN_OK : NN_MEMORY);
    }
    assert_in_range(k, 8, 20);
    int64_t before = nn_alloc_count();
    float x[4] = { 1, 2, 3, 4 };
    knows = &schedule;
    run(s, gaussian, 4, x, NULL);
    assert_int_equal(nn_alloc_count(), before);
    nn_sampler_destroy(s);
    nn_noise_schedule_deinit(&schedule);
}

static void test_guidance(void **state)
{
    (void)state;
    const float uncond[] = { 0, 1, 2, 5, 5, 5 }, cond[] = { 1, 1, 4, 5, 5, 5 };
    float out[6];
    nn_guide(uncond, cond, 7.5, 0, 2, 3, out);
    static const float want[] = { 7.5f, 1, 17, 5, 5, 5 };
    for (int i = 0; i < 6; i++) near((double)out[i], (double)want[i], 1e-6);
    /* std of cond is sqrt(3), of the result sqrt(64.75) */
    nn_guide(uncond, cond, 7.5, 0.7, 2, 3, out);
    const double factor = 0.7 * sqrt(3) / sqrt(64.75) + 0.3;
    for (int i = 0; i < 3; i++) near((double)out[i], factor * (double)want[i], 1e-5);
    for (int i = 3; i < 6; i++) near((double)out[i], 5, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prediction_types), cmocka_unit_test(test_exact_flow),
        cmocka_unit_test(test_orders),           cmocka_unit_test(test_start_from_a_picture),
        cmocka_unit_test(test_one_step),         cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_config),           cmocka_unit_test(test_wrong_config),
        cmocka_unit_test(test_calls_of_steps),   cmocka_unit_test(test_denoise),
        cmocka_unit_test(test_allocations),      cmocka_unit_test(test_guidance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
