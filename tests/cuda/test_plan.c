/* What Stable Diffusion 1.4 takes at 512 x 512 on the cuda device, in bf16 with f32 masters:
 * memory, kernels started and bytes moved, planned for an H100 that is not there. A change of these
 * numbers is a change of the planner, of the choice of kernels or of a model, and has to be meant.
 */
#include <math.h>
#include <string.h>

#include "engine/optim.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "tests/unit/engine_check.h"

enum { SIDE = 64, WORDS = 77 };

typedef struct kind {
    const char *name;
    int64_t batch;
    bool training, recompute, guided;
} kind;

/* Bytes: of weights and their copies, gradients and moments; of activations; of workspace and
 * packed weights; in MB (1e6), rounded down. Launches of a run after the first, with cuBLASLt's
 * products as one each. Ratio: bytes moved over those of the ops' own account, which reads and
 * writes each operand once. */
typedef struct plan_numbers {
    int64_t state, activations, scratch, launches;
    double moved_gb, ratio;
} plan_numbers;

typedef struct bench {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *pass_graph, *update_graph;
    nn_plan *pass, *update;
    nn_tensor *loss;
} bench;

/* What the UNet predicts in recap-sample: keys and values of the prompts are inputs. */
static nn_tensor *build_step(const kind *k, nn_graph *g, nn_params *params, nn_tensor *x,
                             nn_tensor *t)
{
    const unet_config c = unet_config_sd14();
    nn_scope s = nn_root(g, params, "unet");
    unet_text text;
    nn_tensor *context =
        nn_input(g, "context", NN_F32, NN_DIMS(k->batch, WORDS, c.cross_attention_dim));
    unet_project_text(s, &c, context,
                      &text); /* for the shapes: a plan leaves out what none reads */
    for (int i = 0; i < text.n; i++) {
        const nn_view *keys = &text.of[i].k->view, *values = &text.of[i].v->view;
        text.of[i].k = nn_input(g, "k", keys->dtype, keys->rank, keys->dim);
        text.of[i].v = nn_input(g, "v", values->dtype, values->rank, values->dim);
    }
    return nn_precise(g, unet_on_text(s, &c, x, t, &text));
}

/* The loss of recap-train diffusion, or a pass of the UNet. */
static nn_tensor *build(const kind *k, nn_graph *g, nn_params *params)
{
    const unet_config c = unet_config_sd14();
    const clip_text_config text = clip_text_config_sd14();
    int64_t n = k->batch, in = c.in_channels;
    nn_tensor *x = nn_input(g, "x", NN_F32, NN_DIMS(n, SIDE, SIDE, in));
    nn_tensor *t = nn_input(g, "t", NN_F32, NN_DIMS(n));
    nn_scope s = nn_root(g, params, "unet");
    if (k->guided) return build_step(k, g, params, x, t);
    if (!k->training)
        return nn_precise(
            g,
            unet(s, &c, x, t,
                 nn_input(g, "context", NN_F32, NN_DIMS(n, WORDS, c.cross_attention_dim)), false));
    nn_tensor *context = clip_text(nn_root(g, params, "text_model"), &text,
                                   nn_input(g, "ids", NN_I32, NN_DIMS(n, WORDS)), k->recompute);
    return nn_mse(g, unet(s, &c, x, t, context, k->recompute),
                  nn_input(g, "target", NN_F32, NN_DIMS(n, SIDE, SIDE, in)), NULL);
}

static void open_bench(const kind *k, bench *b)
{
    const nn_adamw_options options = NN_ADAMW_DEFAULTS;
    *b = (bench){ 0 };
    OK(nn_device_open("null:cuda", 1, &b->device));
    OK(nn_device_compute(b->device, NN_BF16));
    OK(nn_params_create(&b->params));
    OK(nn_graph_create(&b->pass_graph));
    build(k, b->pass_graph, b->params);
    OK(nn_graph_status(b->pass_graph));
    nn_graph_destroy(b->pass_graph);
    OK(nn_params_alloc(b->params, b->device, k->training));
    OK(nn_graph_create(&b->pass_graph));
    if (k->training) nn_graph_training(b->pass_graph);
    nn_graph_compute(b->pass_graph, nn_device_storage(b->device));
    b->loss = build(k, b->pass_graph, b->params);
    nn_keep(b->loss);
    if (k->training) nn_backward(b->pass_graph, b->loss, 1, false);
    const nn_plan_options frozen = { .frozen = !k->training };
    OK(nn_plan_create(b->pass_graph, b->device, &frozen, &b->pass));
    if (!k->training) return;
    OK(nn_optimizer_create(b->params, &options, &b->optimizer));
    OK(nn_graph_create(&b->update_graph));
    nn_optimizer_add(b->optimizer, b->update_graph);
    OK(nn_plan_create(b->update_graph, b->device, NULL, &b->update));
}

static void close_bench(bench *b)
{
    nn_plan_destroy(b->pass);
    nn_plan_destroy(b->update);
    nn_graph_destroy(b->pass_graph);
    nn_graph_destroy(b->update_graph);
    nn_optimizer_destroy(b->optimizer);
    nn_params_destroy(b->params);
    nn_device_close(b->device);
}

