/* Parameters that lie together: one product over all of them computes, and learns, what a product
 * for each would; the store lays them without gaps, whatever it keeps. */
#include <string.h>

#include "engine/optim.h"
#include "tests/unit/engine_check.h"

enum { ROWS = 6, IN = 4, PARTS = 2, WIDE = 3 /* of a part: neither ends at 16 elements */ };

static const char *const names[PARTS] = { "left", "right" };

typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *y[PARTS];
} net;

/* A vector before and one behind, so that the joined ones are not alone. */
static void build(net *n, bool joined)
{
    nn_scope s = nn_root(n->g, n->params, "net");
    nn_tensor *w[PARTS], *b[PARTS], *sum = NULL;
    nn_tensor *x = nn_mul(n->g, n->x, nn_param_at(s, "scale", NN_NORMAL(1), NN_DIMS(IN)));
    for (int i = 0; i < PARTS; i++) {
        nn_scope part = nn_at(s, "%s", names[i]);
        w[i] = nn_param_at(part, "weight", NN_NORMAL(1), NN_DIMS(WIDE, IN));
        b[i] = nn_param_at(part, "bias", NN_NORMAL(1), NN_DIMS(WIDE));
        if (!joined) n->y[i] = nn_linear(n->g, x, w[i], b[i], NULL);
    }
    if (joined) {
        nn_tensor *all = nn_params_joined(n->g, PARTS, w), *bias = nn_params_joined(n->g, PARTS, b);
        nn_split(n->g, nn_linear(n->g, x, all, bias, NULL), PARTS, n->y);
    }
    nn_tensor *shift = nn_param_at(s, "shift", NN_NORMAL(1), NN_DIMS(WIDE));
    for (int i = 0; i < PARTS; i++) {
        n->y[i] = nn_activation(n->g, nn_add(n->g, n->y[i], shift), i ? NN_ACT_TANH : NN_ACT_SILU);
        nn_keep(n->y[i]);
        nn_tensor *loss =
            nn_mse(n->g, n->y[i], nn_fill(n->g, NN_F32, NN_DIMS(ROWS, WIDE), 1), NULL);
        sum = sum ? nn_add(n->g, sum, loss) : loss;
    }
    if (n->g->training) nn_backward(n->g, sum, 1, false);
}

static void declare(net *n, bool joined)
{
    OK(nn_graph_create(&n->g));
    n->x = nn_input(n->g, "x", NN_F32, NN_DIMS(ROWS, IN));
    build(n, joined);
    OK(nn_graph_status(n->g));
}

static void open_net(net *n, const char *device, nn_dtype dtype, bool joined, bool training)
{
    static const float x[ROWS * IN] = { 1, -2, 3, -.5f, .25f, 2, -1, .75f, -3, 1.5f, .1f, -.2f };
    *n = (net){ .device = open_device(device, 1) };
    OK(nn_device_compute(n->device, dtype));
    OK(nn_params_create(&n->params));
    declare(n, joined);
    nn_graph_destroy(n->g);
    OK(nn_params_alloc(n->params, n->device, training));
    OK(nn_params_init(n->params, 5));
    OK(nn_graph_create(&n->g));
    if (training) nn_graph_training(n->g);
    nn_graph_compute(n->g, nn_device_storage(n->device));
    n->x = nn_input(n->g, "x", NN_F32, NN_DIMS(ROWS, IN));
    build(n, joined);
    OK(nn_plan_create(n->g, n->device, NULL, &n->plan));
    OK(nn_plan_write(n->plan, n->x, x));
    OK(nn_plan_run(n->plan, 0));
}

static void close_net(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

static void assert_close(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) assert_float_equal(a[i], b[i], 1e-5f);
}

