/* The two ways to convolve agree, forward and backward, with every optional operand: images too
 * large for the scalar oracle. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/nn.h"
#include "engine/plan_internal.h"

enum { MOST = 1 << 20, RESULTS = 6 };
enum { N, H, WIDTH, I, O };

typedef struct result {
    int64_t n;
    float v[MOST];
} result;

typedef struct trial {
    const int64_t *shape;
    bool frozen;
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_tensor *seen[3];
    int n_seen;
    int n_winograd; /* nodes that run it */
} trial;

static nn_tensor *input(trial *t, const char *name, int rank, const int64_t *dim)
{
    nn_tensor *x = nn_input(t->g, name, NN_F32, rank, dim);
    if (!t->frozen) nn_require_grad(x);
    return x;
}

static void build(trial *t)
{
    const int64_t *a = t->shape, whole[] = { a[N], a[H], a[WIDTH], a[O] };
    assert_int_equal(nn_graph_create(&t->g), NN_OK);
    if (!t->frozen) nn_graph_training(t->g);
    nn_scope s = nn_root(t->g, t->params, "conv");
    nn_tensor *x = input(t, "x", 4, (int64_t[]){ a[N], a[H], a[WIDTH], a[I] });
    nn_tensor *y = nn_conv2d(
        t->g, x, nn_param_at(s, "weight", NN_NORMAL(0.1f), 4, (int64_t[]){ a[O], a[I], 3, 3 }),
        nn_param_at(s, "bias", NN_NORMAL(1), 1, &a[O]),
        input(t, "shift", 2, (int64_t[]){ a[N], a[O] }), input(t, "residual", 4, whole),
        (nn_conv){ 1, 1, 1, 1, 1 });
    t->n_seen = 0;
    t->seen[t->n_seen++] = y;
    if (!t->frozen) {
        nn_tensor *weighted = nn_mul(t->g, y, nn_input(t->g, "r", NN_F32, 4, whole));
        nn_backward(t->g, nn_sum(t->g, weighted, 4, (int64_t[]){ 1, 1, 1, 1 }), 1, false);
        t->seen[t->n_seen++] = nn_grad_of(x);
    }
    for (int i = 0; i < t->n_seen; i++) nn_keep(t->seen[i]);
    assert_int_equal(nn_graph_status(t->g), NN_OK);
}

static void feed(trial *t, nn_plan *plan)
{
    static float x[MOST];
    for (int64_t i = 0; i < t->g->n_tensors; i++) {
        nn_tensor *in = t->g->tensors[i];
        if (in->kind != NN_INPUT || in->root != in) continue;
        int64_t n = nn_view_elems(&in->view);
        nn_rng rng = nn_rng_make(3, in->name, 0);
        assert_true(n <= MOST);
        for (int64_t k = 0; k < n; k++) x[k] = nn_rng_normal(&rng);
        assert_int_equal(nn_plan_write(plan, in, x), NN_OK);
    }
}

static int collect(trial *t, nn_plan *plan, result *out)
{
    int n = 0;
    for (; n < t->n_seen; n++) {
        out[n].n = nn_view_elems(&t->seen[n]->view);
        assert_true(out[n].n <= MOST);
        assert_int_equal(nn_plan_read(plan, t->seen[n], out[n].v), NN_OK);
    }
    for (int64_t i = 0; !t->frozen && i < t->params->n; i++, n++) {
        const nn_param *p = t->params->items[i];
        out[n].n = nn_view_elems(&p->view);
        assert_true(out[n].n <= MOST);
        memcpy(out[n].v, t->params->grads + p->offset, (size_t)out[n].n * sizeof(float));
    }
    return n;
}

static int run(trial *t, int skip, result *out)
{
    nn_plan *plan;
    nn_plan_options options = { .frozen = t->frozen, .hostile = true, .skip = skip };
    assert_int_equal(nn_plan_create(t->g, t->device, &options, &plan), NN_OK);
    t->n_winograd = 0;
    for (int64_t i = 0; i < plan->n_steps; i++)
        t->n_winograd += strstr(plan->steps[i].kernel->name, "winograd") != NULL;
    feed(t, plan);
    assert_int_equal(nn_plan_run(plan, 1), NN_OK);
    int n = collect(t, plan, out);
    nn_plan_destroy(plan);
    return n;
}

