/* Noise schedules: torch's bits, the training targets and weights, configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "models/diffusion.h"

#define OK(expr) assert_int_equal((expr), NN_OK)

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g is not %.9g", got, want);
}

static nn_noise_schedule make(nn_noise_config c)
{
    nn_noise_schedule s;
    OK(nn_noise_schedule_init(&s, &c));
    return s;
}

static void test_sd14_is_torch_bit_for_bit(void **state)
{
    (void)state;
    static const struct {
        int t;
        double alpha_bar;
    } rows[] = { { 0, 0.9991499781608582 },     { 1, 0.9982960224151611 },
                 { 21, 0.980380654335022 },     { 250, 0.67379230260849 },
                 { 500, 0.27633246779441833 },  { 749, 0.05662344768643379 },
                 { 981, 0.005775495897978544 }, { 999, 0.00466009508818388 } };
    nn_noise_schedule s = make(nn_noise_config_sd14());
    for (int r = 0; r < NN_COUNT(rows); r++)
        assert_true(s.alpha_bar[rows[r].t] == (float)rows[r].alpha_bar);
    assert_true(s.beta[0] == (float)0.0008499999530613422);
    assert_true(s.beta[1] == (float)0.0008546985918655992);
    assert_true(s.beta[500] == (float)0.004814953543245792);
    assert_true(s.beta[999] == (float)0.011999999172985554);
    assert_true(nn_hash(0, s.alpha_bar, 4000) == 0x552efb731a320022u);
    near(sqrt(1 / nn_noise_schedule_snr(&s, 0)), 0.0291675, 1e-7);
    near(sqrt(1 / nn_noise_schedule_snr(&s, 999)), 14.614647, 2e-6);
    nn_noise_schedule_deinit(&s);
}

static void test_linear(void **state)
{
    (void)state;
    nn_noise_config c = nn_noise_config_sd14();
    c.beta_schedule = NN_BETA_LINEAR;
    c.beta_start = 1e-4;
    c.beta_end = 0.02;
    nn_noise_schedule s = make(c);
    double product = 1;
    for (int i = 0; i < 1000; i++) {
        double beta = 1e-4 + (0.02 - 1e-4) * i / 999;
        product *= 1 - beta;
        near((double)s.beta[i], beta, 2e-9);
        near((double)s.alpha_bar[i], product, 1e-6 * product);
    }
    nn_noise_schedule_deinit(&s);
}

/* Nichol & Dhariwal: alpha_bar(t) = f(t) / f(0), f = cos^2((t + 0.008) / 1.008 pi / 2), until the
 * cap of beta. */
static void test_cosine(void **state)
{
    (void)state;
    nn_noise_config c = nn_noise_config_sd14();
    c.beta_schedule = NN_BETA_COSINE;
    nn_noise_schedule s = make(c);
    const double half_pi = acos(0), first = pow(cos(0.008 / 1.008 * half_pi), 2);
    for (int i = 0; i < 990; i++) {
        double f = pow(cos(((i + 1) / 1000.0 + 0.008) / 1.008 * half_pi), 2);
        near((double)s.alpha_bar[i], f / first, 1e-5);
    }
    assert_true(s.beta[999] == 0.999f);
    near((double)s.beta[0], 4.12842248e-05, 1e-11);
    nn_noise_schedule_deinit(&s);
}

static void test_add_and_targets(void **state)
{
    (void)state;
    nn_noise_config c = nn_noise_config_sd14();
    const float x0[] = { 1, -2, 0.5f }, noise[] = { 0.25f, 3, -1 };
    for (int p = NN_PREDICT_EPSILON; p <= NN_PREDICT_SAMPLE; p++) {
        c.prediction = (nn_prediction)p;
        nn_noise_schedule s = make(c);
        const double a = (double)s.alpha_bar[250], signal = sqrt(a), level = sqrt(1 - a);
        float x[3], target[3];
        nn_noise_schedule_add(&s, 250, 3, x0, noise, x);
        nn_noise_schedule_target(&s, 250, 3, x0, noise, target);
        for (int i = 0; i < 3; i++) {
            near((double)x[i], signal * (double)x0[i] + level * (double)noise[i], 1e-6);
            if (p == NN_PREDICT_EPSILON) assert_true(target[i] == noise[i]);
            if (p == NN_PREDICT_SAMPLE) assert_true(target[i] == x0[i]);
            if (p == NN_PREDICT_V) /* rotated back it is x0 */
                near(signal * (double)x[i] - level * (double)target[i], (double)x0[i], 1e-6);
        }
        nn_noise_schedule_add(&s, 250, 3, memcpy(target, x0, sizeof x0), noise, target);
        assert_memory_equal(target, x, sizeof x);
        nn_noise_schedule_deinit(&s);
    }
}

