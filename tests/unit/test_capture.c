/* Recorded runs give the bits of runs that start every kernel anew, whatever changes between them:
 * inputs, seeds, learning rates, weights that are packed. On the far device, which records on the
 * host, and on cuda where there is one. */
#include "tests/unit/far.h"

#include "engine/base/rng.h"
#include "engine/optim.h"
#include "engine/plan_internal.h"

enum { BATCH = 6, IN = 8, WIDTH = 24, OUT = 5, STEPS = 6 };

/* NULL: this machine has none. */
static nn_device *open_named(const char *name)
{
    nn_device *d = NULL;
    if (!strcmp(name, "far")) return far_open();
    nn_status status = nn_device_open(name, 1, &d);
    if (status != NN_NOT_FOUND && status != NN_DEVICE) OK(status);
    return d;
}

static void draw(const char *what, uint64_t index, float *x, int64_t n)
{
    nn_rng rng = nn_rng_make(3, what, index);
    nn_rng_normal_fill(&rng, x, n);
}

/* -- training -- */

typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *target, *loss;
    bool in_parts;
} net;

static bool backward_alone; /* nets are opened without an optimizer's nodes */

static nn_tensor *build(net *n)
{
    nn_graph *g = n->g;
    nn_scope s = nn_root(g, n->params, "net");
    n->x = nn_input(g, "x", NN_F32, NN_DIMS(BATCH, IN));
    n->target = nn_input(g, "target", NN_F32, NN_DIMS(BATCH, OUT));
    nn_tensor *w = nn_param_at(s, "in.weight", NN_NORMAL(0.3f), NN_DIMS(WIDTH, IN));
    nn_tensor *b = nn_param_at(s, "in.bias", NN_NORMAL(0.1f), NN_DIMS(WIDTH));
    nn_tensor *v = nn_param_at(s, "out.weight", NN_NORMAL(0.3f), NN_DIMS(OUT, WIDTH));
    nn_tensor *h = nn_activation(g, nn_linear(g, n->x, w, b, NULL), NN_ACT_GELU);
    h = nn_linear(g, nn_dropout(g, h, 0.3), v, NULL, NULL);
    return nn_mse(g, nn_dropout(g, h, 0.1), n->target, NULL);
}

static void open_net(net *n, nn_device *device, nn_dtype dtype, const nn_plan_options *options)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    o.ema_decay = 0.9;
    o.clip_norm = 1;
    *n = (net){ .device = device };
    OK(nn_device_compute(device, dtype));
    OK(nn_params_create(&n->params));
    OK(nn_graph_create(&n->g));
    build(n);
    OK(nn_graph_status(n->g));
    nn_graph_destroy(n->g);
    OK(nn_params_alloc(n->params, device, true));
    OK(nn_params_init(n->params, 1));
    OK(nn_optimizer_create(n->params, &o, &n->optimizer));
    OK(nn_graph_create(&n->g));
    nn_graph_training(n->g);
    nn_graph_compute(n->g, dtype);
    n->loss = build(n);
    nn_keep(n->loss);
    nn_backward(n->g, n->loss, 1, false);
    if (!backward_alone) nn_optimizer_add(n->optimizer, n->g);
    OK(nn_plan_create(n->g, device, options, &n->plan));
}

