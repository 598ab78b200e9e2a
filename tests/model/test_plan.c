/* What the planner says about Stable Diffusion 1.4 at 512x512, one picture, f32, on the device that
 * only counts: memory, launches and work before anything runs. A change of these numbers is a
 * change of the planner, of an op's cost or of a model, and has to be meant. */
#include <math.h>
#include <string.h>

#include "tests/unit/engine_check.h"

#include "engine/optim.h"
#include "models/clip_text.h"
#include "models/unet.h"

/* Forward: 803.3 GFLOP in convolutions, products and attention, counted from the shapes. */
#define UNET_GFLOP 803.3

typedef struct step {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    nn_plan_stats stats;
} step;

static nn_tensor *build_unet(nn_graph *g, nn_params *params)
{
    unet_config c = unet_config_sd14();
    return unet(nn_root(g, params, "unet"), &c, nn_input(g, "x", NN_F32, NN_DIMS(1, 64, 64, 4)),
                nn_input(g, "t", NN_F32, NN_DIMS(1)),
                nn_input(g, "context", NN_F32, NN_DIMS(1, 77, 768)), false);
}

/* The text encoder learns too: mean squared error of the predicted noise. */
static nn_tensor *build_loss(nn_graph *g, nn_params *params, bool recompute)
{
    unet_config c = unet_config_sd14();
    clip_text_config text = clip_text_config_sd14();
    nn_tensor *context = clip_text(nn_root(g, params, "text_model"), &text,
                                   nn_input(g, "ids", NN_I32, NN_DIMS(1, 77)), recompute);
    nn_tensor *noise =
        unet(nn_root(g, params, "unet"), &c, nn_input(g, "x", NN_F32, NN_DIMS(1, 64, 64, 4)),
             nn_input(g, "t", NN_F32, NN_DIMS(1)), context, recompute);
    return nn_mse(g, noise, nn_input(g, "noise", NN_F32, NN_DIMS(1, 64, 64, 4)), NULL);
}

static step open_step(void)
{
    step s = { 0 };
    OK(nn_device_open("null", 1, &s.device));
    OK(nn_params_create(&s.params));
    OK(nn_graph_create(&s.g));
    return s;
}

static void close_step(step *s)
{
    nn_plan_destroy(s->plan);
    nn_graph_destroy(s->g);
    nn_params_destroy(s->params);
    nn_device_close(s->device);
}

static nn_plan_stats plan_training(bool recompute)
{
    step s = open_step();
    nn_optimizer *o = NULL;
    build_loss(s.g, s.params, recompute);
    OK(nn_graph_status(s.g));
    nn_graph_destroy(s.g);
    OK(nn_params_alloc(s.params, s.device, true));
    OK(nn_optimizer_create(s.params, &(nn_adamw_options)NN_ADAMW_DEFAULTS, &o));
    OK(nn_graph_create(&s.g));
    nn_graph_training(s.g);
    nn_tensor *loss = build_loss(s.g, s.params, recompute);
    nn_keep(loss);
    nn_backward(s.g, loss, 1, false);
    nn_optimizer_add(o, s.g);
    OK(nn_plan_create(s.g, s.device, NULL, &s.plan));
    nn_plan_stats stats = nn_plan_stats_of(s.plan);
    nn_optimizer_destroy(o);
    close_step(&s);
    return stats;
}

static void expect(const char *what, const nn_plan_stats *got, int64_t bytes, int64_t launches,
                   double gflop)
{
    if (got->activation_bytes != bytes || got->n_launches != launches ||
        fabs(got->flops / 1e9 - gflop) > 1e-3)
        fail_msg("%s: %lld bytes, %lld launches, %.3f GFLOP; expected %lld, %lld, %.3f", what,
                 (long long)got->activation_bytes, (long long)got->n_launches, got->flops / 1e9,
                 (long long)bytes, (long long)launches, gflop);
}

static void test_forward(void **state)
{
    (void)state;
    step s = open_step();
    nn_keep(build_unet(s.g, s.params));
    OK(nn_params_alloc(s.params, s.device, false));
    OK(nn_plan_create(s.g, s.device, NULL, &s.plan));
    nn_plan_stats stats = nn_plan_stats_of(s.plan);
    expect("forward", &stats, 84266304, 393, 803.999);
    assert_true(fabs(stats.flops / 1e9 - UNET_GFLOP) < 0.005 * UNET_GFLOP);
    close_step(&s);
}

/* A step of sampling: the keys and values of the text are made in a plan of their own. */
static void test_step_of_sampling(void **state)
{
    (void)state;
    const unet_config c = unet_config_sd14();
    unet_text made, read;
    step s = open_step();
    build_unet(s.g, s.params);
    nn_graph_destroy(s.g);
    OK(nn_params_alloc(s.params, s.device, false));
    OK(nn_graph_create(&s.g));
    unet_project_text(nn_root(s.g, s.params, "unet"), &c,
                      nn_input(s.g, "context", NN_F32, NN_DIMS(1, 77, 768)), &made);
    read.n = made.n;
    for (int i = 0; i < made.n; i++) {
        const nn_view *k = &made.of[i].k->view, *v = &made.of[i].v->view;
        read.of[i] = (attention_source){ .k = nn_input(s.g, "k", k->dtype, k->rank, k->dim),
                                         .v = nn_input(s.g, "v", v->dtype, v->rank, v->dim) };
    }
    nn_keep(unet_on_text(nn_root(s.g, s.params, "unet"), &c,
                         nn_input(s.g, "latent", NN_F32, NN_DIMS(1, 64, 64, 4)),
                         nn_input(s.g, "t", NN_F32, NN_DIMS(1)), &read));
    OK(nn_plan_create(s.g, s.device, NULL, &s.plan));
    nn_plan_stats stats = nn_plan_stats_of(s.plan);
    assert_int_equal(made.n, 16);
    expect("step of sampling", &stats, 91953984, 393 - 16, 801.047);
    close_step(&s);
}

static void test_training_step(void **state)
{
    (void)state;
    nn_plan_stats kept = plan_training(false), again = plan_training(true);
    expect("training step", &kept, 1634612096, 1455, 2531.668);
    expect("training step, recomputed", &again, 320878720, 1872, 3245.369);
    assert_true(again.activation_bytes < kept.activation_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_step_of_sampling),
        cmocka_unit_test(test_training_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
