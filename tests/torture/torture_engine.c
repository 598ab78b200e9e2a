/* Training while memory fails: graph, autograd, plan, steps, optimizer and profile, on each device.
 */
#include "tests/torture/torture.h"

#include "engine/nn.h"
#include "engine/optim.h"

enum { BATCH = 2, SIDE = 6, WIDE = 4, STEPS = 2 };

typedef struct training {
    nn_device *device;
    nn_params *params;
    nn_graph *graph;
    nn_plan *plan;
    nn_optimizer *optimizer;
    nn_tensor *x, *y, *loss;
} training;

static const char *device_name;
static bool fused; /* the update, into backward */

/* A bit of everything: convolution, normalisation, recomputation, dropout, a matrix product. */
static void build(training *t)
{
    nn_graph *g = t->graph;
    nn_scope s = nn_root(g, t->params, "net");
    t->x = nn_input(g, "x", NN_F32, NN_DIMS(BATCH, SIDE, SIDE, 3));
    t->y = nn_input(g, "y", NN_F32, NN_DIMS(BATCH, SIDE, SIDE, 1));
    nn_tensor *w = nn_param_at(s, "conv", NN_NORMAL(1), NN_DIMS(WIDE, 3, 3, 3));
    nn_tensor *h = nn_conv2d(g, t->x, w, NULL, NULL, NULL, (nn_conv){ 1, 1, 1, 1, 1 });
    nn_checkpoint_begin(g);
    h = nn_activation(g, h, NN_ACT_SILU);
    h = nn_dropout(g, h, 0.1);
    nn_checkpoint_end(g);
    h = nn_layernorm(g, h, nn_param_at(s, "gain", NN_ONES, NN_DIMS(WIDE)),
                     nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(WIDE)), 1e-5);
    h = nn_linear(g, h, nn_param_at(s, "linear", NN_NORMAL(1), NN_DIMS(1, WIDE)), NULL, NULL);
    t->loss = nn_mse(g, h, t->y, NULL);
}

static nn_status make_params(training *t)
{
    NN_TRY(nn_params_create(&t->params));
    NN_TRY(nn_graph_create(&t->graph));
    build(t);
    nn_status status = nn_graph_status(t->graph);
    nn_graph_destroy(t->graph);
    t->graph = NULL;
    NN_TRY(status);
    NN_TRY(nn_params_alloc(t->params, t->device, true));
    return nn_params_init(t->params, 1);
}

static nn_status make_plan(training *t)
{
    const nn_adamw_options adamw = { 0.9, 0.999, 1e-8, 1e-2, !fused, 0.9, fused };
    const nn_plan_options options = { .profile = true };
    NN_TRY(nn_optimizer_create(t->params, &adamw, &t->optimizer));
    NN_TRY(nn_graph_create(&t->graph));
    nn_graph_training(t->graph);
    build(t);
    nn_keep(t->loss);
    if (fused) {
        nn_optimizer_backward(t->optimizer, t->graph, t->loss);
    } else {
        nn_backward(t->graph, t->loss, 1, false);
        nn_optimizer_add(t->optimizer, t->graph);
    }
    return nn_plan_create(t->graph, t->device, &options, &t->plan);
}

static nn_status step(training *t)
{
    static const float x[BATCH * SIDE * SIDE * 3] = { 1 }, y[BATCH * SIDE * SIDE] = { 2 };
    float norm, loss;
    NN_TRY(nn_plan_write(t->plan, t->x, x));
    NN_TRY(nn_plan_write(t->plan, t->y, y));
    NN_TRY(nn_optimizer_begin(t->optimizer, t->plan, 1e-3));
    NN_TRY(nn_plan_run(t->plan, 1));
    NN_TRY(nn_optimizer_end(t->optimizer, t->plan, &norm));
    return nn_plan_read(t->plan, t->loss, &loss);
}

static nn_status report(training *t)
{
    nn_text table = { 0 };
    NN_TRY(nn_optimizer_swap_ema(t->optimizer));
    nn_status status = nn_plan_profile_table(t->plan, &table);
    nn_text_free(&table);
    NN_TRY(status);
    return nn_plan_profile_trace(t->plan, scratch("trace.json"));
}

static nn_status run(training *t)
{
    NN_TRY(nn_device_open(device_name, 2, &t->device));
    NN_TRY(make_params(t));
    NN_TRY(make_plan(t));
    for (int i = 0; i < STEPS; i++) NN_TRY(step(t));
    return report(t);
}

static nn_status train(void)
{
    training t = { 0 };
    nn_status status = run(&t);
    nn_plan_destroy(t.plan);
    nn_graph_destroy(t.graph);
    nn_optimizer_destroy(t.optimizer);
    nn_params_destroy(t.params);
    nn_device_close(t.device);
    return status;
}

static void look(void)
{
    char *bytes;
    int64_t n;
    if (!nn_file_exists(scratch("trace.json"))) return;
    assert_int_equal(nn_file_read(scratch("trace.json"), 1 << 20, &bytes, &n), NN_OK);
    assert_true(n > 2 && strchr("]}", bytes[n - 1 - (bytes[n - 1] == '\n')]));
    nn_free(bytes);
    assert_int_equal(nn_file_remove(scratch("trace.json")), NN_OK);
}

static const torture training_run = { train, look };

static void ref(void **state)
{
    (void)state;
    device_name = "ref";
    torture_all(&training_run, NN_FAULT_NONE, 20);
}

static void cpu(void **state)
{
    (void)state;
    device_name = "cpu";
    torture_all(&training_run, NN_FAULT_NONE, 20);
}

static void fused_update(void **state)
{
    (void)state;
    device_name = "ref";
    fused = true;
    torture_all(&training_run, NN_FAULT_NONE, 20);
    fused = false;
}

static void the_trace_fails(void **state)
{
    (void)state;
    torture_all(&training_run, NN_FAULT_WRITE, 1);
    torture_all(&training_run, NN_FAULT_RENAME, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref),
        cmocka_unit_test(cpu),
        cmocka_unit_test(fused_update),
        cmocka_unit_test(the_trace_fails),
    };
    return cmocka_run_group_tests(tests, torture_make, scratch_remove);
}
