/* The update fused into the backward pass against the ordinary one: the same bits, in less memory.
 */
#include "tests/unit/engine_check.h"

#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/optim.h"
#include "tools/trainer.h"

enum { ROWS = 6, WIDE = 48, LAYERS = 3, STEPS = 5 };

typedef struct variant {
    const char *device;
    nn_dtype compute;
    double ema, dropout;
    bool recompute, hostile;
} variant;

typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *y, *loss;
} net;

static nn_tensor *weight(nn_scope s, const char *name, int64_t rows)
{
    return nn_param_at(s, name, NN_NORMAL(0.2f), NN_DIMS(rows, WIDE));
}

/* Three products read as one. */
static nn_tensor *layer(net *n, const variant *v, nn_scope s, nn_tensor *h, nn_tensor *tied)
{
    nn_tensor *part[3], *w[3];
    if (v->recompute) nn_checkpoint_begin(n->g);
    for (int i = 0; i < 3; i++) w[i] = weight(nn_at(s, "part.%d", i), "weight", WIDE);
    nn_split(n->g, nn_linear(n->g, h, nn_params_joined(n->g, 3, w), NULL, NULL), 3, part);
    h = nn_dropout(n->g, nn_add(n->g, nn_mul(n->g, part[0], part[1]), part[2]), v->dropout);
    h = nn_linear(n->g, h, tied, nn_param_at(s, "bias", NN_ZEROS, NN_DIMS(WIDE)), NULL);
    if (v->recompute) nn_checkpoint_end(n->g);
    return h;
}

/* `tied` is read by every layer, before the first of them and after the last; `shift` is added, so
 * that its gradient is that of something else, summed; the loss does not depend on `unread`. */
static void build(net *n, const variant *v)
{
    nn_graph *g = n->g;
    nn_scope s = nn_root(g, n->params, "net");
    n->x = nn_input(g, "x", NN_F32, NN_DIMS(ROWS, WIDE));
    n->y = nn_input(g, "y", NN_F32, NN_DIMS(ROWS, WIDE));
    nn_tensor *tied = weight(s, "tied", WIDE);
    nn_tensor *scale = nn_param_at(s, "scale", NN_NORMAL(1), NN_DIMS(ROWS, WIDE));
    (void)nn_param_at(s, "unread", NN_NORMAL(1), NN_DIMS(7));
    nn_tensor *h = nn_linear(g, n->x, tied, NULL, NULL);
    for (int i = 0; i < LAYERS; i++) h = layer(n, v, nn_at(s, "layer.%d", i), h, tied);
    nn_enter(s);
    h = nn_add(g, h, nn_param_at(s, "shift", NN_ZEROS, NN_DIMS(WIDE)));
    h = nn_linear(g, h, tied, NULL, NULL);
    h = nn_add(g, h, nn_mul(g, n->x, scale));
    n->loss = nn_mse(g, h, n->y, NULL);
    nn_keep(n->loss);
}

static void open_net(net *n, const variant *v, bool fused)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    const nn_plan_options options = { .hostile = v->hostile };
    o.ema_decay = v->ema;
    o.fused = fused;
    *n = (net){ .device = open_device(v->device, 2) };
    OK(nn_device_compute(n->device, v->compute));
    OK(nn_params_create(&n->params));
    OK(nn_graph_create(&n->g));
    build(n, v);
    OK(nn_graph_status(n->g));
    nn_graph_destroy(n->g);
    OK(nn_params_alloc(n->params, n->device, true));
    OK(nn_params_init(n->params, 5));
    OK(nn_optimizer_create(n->params, &o, &n->optimizer));
    OK(nn_graph_create(&n->g));
    nn_graph_training(n->g);
    nn_graph_compute(n->g, nn_device_storage(n->device));
    build(n, v);
    if (fused) {
        nn_optimizer_backward(n->optimizer, n->g, n->loss);
    } else {
        nn_backward(n->g, n->loss, 1, false);
        nn_optimizer_add(n->optimizer, n->g);
    }
    OK(nn_plan_create(n->g, n->device, &options, &n->plan));
}

