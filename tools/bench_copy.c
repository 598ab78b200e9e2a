/* One graph of a case, ready to run. */
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/optim.h"
#include "tools/bench.h"

enum {
    BLOCK = 65521, /* random numbers; longer tensors repeat them. A prime: rows differ */
    IDS = 1000     /* every table has more rows */
};

bool bench_measures(const bench_case *c, const nn_node *node)
{
    const char *name = nn_op_name(node->op), *end = strstr(name, "_bwd");
    size_t n = end ? (size_t)(end - name) : strlen(name);
    for (const char *word = c->measure; word && *word; word += strspn(word, " ")) {
        size_t length = strcspn(word, " ");
        if (length == n && strncmp(word, name, n) == 0) return true;
        word += length;
    }
    return false;
}

static void fill_block(const char *name, float scale, float offset, int64_t n, float *out)
{
    nn_rng rng = nn_rng_make(1, name, 0);
    int64_t first = nn_min(n, BLOCK);
    nn_rng_normal_fill(&rng, out, first);
    for (int64_t i = 0; i < first; i++) out[i] = scale * out[i] + offset;
    for (int64_t i = first; i < n; i += BLOCK)
        memcpy(out + i, out, (size_t)nn_min(n - i, BLOCK) * sizeof(float));
}

static nn_status write_input(nn_plan *plan, nn_tensor *t)
{
    int64_t n = nn_view_elems(&t->view);
    float *numbers = nn_alloc(nn_max(n, 1), sizeof(*numbers));
    NN_NEED(numbers);
    int32_t *ids = (int32_t *)numbers;
    nn_rng rng = nn_rng_make(1, t->name, 0);
    if (t->view.dtype == NN_F32)
        fill_block(t->name, 1, 0, n, numbers);
    else
        for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)nn_rng_below(&rng, IDS);
    nn_status status = nn_plan_write(plan, t, numbers);
    nn_free(numbers);
    return status;
}

/* Not as networks begin: a bias of zeros would hide that nobody adds it. */
static nn_status write_params(nn_params *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        const nn_param *param = p->items[i];
        bool matrix = param->init.kind == NN_INIT_NORMAL || param->init.kind == NN_INIT_UNIFORM;
        int64_t n = nn_view_elems(&param->view);
        float *numbers = nn_alloc(n, sizeof(*numbers));
        NN_NEED(numbers);
        fill_block(param->name, matrix ? param->init.scale : .1f,
                   param->init.kind == NN_INIT_ONES ? 1 : 0, n, numbers);
        nn_status status = nn_params_write(p, p->items[i], numbers);
        nn_free(numbers);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status make_params(const bench_case *c, nn_device *device, bench_copy *copy)
{
    nn_graph *g;
    NN_TRY(nn_params_create(&copy->params));
    NN_TRY(nn_graph_create(&g));
    (void)c->build(c, nn_root(g, copy->params, ""));
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(copy->params, device, c->training));
    NN_TRY(write_params(copy->params));
    if (c->optimize == BENCH_NO_UPDATE) return NN_OK;
    const nn_adamw_options options = NN_ADAMW_DEFAULTS;
    return nn_optimizer_create(copy->params, &options, &copy->optimizer);
}

/* Measured nodes are run by themselves, so what they read and write must stay. */
static void keep_measured(const bench_case *c, nn_graph *g)
{
    for (int64_t i = 0; i < g->n_nodes; i++) {
        const nn_node *n = g->nodes[i];
        if (!bench_measures(c, n)) continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k]) nn_keep(n->in[k]->root);
        for (int k = 0; k < n->n_out; k++) nn_keep(n->out[k]);
    }
}

/* A sum with random weights, so that a random gradient arrives. */
static nn_tensor *make_loss(nn_graph *g, nn_tensor *y)
{
    static const int64_t ones[NN_MAX_RANK] = { 1, 1, 1, 1, 1, 1 };
    if (nn_view_elems(&y->view) == 1) return y;
    nn_tensor *weights = nn_input(g, "weights", NN_F32, y->view.rank, y->view.dim);
    return nn_sum(g, nn_mul(g, y, weights), y->view.rank, ones);
}

static void build(const bench_case *c, nn_device *device, bench_copy *copy)
{
    nn_graph *g = copy->graph;
    if (c->training) nn_graph_training(g);
    nn_graph_compute(g, nn_device_storage(device));
    copy->out = c->build(c, nn_root(g, copy->params, ""));
    if (c->optimize != BENCH_ONLY_UPDATE) {
        copy->out = nn_precise(g, copy->out);
        nn_keep(copy->out);
    }
    if (c->training && c->optimize != BENCH_ONLY_UPDATE)
        nn_backward(g, make_loss(g, copy->out), 1.0, false);
    if (c->optimize) nn_optimizer_add(copy->optimizer, g);
    for (int64_t i = 0, n = g->n_tensors; i < n; i++)
        if (g->tensors[i]->kind == NN_INPUT && nn_grad_of(g->tensors[i]))
            nn_keep(nn_grad_of(g->tensors[i]));
    if (c->measure) keep_measured(c, g);
}

static nn_status make_plan(const bench_case *c, nn_device *device, bool profile, bench_copy *copy)
{
    const nn_plan_options options = { .frozen = !c->training, .profile = profile };
    NN_TRY(make_params(c, device, copy));
    NN_TRY(nn_graph_create(&copy->graph));
    build(c, device, copy);
    NN_TRY(nn_plan_create(copy->graph, device, &options, &copy->plan));
    for (int64_t i = 0; i < copy->graph->n_tensors; i++) {
        nn_tensor *t = copy->graph->tensors[i];
        if (t->kind == NN_INPUT && t->root == t) NN_TRY(write_input(copy->plan, t));
    }
    return copy->optimizer ? nn_optimizer_begin(copy->optimizer, copy->plan, 1e-6) : NN_OK;
}

nn_status bench_copy_open(const bench_case *c, nn_device *device, bool profile, bench_copy *out)
{
    *out = (bench_copy){ 0 };
    nn_status status = make_plan(c, device, profile, out);
    if (status != NN_OK) bench_copy_close(out);
    return status;
}

void bench_copy_close(bench_copy *copy)
{
    nn_plan_destroy(copy->plan);
    nn_graph_destroy(copy->graph);
    nn_optimizer_destroy(copy->optimizer);
    nn_params_destroy(copy->params);
    *copy = (bench_copy){ 0 };
}
