/* Networks that compute in bf16: which tensor has which type, what the store keeps, and that they
 * learn. */
#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "engine/base/half.h"
#include "engine/base/rng.h"
#include "engine/optim.h"
#include "engine/weights.h"

enum { BATCH = 4, WORDS = 3, VOCAB = 7, WIDTH = 16 };

/* Words with positions, a norm, two products, tied to the words again: what every kind of gradient
 * goes through. */
typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *ids, *x, *labels, *h, *logits, *loss;
} net;

typedef struct variant {
    nn_dtype dtype;
    bool accumulate, recompute;
    double dropout;
} variant;

static nn_tensor *middle(net *n, nn_scope s, nn_tensor *h, double dropout)
{
    nn_tensor *gamma = nn_param_at(s, "norm.weight", NN_ONES, NN_DIMS(WIDTH));
    nn_tensor *beta = nn_param_at(s, "norm.bias", NN_ZEROS, NN_DIMS(WIDTH));
    nn_tensor *w = nn_param_at(s, "fc.weight", NN_NORMAL(0.3f), NN_DIMS(WIDTH, WIDTH));
    nn_tensor *b = nn_param_at(s, "fc.bias", NN_NORMAL(0.1f), NN_DIMS(WIDTH));
    h = nn_linear(n->g, nn_layernorm(n->g, h, gamma, beta, 1e-5), w, b, NULL);
    return nn_dropout(n->g, nn_activation(n->g, h, NN_ACT_GELU), dropout);
}

static void build(net *n, const variant *v)
{
    nn_graph *g = n->g;
    nn_scope s = nn_root(g, n->params, "net");
    n->ids = nn_input(g, "ids", NN_I32, NN_DIMS(BATCH, WORDS));
    n->x = nn_input(g, "x", NN_F32, NN_DIMS(BATCH, WORDS, 5));
    n->labels = nn_input(g, "labels", NN_I32, NN_DIMS(BATCH, WORDS));
    nn_tensor *words = nn_param_at(s, "words", NN_NORMAL(0.5f), NN_DIMS(VOCAB, WIDTH));
    nn_tensor *places = nn_param_at(s, "places", NN_NORMAL(0.5f), NN_DIMS(WORDS + 2, WIDTH));
    nn_tensor *in = nn_param_at(s, "in", NN_NORMAL(0.3f), NN_DIMS(WIDTH, 5));
    nn_tensor *h = nn_add(g, nn_embedding(g, n->ids, words), nn_slice(g, places, 0, 0, WORDS));
    h = nn_add(g, h, nn_linear(g, n->x, in, NULL, NULL));
    if (v->recompute) nn_checkpoint_begin(g);
    n->h = middle(n, s, h, v->dropout);
    if (v->recompute) nn_checkpoint_end(g);
    n->logits =
        nn_linear(g, nn_add(g, n->h, nn_linear(g, n->x, in, NULL, NULL)), words, NULL, NULL);
    n->loss = nn_softmax_xent(g, n->logits, n->labels, 0.05);
}

static const variant plain = { .dtype = NN_F32 }, half = { .dtype = NN_BF16 };

/* A device in f32 and a graph in what the variant says: the store is f32 then, and gets its bf16
 * copy from the graph. */
static void open_net(net *n, const variant *v)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    o.ema_decay = 0.99;
    *n = (net){ .device = open_device("ref", 1) };
    OK(nn_params_create(&n->params));
    OK(nn_graph_create(&n->g));
    build(n, v);
    OK(nn_graph_status(n->g));
    nn_graph_destroy(n->g);
    OK(nn_params_alloc(n->params, n->device, true));
    OK(nn_params_init(n->params, 1));
    OK(nn_optimizer_create(n->params, &o, &n->optimizer));
    OK(nn_graph_create(&n->g));
    nn_graph_training(n->g);
    nn_graph_compute(n->g, v->dtype);
    build(n, v);
    nn_keep(n->loss);
    nn_backward(n->g, n->loss, 1, v->accumulate);
    if (!v->accumulate) nn_optimizer_add(n->optimizer, n->g);
    OK(nn_plan_create(n->g, n->device, &(nn_plan_options){ .hostile = true }, &n->plan));
}