static void test_same_numbers(void **unused)
{
    net one, each;
    float a[ROWS * WIDE], b[ROWS * WIDE];
    (void)unused;
    open_net(&one, "cpu", NN_F32, true, true);
    open_net(&each, "cpu", NN_F32, false, true);
    for (int i = 0; i < PARTS; i++) {
        OK(nn_plan_read(one.plan, one.y[i], a));
        OK(nn_plan_read(each.plan, each.y[i], b));
        assert_close(a, b, ROWS * WIDE);
    }
    assert_int_equal(one.params->n, each.params->n);
    for (int64_t i = 0; i < one.params->n; i++) { /* of the same name, in the same order */
        const nn_param *p = one.params->items[i], *q = each.params->items[i];
        assert_string_equal(p->name, q->name);
        OK(nn_params_read_gradient(one.params, p, a));
        OK(nn_params_read_gradient(each.params, q, b));
        assert_close(a, b, nn_view_elems(&p->view));
        assert_true(a[0] != 0);
    }
    close_net(&one);
    close_net(&each);
}

/* Where the second of two lies, in bytes behind the first. */
static int64_t gap(const nn_params *p, const char *first, const char *second)
{
    const nn_view *a = &nn_params_find(p, first)->view, *b = &nn_params_find(p, second)->view;
    return (const char *)b->data - (const char *)a->data - nn_view_bytes(a);
}

static void test_places(void **unused)
{
    static const struct {
        nn_dtype dtype;
        bool training;
    } kept[] = { { NN_F32, false }, { NN_BF16, true }, { NN_BF16, false } };
    (void)unused;
    for (int i = 0; i < NN_COUNT(kept); i++) {
        net n;
        open_net(&n, "ref", kept[i].dtype, true, kept[i].training);
        assert_int_equal(gap(n.params, "net.left.weight", "net.right.weight"), 0);
        assert_int_equal(gap(n.params, "net.left.bias", "net.right.bias"), 0);
        const nn_param *joined = nn_params_find(n.params, "net.left.weight")->joined;
        assert_ptr_equal(joined->view.data, nn_params_find(n.params, "net.left.weight")->view.data);
        assert_int_equal(joined->view.dim[0], PARTS * WIDE);
        assert_true(nn_params_find(n.params, "net.shift")->offset % 16 == 0);
        assert_int_equal(nn_params_count(n.params), IN + PARTS * WIDE * (IN + 1) + WIDE);
        close_net(&n);
    }
}

static void test_refusals(void **unused)
{
    net n;
    nn_params *p;
    nn_param *part[4], *joined, *again;
    (void)unused;
    OK(nn_params_create(&p));
    OK(nn_params_declare(p, "a", NN_ZEROS, NN_DIMS(2, 3), &part[0]));
    OK(nn_params_declare(p, "b", NN_ZEROS, NN_DIMS(5, 3), &part[1]));
    OK(nn_params_declare(p, "c", NN_ZEROS, NN_DIMS(2, 4), &part[2]));
    OK(nn_params_declare(p, "d", NN_ZEROS, NN_DIMS(1, 3), &part[3]));
    FAILS(NN_SHAPE, nn_params_join(p, 3, part, &joined)); /* another width */
    OK(nn_params_join(p, 2, part, &joined));
    assert_int_equal(joined->view.dim[0], 7);
    OK(nn_params_join(p, 2, part, &again));
    assert_ptr_equal(joined, again);
    FAILS(NN_SHAPE, nn_params_join(p, 2, (nn_param *[]){ part[3], part[1] }, &again));
    FAILS(NN_SHAPE, nn_params_join(p, 2, (nn_param *[]){ part[1], part[3] }, &again));
    FAILS(NN_SHAPE, nn_params_join(p, 2, (nn_param *[]){ part[0], part[3] }, &again));
    FAILS(NN_SHAPE, nn_params_join(p, 2, (nn_param *[]){ part[3], part[3] }, &again));
    nn_params_destroy(p);

    open_net(&n, "ref", NN_F32, false, false); /* allocated with each by itself */
    nn_graph_destroy(n.g);
    OK(nn_graph_create(&n.g));
    n.x = nn_input(n.g, "x", NN_F32, NN_DIMS(ROWS, IN));
    build(&n, true);
    FAILS(NN_ARGUMENT, nn_graph_status(n.g));
    MESSAGE_HAS("net.left.weight and 1 others");
    close_net(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_numbers),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