/* As the trainer and the session run them; what runs once is left behind by a first run. */
static int64_t count_launches(bench *b)
{
    int64_t before = 0;
    for (int run = 0; run < 2; run++) {
        before = b->device->backend->launches(b->device);
        OK(nn_plan_run(b->pass, 0));
        if (!b->update) continue;
        OK(nn_optimizer_begin(b->optimizer, b->update, 1e-5));
        OK(nn_plan_run(b->update, 0));
    }
    return b->device->backend->launches(b->device) - before;
}

static int64_t state_bytes(const bench *b, bool training)
{
    int64_t n = b->params->n_elems, vectors = 0;
    if (training) return n * (int64_t)(4 * sizeof(float) + sizeof(uint16_t));
    for (int64_t i = 0; i < b->params->n; i++)
        if (b->params->items[i]->view.rank < 2)
            vectors += nn_view_bytes(&b->params->items[i]->view);
    return n * (int64_t)sizeof(uint16_t) + vectors;
}

static plan_numbers count(bench *b, bool training)
{
    nn_plan_stats pass = nn_plan_stats_of(b->pass), update = { 0 };
    if (b->update) update = nn_plan_stats_of(b->update);
    double moved = pass.moved_bytes + update.moved_bytes, floor = pass.bytes + update.bytes;
    return (plan_numbers){
        .state = state_bytes(b, training) / 1000000,
        .activations = (pass.activation_bytes + update.activation_bytes) / 1000000,
        .scratch = (pass.workspace_bytes + update.workspace_bytes + pass.packed_bytes) / 1000000,
        .launches = count_launches(b),
        .moved_gb = 1e-9 * moved,
        .ratio = moved / floor
    };
}

/* Kernels for any stride are there for views in tests. What else they may do: single numbers, and
 * gradients that are halves of the gradient of a concatenation or broadcast. */
static void expect_fast(const nn_plan *plan)
{
    static const char *const fine[] = { "timestep_any", "mse_any", "mse_bwd_any", "add_steps",
                                        "sum_steps" };
    for (int64_t i = 0; i < nn_plan_n_steps(plan); i++) {
        const nn_plan_step s = nn_plan_step_at(plan, i);
        bool known = false;
        for (int k = 0; k < NN_COUNT(fine); k++) known |= !strcmp(s.kernel, fine[k]);
        size_t n = strlen(s.kernel);
        if (!known && n > 4 && (!strcmp(s.kernel + n - 4, "_any") || strstr(s.kernel, "_steps")))
            fail_msg("%s is done by %s: %s", s.node->scope, s.kernel,
                     nn_view_text(&s.node->out[0]->view).s);
    }
}

static void expect(const kind *k, const plan_numbers *want)
{
    bench b;
    open_bench(k, &b);
    plan_numbers got = count(&b, k->training);
    expect_fast(b.pass);
    if (got.state != want->state || got.activations != want->activations ||
        got.scratch != want->scratch || got.launches != want->launches ||
        fabs(got.moved_gb - want->moved_gb) > 0.006 || fabs(got.ratio - want->ratio) > 0.0006)
        fail_msg("%s: { %lld, %lld, %lld, %lld, %.2f, %.3f }", k->name, (long long)got.state,
                 (long long)got.activations, (long long)got.scratch, (long long)got.launches,
                 got.moved_gb, got.ratio);
    close_bench(&b);
}

static void test_sampling(void **unused)
{
    static const struct {
        kind k;
        plan_numbers want;
    } rows[] = {
        { { "forward, 1 picture", 1, false, false, false }, { 1720, 47, 1115, 386, 3.92, 1.144 } },
        { { "guided step, 1 picture", 2, .guided = true }, { 1720, 102, 1124, 369, 5.98, 1.175 } },
        { { "guided step, 8 pictures", 16, .guided = true },
          { 1720, 821, 1124, 369, 31.49, 1.088 } },
    };
    (void)unused;
    for (int i = 0; i < NN_COUNT(rows); i++) expect(&rows[i].k, &rows[i].want);
}

static void test_training(void **unused)
{
    static const struct {
        kind k;
        plan_numbers want;
    } rows[] = {
        { { "training, 1", 1, .training = true }, { 17686, 805, 117, 2348, 57.22, 1.234 } },
        { { "training, 8", 8, .training = true }, { 17686, 6442, 117, 2348, 101.66, 1.224 } },
        { { "training, 16", 16, .training = true }, { 17686, 12885, 117, 2348, 150.26, 1.203 } },
        { { "training, 1, recomputed", 1, .training = true, .recompute = true },
          { 17686, 157, 117, 2903, 62.30, 1.260 } },
        { { "training, 8, recomputed", 8, .training = true, .recompute = true },
          { 17686, 1263, 117, 2903, 119.46, 1.225 } },
        { { "training, 16, recomputed", 16, .training = true, .recompute = true },
          { 17686, 2526, 117, 2903, 181.54, 1.191 } },
    };
    (void)unused;
    for (int i = 0; i < NN_COUNT(rows); i++) expect(&rows[i].k, &rows[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