static void close_net(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_optimizer_destroy(n->optimizer);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

/* One run; an update where there is an optimizer in the graph. */
static float run(net *n, uint64_t seed, double lr)
{
    static const int32_t ids[BATCH * WORDS] = { 0, 1, 2, 3, 4, 5, 6, 0, 2, 1, 1, 4 };
    static const int32_t labels[BATCH * WORDS] = { 1, 2, 3, 4, 5, 6, 0, 2, -1, 1, 0, 3 };
    float x[BATCH * WORDS * 5], loss, norm;
    bool updates = n->optimizer && n->optimizer->norm;
    nn_rng rng = nn_rng_make(1, "x", 0);
    nn_rng_normal_fill(&rng, x, NN_COUNT(x));
    OK(nn_plan_write(n->plan, n->ids, ids));
    OK(nn_plan_write(n->plan, n->labels, labels));
    OK(nn_plan_write(n->plan, n->x, x));
    if (updates) OK(nn_optimizer_begin(n->optimizer, n->plan, lr));
    OK(nn_plan_run(n->plan, seed));
    if (updates) OK(nn_optimizer_end(n->optimizer, n->plan, &norm));
    OK(nn_plan_read(n->plan, n->loss, &loss));
    return loss;
}

static float train(net *n, int steps)
{
    float loss = 0;
    for (int i = 0; i < steps; i++) loss = run(n, (uint64_t)i, 1e-2);
    return loss;
}

static const nn_tensor *operand(const net *n, const char *name)
{
    for (int64_t i = 0; i < n->g->n_tensors; i++)
        if (n->g->tensors[i]->param && !strcmp(n->g->tensors[i]->name, name))
            return n->g->tensors[i];
    fail_msg("no %s", name);
    return NULL;
}

static void test_types(void **unused)
{
    net n;
    int casts = 0;
    (void)unused;
    open_net(&n, &half);
    assert_int_equal(operand(&n, "net.words")->view.dtype, NN_BF16);
    assert_int_equal(operand(&n, "net.fc.weight")->view.dtype, NN_BF16);
    assert_int_equal(operand(&n, "net.fc.bias")->view.dtype, NN_F32);
    assert_int_equal(operand(&n, "net.norm.weight")->view.dtype, NN_F32);
    assert_int_equal(n.h->view.dtype, NN_BF16);
    assert_int_equal(n.logits->view.dtype, NN_BF16);
    assert_int_equal(n.loss->view.dtype, NN_F32);
    assert_int_equal(nn_grad_of(n.h)->view.dtype, NN_BF16);
    assert_int_equal(nn_grad_of(operand(&n, "net.words"))->view.dtype, NN_F32);
    assert_int_equal(nn_grad_of(operand(&n, "net.places"))->view.dtype, NN_F32);
    for (int64_t i = 0; i < n.g->n_nodes; i++)
        casts += n.g->nodes[i]->op == NN_OP_COPY && n.g->nodes[i]->in[0] == n.x;
    assert_int_equal(casts, 1); /* x is read twice */
    close_net(&n);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double off = 0, most = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)(a[i] - b[i])));
        most = fmax(most, fabs((double)a[i]));
    }
    return off / most;
}

static bool all_bf16(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (nn_bf16_to_f32(nn_f32_to_bf16(x[i])) != x[i]) return false;
    return true;
}

static void test_gradients(void **unused)
{
    net exact, rounded;
    variant sums = half;
    (void)unused;
    sums.accumulate = true;
    open_net(&exact, &plain);
    open_net(&rounded, &sums);
    assert_true(fabsf(run(&exact, 1, 0) - run(&rounded, 1, 0)) < 0.02f);
    for (int passes = 1; passes <= 2; passes++) { /* the second pass adds to the first */
        for (int64_t i = 0; i < exact.params->n; i++) {
            const nn_param *p = exact.params->items[i];
            int64_t elems = nn_view_elems(&p->view);
            float *want = exact.params->grads + p->offset, *got = rounded.params->grads + p->offset;
            double off = distance(want, got, elems);
            if (off > 0.03) fail_msg("%s: gradient is off by %.3f", p->name, off);
            if (strcmp(p->name, "net.places") != 0) assert_false(all_bf16(got, elems));
            for (int64_t k = 0; k < elems; k++) want[k] *= 2;
        }
        run(&rounded, 1, 0);
    }
    close_net(&exact);
    close_net(&rounded);
}

