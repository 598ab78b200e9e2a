/* What a program asks of its device reaches the calls of a plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/nn.h"
#include "engine/plan_internal.h"
#include "tools/device.h"

typedef struct fixture {
    nn_device *device;
    nn_graph *g;
    nn_plan *plan;
} fixture;

/* A convolution and a product on a device as asked for. */
static void open_fixture(const device_settings *set, bool frozen, fixture *f)
{
    assert_int_equal(device_open(set, &f->device), NN_OK);
    assert_int_equal(nn_graph_create(&f->g), NN_OK);
    nn_tensor *x = nn_input(f->g, "x", NN_F32, NN_DIMS(1, 5, 5, 8));
    nn_tensor *w = nn_input(f->g, "w", NN_F32, NN_DIMS(8, 8, 3, 3));
    nn_tensor *m = nn_input(f->g, "m", NN_F32, NN_DIMS(4, 8));
    nn_tensor *y = nn_conv2d(f->g, x, w, NULL, NULL, NULL, (nn_conv){ 1, 1, 1, 1, 1 });
    nn_keep(nn_linear(f->g, y, m, NULL, NULL));
    const nn_plan_options options = { .frozen = frozen };
    assert_int_equal(nn_plan_create(f->g, f->device, &options, &f->plan), NN_OK);
    assert_int_equal(f->plan->n_steps, 2);
}

static void close_fixture(fixture *f)
{
    nn_plan_destroy(f->plan);
    nn_graph_destroy(f->g);
    nn_device_close(f->device);
}

static void deterministic_reaches_every_call(void **state)
{
    static const char *const names[] = { "cpu", "ref" };
    (void)state;
    for (int i = 0; i < NN_COUNT(names); i++)
        for (int on = 0; on < 2; on++) {
            fixture f = { 0 };
            open_fixture(&(device_settings){ .name = names[i], .threads = 1, .deterministic = on },
                         false, &f);
            for (int64_t k = 0; k < f.plan->n_steps; k++)
                assert_int_equal(f.plan->steps[k].call.deterministic, on);
            close_fixture(&f);
        }
}

static bool is_bf16(const nn_step *s)
{
    return strstr(s->kernel->name, "_bf16_") != NULL;
}

static void products_are_computed_in_what_was_asked(void **state)
{
    (void)state;
    device_settings set = { .name = "cpu", .threads = 1, .dtype = 1 };
    nn_device *device;
    nn_status status = device_open(&set, &device);
    if (status != NN_OK) { /* this processor has no instructions for it */
        assert_int_equal(status, NN_UNSUPPORTED);
        assert_non_null(strstr(nn_error_message(), "bf16"));
        skip();
    }
    nn_device_close(device);
    for (set.dtype = 0; set.dtype < 2; set.dtype++)
        for (int frozen = 0; frozen < 2; frozen++) {
            fixture f = { 0 };
            open_fixture(&set, frozen, &f);
            for (int64_t k = 0; k < f.plan->n_steps; k++)
                assert_int_equal(is_bf16(&f.plan->steps[k]), set.dtype);
            close_fixture(&f);
        }
}

static void unknown_devices_are_refused(void **state)
{
    nn_device *device;
    (void)state;
    assert_int_equal(device_open(&(device_settings){ .name = "abacus" }, &device), NN_NOT_FOUND);
}

static bool no(const nn_call *c)
{
    (void)c;
    return false;
}

static const nn_kernel toy_conv2d[] = {
    { .name = "conv2d_fast" }, { .name = "conv2d_any" }, { .name = "conv2d_f32_other" }, { 0 }
};
static const nn_kernel toy_conv2d_bwd_x[] = { { .name = "conv2d_bwd_x_any" },
                                              { .name = "conv2d_bwd_x_other", .accepts = no },
                                              { 0 } };

static const char *chosen(const nn_device *d, nn_op_id op, int skip)
{
    const nn_call call = { .n_in = 1 };
    const nn_kernel *k = nn_device_kernel(d, op, &call, skip);
    return k ? k->name : "none";
}

static void preferred_kernels_are_asked_first(void **state)
{
    const nn_kernel *table[NN_OP_COUNT] = {
        [NN_OP_CONV2D] = toy_conv2d, [NN_OP_CONV2D_BWD_X] = toy_conv2d_bwd_x
    };
    const nn_backend toy = { .name = "toy", .kernels = table };
    nn_device d = { .backend = &toy };
    (void)state;
    assert_string_equal(chosen(&d, NN_OP_CONV2D, 0), "conv2d_fast");
    assert_int_equal(nn_device_prefer(&d, "conv2d", "other"), NN_OK);
    assert_string_equal(chosen(&d, NN_OP_CONV2D, 0), "conv2d_f32_other");
    assert_string_equal(chosen(&d, NN_OP_CONV2D, 1), "conv2d_fast");
    assert_string_equal(chosen(&d, NN_OP_CONV2D, 2), "conv2d_any");
    assert_string_equal(chosen(&d, NN_OP_CONV2D, 3), "none");
    assert_string_equal(chosen(&d, NN_OP_CONV2D_BWD_X, 0), "conv2d_bwd_x_any"); /* it declines */
}

static void preferences_for_nothing_are_refused(void **state)
{
    const device_settings set = { .name = "ref", .threads = 1, .linear = "abacus" };
    nn_device *device;
    (void)state;
    assert_int_equal(device_open(&set, &device), NN_NOT_FOUND);
    assert_non_null(strstr(nn_error_message(), "linear_abacus; it has linear_any"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preferred_kernels_are_asked_first),
        cmocka_unit_test(preferences_for_nothing_are_refused),
        cmocka_unit_test(deterministic_reaches_every_call),
        cmocka_unit_test(products_are_computed_in_what_was_asked),
        cmocka_unit_test(unknown_devices_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