static void close_net(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_optimizer_destroy(n->optimizer);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

typedef struct course {
    float loss[STEPS], norm[STEPS];
    uint64_t weights;
} course;

/* Every step has its own seed and rate; each second one the picture of the one before, so that only
 * the seed tells them apart. */
/* In parts, each of which is recorded, with something else between them. */
static nn_status run_in_parts(nn_plan *plan, uint64_t seed)
{
    const int64_t n = nn_plan_n_steps(plan);
    const int64_t ends[] = { n / 3, n / 2, n };
    int64_t first = 0;
    for (int i = 0; i < NN_COUNT(ends); i++) {
        NN_TRY(nn_plan_enqueue(plan, seed, first, ends[i]));
        first = ends[i];
    }
    return plan->device->backend->sync(plan->device);
}

static course train(net *n)
{
    course c = { 0 };
    for (int i = 0; i < STEPS; i++) {
        float x[BATCH * IN], target[BATCH * OUT];
        draw("x", (uint64_t)i / 2, x, NN_COUNT(x));
        draw("target", (uint64_t)i / 2, target, NN_COUNT(target));
        OK(nn_plan_write(n->plan, n->x, x));
        OK(nn_plan_write(n->plan, n->target, target));
        OK(nn_optimizer_begin(n->optimizer, n->plan, i % 2 ? 0 : 1e-2 / (i + 1)));
        const uint64_t seed = 100 + (uint64_t)i * i;
        OK(n->in_parts ? run_in_parts(n->plan, seed) : nn_plan_run(n->plan, seed));
        OK(nn_optimizer_end(n->optimizer, n->plan, &c.norm[i]));
        OK(nn_plan_read(n->plan, n->loss, &c.loss[i]));
    }
    OK(nn_params_hash(n->params, &c.weights));
    return c;
}

/* false: no such device. */
static bool train_on(const char *name, nn_dtype dtype, const nn_plan_options *options, course *c)
{
    bool records = !options && strcmp(name, "ref") != 0;
    net n;
    nn_device *device = open_named(name);
    if (!device) return false;
    memset(&far_state, 0, sizeof(far_state));
    open_net(&n, device, dtype, options);
    *c = train(&n);
    assert_true((n.plan->parts[0].recording != NULL) == records);
    close_net(&n);
    assert_int_equal(far_state.n_alive, 0);
    return true;
}

static void assert_same(const course *a, const course *b)
{
    assert_memory_equal(a->loss, b->loss, sizeof(a->loss));
    assert_memory_equal(a->norm, b->norm, sizeof(a->norm));
    assert_true(a->weights == b->weights);
}

static void test_training(void **unused)
{
    static const char *const names[] = { "far", "cuda" };
    const nn_plan_options direct = { .direct = true };
    course once = { 0 }, again = { 0 };
    (void)unused;
    for (int k = 0; k < 2 * NN_COUNT(names); k++) {
        const char *name = names[k / 2];
        nn_dtype dtype = k % 2 ? NN_BF16 : NN_F32;
        if (!train_on(name, dtype, &direct, &once)) continue;
        assert_int_equal(far_state.n_recordings, 0);
        int64_t n_runs = far_state.n_runs;
        assert_true(train_on(name, dtype, NULL, &again));
        assert_same(&once, &again);
        for (int i = 1; i < STEPS; i++) assert_true(once.loss[i] != once.loss[i - 1]);
        if (strcmp(name, "far") != 0) continue;
        assert_int_equal(far_state.n_recordings, 1);
        assert_int_equal(far_state.n_launches, STEPS - 1);
        assert_true(far_state.n_runs < n_runs / 2);
        assert_true(train_on("ref", dtype, NULL, &once));
        assert_same(&once, &again);
    }
}

static void test_who_is_not_recorded(void **unused)
{
    const nn_plan_options options[] = { { .profile = true }, { .hostile = true } };
    course want = { 0 }, c = { 0 };
    (void)unused;
    train_on("ref", NN_F32, NULL, &want);
    for (int i = 0; i < NN_COUNT(options); i++) {
        train_on("far", NN_F32, &options[i], &c);
        assert_int_equal(far_state.n_recordings, 0);
        assert_same(&want, &c);
    }
}

static void test_parts(void **unused)
{
    static const char *const names[] = { "far", "cuda" };
    (void)unused;
    for (int k = 0; k < NN_COUNT(names); k++) {
        nn_device *device = open_named(names[k]);
        course whole = { 0 }, cut;
        net n;
        if (!device) continue;
        nn_device_close(device);
        train_on(names[k], NN_F32, NULL, &whole);
        memset(&far_state, 0, sizeof(far_state));
        open_net(&n, open_named(names[k]), NN_F32, NULL);
        const int64_t steps = nn_plan_n_steps(n.plan), at[] = { steps / 3, steps / 2 };
        OK(nn_plan_cut(n.plan, NN_COUNT(at), at));
        n.in_parts = true;
        cut = train(&n);
        assert_same(&whole, &cut);
        for (int i = 0; i < 3; i++) assert_non_null(n.plan->parts[i].recording);
        close_net(&n);
        assert_int_equal(far_state.n_alive, 0);
    }
}

/* When gradients are complete, that of the last layer first, and values; other memory is not
 * written.
 */
static void test_written(void **unused)
{
    nn_device *device;
    float elsewhere[4];
    net n;
    (void)unused;
    OK(nn_device_open("ref", 1, &device));
    backward_alone = true;
    open_net(&n, device, NN_F32, NULL);
    backward_alone = false;
    const float *grads = n.params->grads;
    const nn_param *in = nn_params_find(n.params, "net.in.weight");
    const nn_param *out = nn_params_find(n.params, "net.out.weight");
    const int64_t of_in = nn_plan_written(n.plan, grads + in->offset, grads + in->offset + 1);
    const int64_t of_out = nn_plan_written(n.plan, grads + out->offset, grads + out->offset + 1);
    assert_true(0 < of_out && of_out < of_in && of_in <= nn_plan_n_steps(n.plan));
    assert_int_equal(nn_plan_written(n.plan, grads, grads + n.params->n_elems), of_in);
    assert_int_equal(nn_plan_written(n.plan, elsewhere, elsewhere + 4), 0);
    close_net(&n);
}

/* A device that cannot is asked once, and the training goes on. */
static void test_a_recording_that_fails(void **unused)
{
    net n;
    course want = { 0 }, c = { 0 };
    (void)unused;
    train_on("ref", NN_F32, NULL, &want);
    memset(&far_state, 0, sizeof(far_state));
    far_state.cannot_record = true;
    open_net(&n, far_open(), NN_F32, NULL);
    c = train(&n);
    close_net(&n);
    assert_same(&want, &c);
    assert_int_equal(far_state.n_recordings, 1);
    assert_int_equal(far_state.n_launches, 0);
    assert_int_equal(far_state.n_alive, 0);
}

/* -- packed weights -- */

static int n_packings;

/* linear that reads its weights from where it has packed them. */
static nn_status prepare_packed(nn_call *c)
{
    c->packed_bytes = (size_t)nn_view_bytes(&c->in[1]);
    return NN_OK;
}

static nn_status packed_near(const nn_call *near)
{
    nn_call c = *near;
    if (c.repack) {
        NN_ASSERT(c.packed);
        memcpy(c.packed, c.in[1].data, c.packed_bytes);
        n_packings++;
    }
    c.in[1].data = c.packed;
    return nn_ref_table[NN_OP_LINEAR]->run(&c);
}

static nn_status packed_far(const nn_call *c)
{
    return far_run(packed_near, c);
}

typedef struct frozen {
    nn_backend backend;
    const nn_kernel *table[NN_OP_COUNT];
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *w, *y;
} frozen;

static nn_tensor *build_frozen(frozen *f, bool stored)
{
    OK(nn_graph_create(&f->g));
    f->x = nn_input(f->g, "x", NN_F32, NN_DIMS(BATCH, IN));
    f->w = stored ? nn_param_at(nn_root(f->g, f->params, ""), "w", NN_NORMAL(1), NN_DIMS(OUT, IN))
                  : nn_input(f->g, "w", NN_F32, NN_DIMS(OUT, IN));
    return nn_linear(f->g, f->x, f->w, NULL, NULL);
}

/* stored: the weights are a parameter; otherwise they are an input. */
static void open_frozen(frozen *f, bool stored)
{
    static const nn_kernel kernels[2] = {
        { .name = "packed", .prepare = prepare_packed, .run = packed_far }
    };
    *f = (frozen){ .device = far_open() };
    memset(&far_state, 0, sizeof(far_state));
    n_packings = 0;
    f->backend = *f->device->backend;
    memcpy(f->table, f->backend.kernels, sizeof(f->table));
    f->table[NN_OP_LINEAR] = kernels;
    f->backend.kernels = f->table;
    f->device->backend = &f->backend;
    OK(nn_params_create(&f->params));
    build_frozen(f, stored);
    nn_graph_destroy(f->g);
    OK(nn_params_alloc(f->params, f->device, false));
    f->y = build_frozen(f, stored);
    nn_keep(f->y);
    OK(nn_plan_create(f->g, f->device, &(nn_plan_options){ .frozen = true }, &f->plan));
    assert_true(nn_plan_stats_of(f->plan).packed_bytes > 0);
}

static void close_frozen(frozen *f)
{
    nn_plan_destroy(f->plan);
    nn_graph_destroy(f->g);
    nn_params_destroy(f->params);
    nn_device_close(f->device);
    assert_int_equal(far_state.n_alive, 0);
}

/* One run on new inputs, checked against a sum in double. */
static void run_frozen(frozen *f, uint64_t input, const float *w)
{
    float x[BATCH * IN], y[BATCH * OUT];
    draw("x", input, x, NN_COUNT(x));
    OK(nn_plan_write(f->plan, f->x, x));
    OK(nn_plan_run(f->plan, input));
    OK(nn_plan_read(f->plan, f->y, y));
    for (int i = 0; i < BATCH * OUT; i++) {
        double sum = 0;
        for (int k = 0; k < IN; k++)
            sum += (double)x[i / OUT * IN + k] * (double)w[i % OUT * IN + k];
        assert_float_equal(y[i], sum, 1e-5);
    }
}

/* New weights are packed by one direct run; the recording, which does not pack, goes on. */
static void test_packed_weights(void **unused)
{
    frozen f;
    float w[OUT * IN];
    uint64_t input = 0;
    (void)unused;
    open_frozen(&f, true);
    for (int version = 0; version < 3; version++) {
        draw("w", (uint64_t)version, w, NN_COUNT(w));
        OK(nn_params_write(f.params, f.params->items[0], w));
        for (int i = 0; i < 3; i++) {
            run_frozen(&f, input++, w);
            assert_int_equal(n_packings, version + 1);
            assert_int_equal(far_state.n_runs, version + 1);
            assert_int_equal(far_state.n_launches, 2 * version + i);
        }
    }
    assert_int_equal(far_state.n_recordings, 1);
    close_frozen(&f);
}

/* Weights that change before they were ever recorded. */
static void test_stale_at_the_second_run(void **unused)
{
    frozen f;
    float w[OUT * IN];
    (void)unused;
    open_frozen(&f, true);
    for (uint64_t i = 0; i < 6; i++) {
        draw("w", i / 4 + nn_min(i, 1), w, NN_COUNT(w));
        if (i % 4 < 2) OK(nn_params_write(f.params, f.params->items[0], w));
        run_frozen(&f, i, w);
    }
    assert_int_equal(far_state.n_recordings, 1);
    assert_int_equal(far_state.n_runs, 4);
    close_frozen(&f);
}

/* Weights that no store owns are packed in every run, the repeated ones too. */
static void test_weights_without_a_store(void **unused)
{
    frozen f;
    float w[OUT * IN];
    (void)unused;
    open_frozen(&f, false);
    for (uint64_t i = 0; i < 4; i++) {
        draw("w", i, w, NN_COUNT(w));
        OK(nn_plan_write(f.plan, f.w, w));
        run_frozen(&f, i, w);
    }
    assert_int_equal(n_packings, 4);
    assert_int_equal(far_state.n_launches, 3);
    close_frozen(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_who_is_not_recorded),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_written),
        cmocka_unit_test(test_a_recording_that_fails),
        cmocka_unit_test(test_packed_weights),
        cmocka_unit_test(test_stale_at_the_second_run),
        cmocka_unit_test(test_weights_without_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