static void assert_rounded(const nn_params *p)
{
    for (int64_t i = 0; i < p->n_elems; i++)
        assert_int_equal(p->half[i], nn_f32_to_bf16(p->values[i]));
}

static void test_the_copy_follows(void **unused)
{
    net n;
    float w[WIDTH * 5];
    (void)unused;
    open_net(&n, &half);
    nn_param *in = nn_params_find(n.params, "net.in");
    run(&n, 0, 0);
    assert_rounded(n.params);
    train(&n, 3);
    assert_false(n.params->stale); /* the optimizer's one pass has written it */
    assert_rounded(n.params);
    for (int i = 0; i < NN_COUNT(w); i++) w[i] = 0.1f * (float)i;
    OK(nn_params_write(n.params, in, w));
    run(&n, 0, 0);
    assert_rounded(n.params);
    OK(nn_optimizer_swap_ema(n.optimizer));
    OK(nn_params_refresh(n.params));
    assert_rounded(n.params);
    n.params->values[0] += 1;
    nn_params_touch(n.params);
    OK(nn_params_refresh(n.params));
    assert_rounded(n.params);
    close_net(&n);
}

static uint64_t hash_of(const nn_params *p)
{
    uint64_t hash;
    OK(nn_params_hash(p, &hash));
    return hash;
}

static void test_learning(void **unused)
{
    variant v = { .dtype = NN_BF16, .dropout = 0.1 }, again = v;
    net n, m;
    (void)unused;
    again.recompute = true;
    open_net(&n, &half);
    open_net(&m, &plain);
    float first = run(&n, 0, 0), rounded = train(&n, 150), exact = train(&m, 150);
    assert_true(rounded < first - 1);
    assert_true(fabsf(rounded - exact) < 0.02f);
    close_net(&n);
    close_net(&m);
    open_net(&n, &v);
    open_net(&m, &again);
    float loss = train(&n, 5);
    assert_true(loss == train(&m, 5)); /* a recomputed segment gives the same bits */
    assert_true(hash_of(n.params) == hash_of(m.params));
    close_net(&n);
    close_net(&m);
}

/* Without training, a device in bf16 holds nothing in f32 but vectors; the host sees f32. */
static void test_halves_only(void **unused)
{
    net n = { .device = open_device("ref", 1) };
    float x[WIDTH * 5], y[WIDTH * 5], bias[WIDTH];
    nn_params *loaded;
    (void)unused;
    OK(nn_device_compute(n.device, NN_BF16));
    OK(nn_params_create(&n.params));
    OK(nn_graph_create(&n.g));
    build(&n, &half);
    OK(nn_params_alloc(n.params, n.device, false));
    nn_graph_destroy(n.g);
    assert_null(n.params->values);
    OK(nn_params_init(n.params, 1));
    nn_param *in = nn_params_find(n.params, "net.in");
    for (int i = 0; i < NN_COUNT(x); i++) x[i] = 1.0f / (float)(i + 3);
    OK(nn_params_write(n.params, in, x));
    OK(nn_params_read(n.params, in, y));
    for (int i = 0; i < NN_COUNT(x); i++) assert_true(y[i] == nn_bf16_to_f32(nn_f32_to_bf16(x[i])));
    OK(nn_params_read(n.params, nn_params_find(n.params, "net.fc.bias"), bias));
    assert_false(all_bf16(bias, WIDTH));

    OK(nn_params_save(n.params, scratch("w.safetensors"), NULL, 0, NN_F32));
    OK(nn_params_create(&loaded));
    OK(nn_graph_create(&n.g));
    nn_params *own = n.params;
    n.params = loaded;
    build(&n, &half);
    nn_graph_destroy(n.g);
    OK(nn_params_alloc(loaded, n.device, false));
    OK(nn_params_load(loaded, scratch("w.safetensors"), NULL, 0, NULL));
    assert_true(hash_of(loaded) == hash_of(own));
    nn_params_destroy(own);

    float loss[2];
    for (int k = 0; k < 2; k++) { /* an f32 graph reads the same store */
        OK(nn_graph_create(&n.g));
        nn_graph_compute(n.g, k ? NN_F32 : NN_BF16);
        build(&n, &half);
        nn_keep(n.loss);
        OK(nn_plan_create(n.g, n.device, NULL, &n.plan));
        assert_int_equal(n.logits->view.dtype, k ? NN_F32 : NN_BF16);
        loss[k] = run(&n, 0, 0);
        nn_plan_destroy(n.plan);
        nn_graph_destroy(n.g);
    }
    assert_true(loss[0] != loss[1] && fabsf(loss[0] - loss[1]) < 0.02f);
    nn_params_destroy(n.params);
    nn_device_close(n.device);
}