static void same(const result *a, const result *b)
{
    float largest = 0;
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) largest = fmaxf(largest, fabsf(b->v[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < a->n; i++) assert_true(fabsf(a->v[i] - b->v[i]) <= 1e-5f * largest);
}

static void open(trial *t, int threads)
{
    assert_int_equal(nn_device_open("cpu", threads, &t->device), NN_OK);
    assert_int_equal(nn_params_create(&t->params), NN_OK);
    build(t);
    nn_graph_destroy(t->g);
    assert_int_equal(nn_params_alloc(t->params, t->device, !t->frozen), NN_OK);
    assert_int_equal(nn_params_init(t->params, 5), NN_OK);
    build(t);
}

static void close(trial *t)
{
    nn_graph_destroy(t->g);
    nn_params_destroy(t->params);
    nn_device_close(t->device);
}

static void agree(const int64_t *shape, bool frozen)
{
    static result fast[RESULTS], direct[RESULTS];
    trial t = { .shape = shape, .frozen = frozen };
    open(&t, 2);
    int n = run(&t, 0, fast), offered = t.n_winograd;
    assert_true(offered == (frozen ? 1 : 3) || (!frozen && offered == 2)); /* dw: AVX-512 alone */
    assert_int_equal(run(&t, 1, direct), n);
    assert_int_equal(t.n_winograd, 0);
    for (int i = 0; i < n; i++) same(&fast[i], &direct[i]);
    close(&t);
}

static void test_training(void **state)
{
    (void)state;
    agree((int64_t[]){ 2, 16, 16, 64, 48 }, false);
    agree((int64_t[]){ 3, 13, 14, 32, 96 }, false);
}

static void test_frozen(void **state)
{
    (void)state;
    agree((int64_t[]){ 2, 17, 19, 32, 64 }, true);
    agree((int64_t[]){ 1, 4, 14, 128, 32 }, true);
}

/* Many chunks of tiles, and a last one that is not full. */
static void test_chunks(void **state)
{
    (void)state;
    agree((int64_t[]){ 1, 88, 96, 48, 32 }, true);
    agree((int64_t[]){ 2, 50, 90, 32, 64 }, false);
}

/* An image gives the same bits alone and in a batch, whoever computes it. */
static void test_batch(void **state)
{
    (void)state;
    static result batch[RESULTS], alone[RESULTS];
    trial three = { .shape = (int64_t[]){ 3, 23, 22, 80, 64 }, .frozen = true };
    trial one = { .shape = (int64_t[]){ 1, 23, 22, 80, 64 }, .frozen = true };
    open(&three, 2);
    open(&one, 1);
    assert_int_equal(run(&three, 0, batch), run(&one, 0, alone));
    assert_int_equal(three.n_winograd + one.n_winograd, 2);
    assert_memory_equal(batch->v, alone->v, (size_t)alone->n * sizeof(float));
    close(&three);
    close(&one);
}

/* A frozen plan packs no more than the weights, one that computes in bf16 half of that. */
static void test_memory(void **state)
{
    (void)state;
    const int64_t shape[] = { 1, 32, 32, 512, 528 }, plain = 4 * 9 * shape[I] * shape[O];
    const nn_dtype arithmetic[] = { NN_F32, NN_BF16 };
    const nn_plan_options options = { .frozen = true };
    trial t = { .shape = shape, .frozen = true };
    open(&t, 1);
    for (int i = 0; i < 2; i++) {
        nn_plan *plan;
        t.device->arithmetic = arithmetic[i];
        assert_int_equal(nn_plan_create(t.g, t.device, &options, &plan), NN_OK);
        assert_non_null(strstr(plan->steps[0].kernel->name, "winograd"));
        assert_int_equal(nn_plan_stats_of(plan).packed_bytes, plain / (i + 1));
        nn_plan_destroy(plan);
    }
    close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_training),
                                        cmocka_unit_test(test_frozen),
                                        cmocka_unit_test(test_chunks), cmocka_unit_test(test_batch),
                                        cmocka_unit_test(test_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