static void test_min_snr_weights(void **state)
{
    (void)state;
    nn_noise_config c = nn_noise_config_sd14();
    nn_noise_schedule s = make(c);
    for (int t = 0; t < 1000; t += 37) {
        const double a = (double)s.alpha_bar[t], snr = a / (1 - a);
        near(nn_noise_schedule_snr(&s, t), snr, 1e-9 * snr);
        s.config.prediction = NN_PREDICT_EPSILON;
        near(nn_noise_schedule_weight(&s, t, 5), snr < 5 ? 1 : 5 / snr, 1e-9);
        assert_true(nn_noise_schedule_weight(&s, t, 0) == 1);
        s.config.prediction = NN_PREDICT_V;
        near(nn_noise_schedule_weight(&s, t, 5), (snr < 5 ? snr : 5) / (snr + 1), 1e-9);
        s.config.prediction = NN_PREDICT_SAMPLE;
        near(nn_noise_schedule_weight(&s, t, 5), snr < 5 ? snr : 5, 1e-9);
    }
    nn_noise_schedule_deinit(&s);
}

static void test_draw(void **state)
{
    (void)state;
    nn_noise_schedule s = make(nn_noise_config_sd14());
    int count[10] = { 0 }, same_step = 0, same_sample = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        int t = nn_noise_schedule_draw(&s, 1, i, 3);
        assert_in_range(t, 0, 999);
        count[t / 100]++;
        assert_int_equal(t, nn_noise_schedule_draw(&s, 1, i, 3));
        same_step += t == nn_noise_schedule_draw(&s, 1, i + 1, 3);
        same_sample += t == nn_noise_schedule_draw(&s, 1, i, 4);
    }
    for (int k = 0; k < 10; k++) assert_in_range(count[k], 880, 1120); /* 1000, four sigma */
    assert_true(same_step < 40 && same_sample < 40);                   /* about 10 by chance */
    nn_noise_schedule_deinit(&s);
}

static nn_status parse(const char *text, nn_noise_config *c)
{
    nn_json json;
    OK(nn_json_parse(text, (int64_t)strlen(text), "scheduler_config.json", &json));
    nn_status status = nn_noise_config_parse(&json, c);
    nn_json_close(&json);
    return status;
}

static void test_config(void **state)
{
    (void)state;
    nn_noise_config c;
    OK(parse("{\"_class_name\": \"PNDMScheduler\", \"beta_end\": 0.012, \"beta_schedule\": "
             "\"scaled_linear\", \"beta_start\": 0.00085, \"num_train_timesteps\": 1000, "
             "\"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1, "
             "\"trained_betas\": null, \"clip_sample\": false}",
             &c));
    nn_noise_config sd = nn_noise_config_sd14();
    assert_int_equal(c.n_timesteps, sd.n_timesteps);
    assert_true(c.beta_start == sd.beta_start && c.beta_end == sd.beta_end);
    assert_int_equal(c.beta_schedule, sd.beta_schedule);
    assert_int_equal(c.prediction, sd.prediction);
    assert_int_equal(c.steps_offset, 1);
    assert_false(c.set_alpha_to_one);

    OK(parse("{\"beta_schedule\": \"squaredcos_cap_v2\", \"prediction_type\": \"v_prediction\", "
             "\"num_train_timesteps\": 50, \"steps_offset\": 0, \"set_alpha_to_one\": true}",
             &c));
    assert_int_equal(c.beta_schedule, NN_BETA_COSINE);
    assert_int_equal(c.prediction, NN_PREDICT_V);
    assert_int_equal(c.n_timesteps, 50);
    assert_int_equal(c.steps_offset, 0);
    assert_true(c.set_alpha_to_one);
}

