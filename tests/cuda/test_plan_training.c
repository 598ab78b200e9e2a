/* What recap-plan takes for the cuda kernels where a build lacks them, against these kernels; and
 * how much memory a GPU has left, which --memory auto asks for. */
#include <math.h>

#include "tests/unit/engine_check.h"
#include "tools/plan_losses.h"
#include "tools/plan_report.h"

static const plan_rates rates = { 1e15, 3e12, 1 };

static void plan_recap(const char *name, int64_t batch, bool recompute, plan_result *out)
{
    const sd_model m = { .unet = unet_config_sd14(),
                         .text = clip_text_config_sd14(),
                         .vae = vae_config_sd14() };
    diffusion_plan p = { &m, m.unet.sample_size, false };
    const plan_task task = diffusion_task(&p, false);
    const plan_setting setting = {
        .batch = batch, .passes = 1, .ranks = 1, .recompute = recompute
    };
    nn_device *d;
    OK(nn_device_open(name, 1, &d));
    OK(nn_device_compute(d, NN_BF16));
    OK(plan_training(&task, d, &setting, &rates, out));
    nn_device_close(d);
}

static void usual_kernels(void **state)
{
    static const int64_t batches[] = { 1, 8, 16 };
    (void)state;
    for (int i = 0; i < 2 * NN_COUNT(batches); i++) {
        plan_result with, without;
        plan_recap("null:cuda", batches[i / 2], i % 2, &with);
        plan_recap("null", batches[i / 2], i % 2, &without);
        assert_int_equal(with.state_bytes, without.state_bytes);
        assert_int_equal(with.beside_bytes, without.beside_bytes);
        /* Parts of concatenations that the kernels write in place. */
        assert_in_range(with.activation_bytes, without.activation_bytes / 25 * 24,
                        without.activation_bytes);
        assert_float_equal(with.pass.flops, without.pass.flops, 1);
        assert_in_range(with.workspace_bytes, PLAN_USUAL_WORKSPACE / 2, PLAN_USUAL_WORKSPACE);
        const double guess = plan_usual_seconds(&without, &rates) / with.pass.seconds;
        if (fabs(guess - 1) > 0.05) fail_msg("a pass as planned with kernels, times %.3f", guess);
    }
}

static void free_memory(void **state)
{
    enum { TAKEN = 100 << 20 };
    nn_device *d, *absent;
    plan_result r;
    (void)state;
    OK(nn_device_open("cuda", 1, &d));
    const int64_t before = nn_device_free_bytes(d);
    void *block = d->backend->alloc(d, TAKEN);
    assert_non_null(block);
    assert_true(before > TAKEN && before - nn_device_free_bytes(d) >= TAKEN);
    d->backend->free(d, block);

    /* Plans for it take nothing of it. */
    const int64_t now = nn_device_free_bytes(d);
    OK(nn_device_compute(d, NN_BF16));
    OK(nn_device_open_absent(d, &absent));
    const sd_model m = { .unet = unet_config_sd14(),
                         .text = clip_text_config_sd14(),
                         .vae = vae_config_sd14() };
    diffusion_plan p = { &m, m.unet.sample_size, false };
    const plan_task task = diffusion_task(&p, true);
    const plan_setting setting = { .batch = 8, .passes = 2, .ranks = 1 };
    OK(plan_training(&task, absent, &setting, &(plan_rates){ 1, 1, 1 }, &r));
    assert_true(r.state_bytes > 20000000000 && r.host_bytes == 0);
    assert_int_equal(nn_device_free_bytes(d), now);
    nn_device_close(absent);
    nn_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_kernels),
        cmocka_unit_test(free_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