static void close_net(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_optimizer_destroy(n->optimizer);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

/* The norm of the gradients. first: the first number of the input, NULL = as the others. */
static float train(net *n, int64_t step, const float *first)
{
    float x[ROWS * WIDE], y[ROWS * WIDE], norm;
    nn_rng rng = nn_rng_make(9, "sample", (uint64_t)step);
    nn_rng_normal_fill(&rng, x, ROWS * WIDE);
    nn_rng_normal_fill(&rng, y, ROWS * WIDE);
    if (first) x[0] = *first;
    OK(nn_plan_write(n->plan, n->x, x));
    OK(nn_plan_write(n->plan, n->y, y));
    OK(nn_optimizer_begin(n->optimizer, n->plan, 1e-2));
    OK(nn_plan_run(n->plan, (uint64_t)step));
    OK(nn_optimizer_end(n->optimizer, n->plan, &norm));
    return norm;
}

/* A flat buffer of the device, with the bytes of an element. */
static void *read_flat(const net *n, const void *flat, int64_t size)
{
    const int64_t bytes = n->params->n_elems * size;
    void *all = nn_alloc(bytes, 1);
    assert_non_null(all);
    OK(n->device->backend->read(n->device, all, flat, bytes));
    return all;
}

/* Flat buffers of the two, where there are any; what lies between parameters does not count. */
static void assert_same(const char *what, const net *a, const net *b, const void *in_a,
                        const void *in_b, int64_t size)
{
    if (!in_a && !in_b) return;
    char *x = read_flat(a, in_a, size), *y = read_flat(b, in_b, size);
    for (int64_t i = 0; i < a->params->n; i++) {
        const nn_param *p = a->params->items[i];
        const int64_t at = p->offset * size, n = nn_view_elems(&p->view) * size;
        if (memcmp(x + at, y + at, (size_t)n) != 0) fail_msg("%s: %s differ", p->name, what);
    }
    nn_free(x);
    nn_free(y);
}

static void assert_same_state(const net *a, const net *b)
{
    assert_int_equal(a->params->n, b->params->n);
    assert_int_equal(a->optimizer->step, b->optimizer->step);
    assert_same("values", a, b, a->params->values, b->params->values, sizeof(float));
    assert_same("rounded values", a, b, a->params->half, b->params->half, sizeof(uint16_t));
    assert_same("first moments", a, b, a->optimizer->m, b->optimizer->m, sizeof(float));
    assert_same("second moments", a, b, a->optimizer->v, b->optimizer->v, sizeof(float));
    assert_same("averages", a, b, a->optimizer->ema, b->optimizer->ema, sizeof(float));
}

static void same_bits(const variant *v)
{
    net fused, ordinary;
    open_net(&fused, v, true);
    open_net(&ordinary, v, false);
    for (int64_t i = 0; i < STEPS; i++) {
        const double norm = (double)train(&fused, i, NULL);
        const double want = (double)train(&ordinary, i, NULL);
        assert_true(fabs(norm - want) <= 1e-6 * want);
        assert_same_state(&fused, &ordinary);
    }
    assert_null(fused.params->grads);
    assert_non_null(ordinary.params->grads);
    close_net(&fused);
    close_net(&ordinary);
}

static void test_same_bits(void **unused)
{
    (void)unused;
    same_bits(&(variant){ .device = "cpu", .compute = NN_F32 });
    same_bits(&(variant){ .device = "cpu", .compute = NN_F32, .ema = 0.9, .dropout = 0.2 });
    same_bits(&(variant){ .device = "cpu", .compute = NN_F32, .dropout = 0.2, .recompute = true });
    same_bits(&(variant){ .device = "ref", .compute = NN_F32, .ema = 0.9, .recompute = true });
    same_bits(&(variant){ .device = "ref", .compute = NN_BF16, .recompute = true });
}

/* Where there is one; from the second step on, runs repeat a recording. */
static void test_cuda(void **unused)
{
    nn_device *d = NULL;
    (void)unused;
    if (nn_device_open("cuda", 1, &d) != NN_OK) skip();
    nn_device_close(d);
    same_bits(&(variant){ .device = "cuda", .compute = NN_F32, .ema = 0.9, .dropout = 0.2 });
    same_bits(&(variant){ .device = "cuda", .compute = NN_BF16, .recompute = true });
}

/* No gradient is overwritten before it is used, nor a parameter before it is read. */
static void test_hostile(void **unused)
{
    (void)unused;
    same_bits(&(variant){ .device = "cpu", .compute = NN_F32, .hostile = true });
    same_bits(&(variant){ .device = "cpu", .compute = NN_F32, .hostile = true, .recompute = true });
}

/* The gradients of the layers take turns in one place. */
static void test_memory(void **unused)
{
    const variant v = { .device = "cpu", .compute = NN_F32 };
    net fused, ordinary;
    (void)unused;
    open_net(&fused, &v, true);
    open_net(&ordinary, &v, false);
    const int64_t layer_bytes = 3 * WIDE * WIDE * (int64_t)sizeof(float);
    const int64_t more = nn_plan_stats_of(fused.plan).activation_bytes -
                         nn_plan_stats_of(ordinary.plan).activation_bytes;
    assert_true(more <= 2 * layer_bytes); /* that of a layer, and the sum of the tied one's */
    assert_true(fused.params->n_elems * (int64_t)sizeof(float) > 3 * layer_bytes);
    close_net(&fused);
    close_net(&ordinary);
}

/* An infinite input of a product with a parameter makes the gradients of most not finite, that of
 * `shift`, which is the output's, among them; but `unread` decays. */
static void test_not_finite(void **unused)
{
    const variant v = { .device = "cpu", .compute = NN_F32 };
    const float infinite = INFINITY;
    net n;
    float before[WIDE], after[WIDE], unread[7];
    (void)unused;
    open_net(&n, &v, true);
    const nn_param *shift = nn_params_find(n.params, "net.shift");
    const nn_param *other = nn_params_find(n.params, "net.unread");
    train(&n, 0, NULL);
    OK(nn_params_read(n.params, shift, before));
    OK(nn_params_read(n.params, other, unread));
    assert_false(isfinite(train(&n, 1, &infinite)));
    OK(nn_params_read(n.params, shift, after));
    assert_memory_equal(before, after, sizeof(before));
    OK(nn_params_read(n.params, other, after));
    assert_true(fabsf(after[0]) < fabsf(unread[0]));
    assert_int_equal(n.optimizer->n_skipped, 1);
    assert_int_equal(n.optimizer->step, 2); /* something has changed */
    for (int64_t i = 0; i < n.params->n_elems; i++) assert_true(isfinite(n.params->values[i]));
    assert_true(isfinite(train(&n, 2, NULL)));
    close_net(&n);
}

static void test_clipping_is_refused(void **unused)
{
    const variant v = { .device = "cpu", .compute = NN_F32 };
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    nn_optimizer *optimizer = NULL;
    net n;
    (void)unused;
    o.fused = true;
    o.clip_norm = 1;
    open_net(&n, &v, true);
    assert_int_equal(nn_optimizer_create(n.params, &o, &optimizer), NN_UNSUPPORTED);
    MESSAGE_HAS("cannot clip to 1");
    assert_null(optimizer);
    close_net(&n);
}

static void refuses(trainer_settings set, const char *words)
{
    set.fuse = true;
    OK(trainer_share(&set));
    assert_int_equal(trainer_check_fusion(&set), NN_ARGUMENT);
    MESSAGE_HAS(words);
    set.fuse = false;
    OK(trainer_check_fusion(&set));
}

static void test_trainer_refuses(void **unused)
{
    const trainer_settings plain = { TRAINER_DEFAULTS };
    trainer_settings set = plain;
    (void)unused;
    refuses(plain, "--max-grad-norm 1: ");
    set.clip_norm = 0;
    set.accumulate = 2;
    refuses(set, "2 passes in an update");
    set.ranks.n = 2;
    refuses(set, "on 2 ranks");
    set = plain;
    set.clip_norm = 0;
    set.fuse = true;
    OK(trainer_share(&set));
    OK(trainer_check_fusion(&set));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),       cmocka_unit_test(test_cuda),
        cmocka_unit_test(test_hostile),         cmocka_unit_test(test_memory),
        cmocka_unit_test(test_not_finite),      cmocka_unit_test(test_clipping_is_refused),
        cmocka_unit_test(test_trainer_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
