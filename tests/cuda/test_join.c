/* Parts of a concatenation are written where they belong in the whole (engine/plan_join.c): no
 * kernel copies them, and values and gradients have the bits that they have when one does. */
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "models/block/attention.h"
#include "tests/unit/engine_check.h"

enum { BATCH = 2, HEIGHT = 6, WIDTH = 5, IN = 8, OUT = 4, GROUPS = 2 };

typedef struct subject {
    nn_dtype dtype;
    int64_t first, second; /* channels of the parts */
    int axis;
    bool keep;   /* the host wants to read a part, which nails it down */
    bool reader; /* somebody reads a part in another shape, which he must see packed */
    bool hostile;
    bool attention; /* not a skip: gradients of queries, keys and values that are one product */
} subject;

typedef struct net {
    nn_device *device;
    nn_params *params;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *x, *target, *loss, *y, *small;
} net;

/* The second part is what a skip is in a UNet: read by a norm, as a residual, by a convolution with
 * strides, and joined with the first. */
static nn_tensor *build_skip(net *n, const subject *s)
{
    nn_graph *g = n->g;
    nn_scope root = nn_root(g, n->params, "net");
    n->x = nn_input(g, "x", NN_F32, NN_DIMS(BATCH, HEIGHT, WIDTH, IN));
    nn_tensor *skip = conv_same(nn_at(root, "skip"), n->x, s->second, 3);
    n->small = conv(nn_at(root, "down"), skip, OUT, 3, (nn_conv){ 2, 1, 1, 1, 1 }, NULL, NULL);
    nn_tensor *h = groupnorm_silu(nn_at(root, "norm"), skip, GROUPS, 1e-5);
    h = conv(nn_at(root, "conv"), h, s->second, 3, (nn_conv){ 1, 1, 1, 1, 1 }, NULL, skip);
    h = conv_same(nn_at(root, "first"), h, s->first, 1);
    nn_tensor *whole = nn_concat(g, 2, (nn_tensor *[]){ h, skip }, s->axis);
    if (s->keep) nn_keep(skip);
    if (s->reader)
        n->small = nn_add(
            g, n->small, nn_sum(g, nn_reshape(g, skip, 1, (int64_t[]){ -1 }), 1, (int64_t[]){ 1 }));
    n->y = conv_same(nn_at(root, "out"), groupnorm_silu(nn_at(root, "last"), whole, GROUPS, 1e-5),
                     OUT, 3);
    return n->y;
}

/* Parts are seen as [B, T, C], but made as [B, T, heads, C / heads]. */
static nn_tensor *build_attention(net *n, const subject *s)
{
    const int heads = 2;
    nn_scope root = nn_root(n->g, n->params, "net");
    n->x = nn_input(n->g, "x", NN_F32, NN_DIMS(BATCH, HEIGHT * WIDTH, IN));
    nn_tensor *h = linear(nn_at(root, "in"), n->x, s->first, BIAS);
    h = cross_attention(nn_at(root, "attn"), h, (attention_source){ .context = h }, heads, BIAS, h);
    n->small = h;
    return n->y = linear(nn_at(root, "out"), h, OUT, BIAS);
}

static nn_tensor *build(net *n, const subject *s)
{
    nn_tensor *y = nn_precise(n->g, s->attention ? build_attention(n, s) : build_skip(n, s));
    n->target = nn_input(n->g, "target", NN_F32, y->view.rank, y->view.dim);
    return nn_mse(n->g, y, n->target, NULL);
}

/* What attention hands back cannot be named. */
static void keep_gradients(nn_graph *g)
{
    for (int64_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == NN_OP_ATTENTION_BWD) nn_keep(g->nodes[i]->out[0]);
}

static void open_net(net *n, const subject *s)
{
    const nn_plan_options options = { .hostile = s->hostile };
    *n = (net){ 0 };
    OK(nn_device_open("cuda", 1, &n->device));
    OK(nn_device_compute(n->device, s->dtype));
    OK(nn_params_create(&n->params));
    OK(nn_graph_create(&n->g));
    build(n, s);
    OK(nn_graph_status(n->g));
    nn_graph_destroy(n->g);
    OK(nn_params_alloc(n->params, n->device, true));
    OK(nn_params_init(n->params, 1));
    OK(nn_graph_create(&n->g));
    nn_graph_training(n->g);
    nn_graph_compute(n->g, s->dtype);
    n->loss = build(n, s);
    nn_keep(n->y);
    nn_keep(n->small);
    nn_backward(n->g, n->loss, 1, false);
    if (s->keep) keep_gradients(n->g);
    OK(nn_plan_create(n->g, n->device, &options, &n->plan));
}