static void test_wrong_config(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
        nn_status status;
    } rows[] = {
        { "{\"beta_schedule\": \"sigmoid\"}", "sigmoid", NN_UNSUPPORTED },
        { "{\"prediction_type\": \"flow\"}", "flow", NN_UNSUPPORTED },
        { "{\"rescale_betas_zero_snr\": true}", "rescale_betas_zero_snr", NN_UNSUPPORTED },
        { "{\"clip_sample\": true}", "clip_sample", NN_UNSUPPORTED },
        { "{\"thresholding\": true}", "thresholding", NN_UNSUPPORTED },
        { "{\"trained_betas\": []}", "num_train_timesteps", NN_FORMAT },
        { "{\"trained_betas\": [0.1, \"b\"]}", "trained_betas", NN_FORMAT },
        { "{\"trained_betas\": 0.1}", "trained_betas", NN_FORMAT },
        { "{\"num_train_timesteps\": 0}", "num_train_timesteps", NN_FORMAT },
        { "{\"num_train_timesteps\": 1000000}", "num_train_timesteps", NN_FORMAT },
        { "{\"num_train_timesteps\": \"many\"}", "num_train_timesteps", NN_FORMAT },
        { "{\"beta_start\": 0}", "beta", NN_FORMAT },
        { "{\"beta_end\": 1.5}", "beta", NN_FORMAT },
        { "{\"beta_start\": 0.5}", "beta", NN_FORMAT },
        { "{\"steps_offset\": -1}", "steps_offset", NN_FORMAT },
    };
    for (int r = 0; r < NN_COUNT(rows); r++) {
        nn_noise_config c = { .n_timesteps = -7 };
        assert_int_equal(parse(rows[r].text, &c), rows[r].status);
        assert_int_equal(c.n_timesteps, -7);
        assert_non_null(strstr(nn_error_message(), rows[r].word));
        assert_non_null(strstr(nn_error_message(), "scheduler_config.json"));
    }
    nn_noise_config c = nn_noise_config_sd14();
    nn_noise_schedule s;
    c.beta_start = NAN;
    assert_int_equal(nn_noise_schedule_init(&s, &c), NN_ARGUMENT);
    nn_noise_schedule_deinit(&s);
}

static nn_status parse_tables(const char *text, nn_noise_schedule *s)
{
    nn_json json;
    OK(nn_json_parse(text, (int64_t)strlen(text), "scheduler_config.json", &json));
    nn_status status = nn_noise_schedule_parse(&json, s);
    nn_json_close(&json);
    return status;
}

static void test_trained_betas(void **state)
{
    (void)state;
    nn_noise_schedule s, sd = make(nn_noise_config_sd14());
    OK(parse_tables("{\"trained_betas\": [0.25, 0.5, 0.125], \"num_train_timesteps\": 1000, "
                    "\"prediction_type\": \"v_prediction\"}",
                    &s));
    assert_int_equal(s.config.n_timesteps, 3);
    assert_int_equal(s.config.prediction, NN_PREDICT_V);
    static const float left[] = { 0.75f, 0.375f, 0.328125f };
    for (int i = 0; i < 3; i++) assert_true(s.alpha_bar[i] == left[i]);
    nn_noise_schedule_deinit(&s);
    OK(parse_tables("{\"trained_betas\": null}", &s));
    assert_memory_equal(s.alpha_bar, sd.alpha_bar, 1000 * sizeof(float));
    nn_noise_schedule_deinit(&s);
    nn_noise_schedule_deinit(&sd);
    assert_int_equal(parse_tables("{\"trained_betas\": [0.25, 0, 0.5]}", &s), NN_FORMAT);
    assert_non_null(strstr(nn_error_message(), "trained_betas[1]"));
    assert_null(s.beta);
    nn_noise_config c = nn_noise_config_sd14();
    c.beta_schedule = NN_BETA_TRAINED;
    assert_int_equal(nn_noise_schedule_init(&s, &c), NN_ARGUMENT);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    nn_noise_config c = nn_noise_config_sd14();
    nn_noise_schedule s;
    nn_alloc_fail_at(1);
    assert_int_equal(nn_noise_schedule_init(&s, &c), NN_MEMORY);
    nn_alloc_fail_at(0);
    nn_noise_schedule_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sd14_is_torch_bit_for_bit),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_add_and_targets),
        cmocka_unit_test(test_min_snr_weights),
        cmocka_unit_test(test_draw),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_wrong_config),
        cmocka_unit_test(test_trained_betas),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