static uint64_t hash_on(nn_dtype device, bool exact, bool with_grads)
{
    net n = { .device = open_device("ref", 1) };
    OK(nn_device_compute(n.device, device));
    OK(nn_params_create(&n.params));
    n.params->exact = exact;
    OK(nn_graph_create(&n.g));
    nn_graph_compute(n.g, device);
    build(&n, &half);
    OK(nn_params_alloc(n.params, n.device, with_grads));
    OK(nn_params_init(n.params, 1));
    nn_graph_destroy(n.g);
    OK(nn_graph_create(&n.g)); /* exact weights can be computed with in bf16 */
    nn_graph_compute(n.g, device);
    build(&n, &half);
    nn_keep(n.loss);
    OK(nn_plan_create(n.g, n.device, NULL, &n.plan));
    assert_int_equal(n.logits->view.dtype, device);
    assert_true(isfinite(run(&n, 0, 0)));
    uint64_t hash = hash_of(n.params);
    close_net(&n);
    return hash;
}

/* Masters of a training, and weights that are only passed on, keep f32 on a device in bf16. */
static void test_exact_weights(void **unused)
{
    (void)unused;
    uint64_t drawn = hash_on(NN_F32, false, false);
    assert_true(hash_on(NN_BF16, false, true) == drawn);
    assert_true(hash_on(NN_BF16, true, false) == drawn);
    assert_true(hash_on(NN_BF16, true, true) == drawn);
    assert_true(hash_on(NN_BF16, false, false) != drawn);
}

static void test_mixed_operands(void **unused)
{
    nn_graph *g;
    (void)unused;
    OK(nn_graph_create(&g));
    nn_tensor *wide = nn_input(g, "wide", NN_F32, NN_DIMS(2, 3));
    nn_tensor *narrow = nn_input(g, "narrow", NN_BF16, NN_DIMS(2, 3));
    assert_int_equal(nn_add(g, wide, narrow)->view.dtype, NN_F32);
    assert_int_equal(nn_mul(g, narrow, wide)->view.dtype, NN_F32);
    assert_int_equal(nn_mul(g, narrow, narrow)->view.dtype, NN_BF16);
    assert_int_equal(nn_mse(g, narrow, wide, NULL)->view.dtype, NN_F32);
    nn_linear(g, wide, narrow, NULL, NULL);
    FAILS(NN_SHAPE, nn_graph_status(g));
    MESSAGE_HAS("the types differ");
    nn_graph_destroy(g);
}

static void test_who_can(void **unused)
{
    nn_device *d = open_device("null", 1);
    (void)unused;
    assert_int_equal(nn_device_storage(d), NN_F32);
    OK(nn_device_compute(d, NN_BF16));
    assert_int_equal(nn_device_storage(d), NN_BF16);
    OK(nn_device_compute(d, NN_F32));
    FAILS(NN_UNSUPPORTED, nn_device_compute(d, NN_F16));
    nn_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_the_copy_follows),
        cmocka_unit_test(test_learning),
        cmocka_unit_test_setup_teardown(test_halves_only, scratch_make, scratch_remove),
        cmocka_unit_test(test_exact_weights),
        cmocka_unit_test(test_mixed_operands),
        cmocka_unit_test(test_who_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