static void close_net(net *n)
{
    nn_plan_destroy(n->plan);
    nn_graph_destroy(n->g);
    nn_params_destroy(n->params);
    nn_device_close(n->device);
}

static int copies(const nn_plan *plan)
{
    int n = 0;
    for (int64_t i = 0; i < nn_plan_n_steps(plan); i++)
        n += nn_plan_step_at(plan, i).node->op == NN_OP_CONCAT;
    return n;
}

/* Gradients, y and small of a run, as bytes; the caller frees them. */
static char *run(net *n, int64_t *bytes)
{
    float x[BATCH * HEIGHT * WIDTH * IN];
    nn_rng rng = nn_rng_make(1, "x", 0);
    nn_rng_normal_fill(&rng, x, NN_COUNT(x));
    OK(nn_plan_write(n->plan, n->x, x));
    nn_rng_normal_fill(&rng, x, NN_COUNT(x));
    OK(nn_plan_write(n->plan, n->target, x));
    OK(nn_plan_run(n->plan, 0));
    const int64_t grads = n->params->n_elems * (int64_t)sizeof(float);
    const int64_t y = nn_view_bytes(&n->y->view);
    *bytes = grads + y + nn_view_bytes(&n->small->view);
    char *all = nn_alloc(*bytes, 1);
    assert_non_null(all);
    OK(n->device->backend->read(n->device, all, n->params->grads, grads));
    OK(nn_plan_read(n->plan, n->y, all + grads));
    OK(nn_plan_read(n->plan, n->small, all + grads + y));
    return all;
}

static void expect(subject s, int want_copies)
{
    net joined, apart;
    int64_t bytes, same;
    open_net(&joined, &s);
    assert_int_equal(copies(joined.plan), want_copies);
    char *got = run(&joined, &bytes);
    s.keep = true;
    s.hostile = false;
    open_net(&apart, &s);
    assert_int_equal(copies(apart.plan), 1);
    char *want = run(&apart, &same);
    assert_int_equal(bytes, same);
    assert_memory_equal(got, want, (size_t)bytes);
    nn_free(got);
    nn_free(want);
    close_net(&joined);
    close_net(&apart);
}

static void test_joins(void **unused)
{
    (void)unused;
    for (int hostile = 0; hostile < 2; hostile++)
        for (int dtype = 0; dtype < 2; dtype++) {
            subject s = { .first = 16, .second = 24, .axis = -1, .hostile = hostile };
            s.dtype = dtype ? NN_BF16 : NN_F32;
            expect(s, 0);
            s.first = 40;
            expect(s, 0);
        }
}

/* Along the rows of an image, parts are runs of pixels. */
static void test_axis(void **unused)
{
    (void)unused;
    expect((subject){ .dtype = NN_F32, .first = 8, .second = 8, .axis = 1 }, 1);
    expect((subject){ .dtype = NN_BF16, .first = 8, .second = 8, .axis = 0 }, 0);
}

static void test_attention(void **unused)
{
    (void)unused;
    for (int hostile = 0; hostile < 2; hostile++) {
        expect((subject){ .dtype = NN_F32, .first = 16, .hostile = hostile, .attention = true }, 0);
        expect((subject){ .dtype = NN_BF16, .first = 80, .hostile = hostile, .attention = true },
               0);
    }
}

static void test_stays(void **unused)
{
    (void)unused;
    subject s = { .dtype = NN_F32, .first = 16, .second = 24, .axis = -1, .keep = true };
    expect(s, 1);
    s.keep = false;
    s.reader = true;
    expect(s, 1);
    s = (subject){ .dtype = NN_F32, .first = 14, .second = 22, .axis = -1 };
    expect(s, 1); /* rows begin anywhere */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins),
        cmocka_unit_test(test_axis),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
