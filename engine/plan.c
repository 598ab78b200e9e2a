/* The planner: which nodes run, with which kernels, in which memory. */
#include "engine/plan.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/nn.h"
#include "engine/plan_internal.h"

/* A node lives if somebody outside can see what it does, or a living node reads it. */
static void mark(const nn_graph *g, bool *lives)
{
    for (int64_t i = g->n_nodes - 1; i >= 0; i--) {
        const nn_node *n = g->nodes[i];
        bool seen = lives[i] || nn_op_of(n->op)->mutates;
        for (int k = 0; k < n->n_out; k++) seen |= n->out[k]->keep || n->out[k]->bound;
        lives[i] = seen;
        for (int k = 0; seen && k < n->n_in; k++)
            if (n->in[k] && n->in[k]->node) lives[n->in[k]->node->id] = true;
    }
}

/* A view as kernels are chosen by: its address is not known yet, but its alignment is, since
 * storage begins at multiples of 64 bytes. What is part of a whole steps as that does; only the
 * root is seen by kernels then. */
static nn_view describe_view(const nn_plan *plan, const nn_tensor *t)
{
    const nn_place *place = &plan->places[t->root->id];
    nn_view v = t->view;
    uintptr_t start = (uintptr_t)t->root->external % 64;
    v.data = (void *)(start + (uintptr_t)(nn_plan_offset(plan, t) * nn_dtype_bytes(v.dtype)));
    if (place->whole) memcpy(v.stride, place->part_stride, sizeof(v.stride));
    return v;
}

void nn_plan_describe(const nn_plan *plan, const nn_node *n, nn_call *c)
{
    c->n_in = n->n_in;
    c->n_out = n->n_out;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) c->in[i] = describe_view(plan, n->in[i]);
    for (int i = 0; i < n->n_out; i++) c->out[i] = describe_view(plan, n->out[i]);
    c->params = n->params;
    c->pool = plan->device->pool;
    c->stream = plan->device->stream;
    c->frozen = plan->options.frozen;
    c->deterministic = plan->device->deterministic;
    c->arithmetic = nn_device_storage(plan->device) == NN_F32 ? plan->device->arithmetic : NN_F32;
}

static nn_status choose(nn_plan *plan, nn_step *s)
{
    const nn_node *n = s->node;
    nn_call *c = &s->call;
    nn_plan_describe(plan, n, c);
    for (int skip = plan->options.skip; skip >= 0 && !s->kernel; skip--)
        s->kernel = nn_device_kernel(plan->device, n->op, c, skip);
    if (!s->kernel)
        return nn_fail(NN_UNSUPPORTED, "%s: %s: no kernel of device %s takes %s", n->scope,
                       nn_op_name(n->op), plan->device->backend->name, nn_view_text(&c->in[0]).s);
    if (s->kernel->workspace) c->workspace_bytes = s->kernel->workspace(c);
    if (s->kernel->prepare) NN_TRY(s->kernel->prepare(c));
    return NN_OK;
}

static bool is_fallback(const nn_plan *plan, const nn_step *s)
{
    for (const nn_kernel *k = plan->device->backend->kernels[s->node->op]; k && k->name; k++)
        if (k == s->kernel) return false;
    return true;
}

static nn_plan_step account(const nn_step *s)
{
    const nn_op *op = nn_op_of(s->node->op);
    nn_plan_step a = { .node = s->node, .kernel = s->kernel->name };
    for (int i = 0; i < s->call.n_in; i++) a.bytes += (double)nn_view_bytes(&s->call.in[i]);
    for (int i = 0; i < s->call.n_out; i++) a.bytes += (double)nn_view_bytes(&s->call.out[i]);
    if (op->cost) op->cost(s->node, &a.flops, &a.bytes);
    a.moved_bytes = a.bytes + (s->kernel->extra_bytes ? s->kernel->extra_bytes(&s->call)
                                                      : 2 * (double)s->call.workspace_bytes);
    return a;
}

static void count(nn_plan *plan, nn_step *s)
{
    const nn_plan_step a = account(s);
    plan->stats.flops += a.flops;
    plan->stats.bytes += a.bytes;
    plan->stats.moved_bytes += a.moved_bytes;
    plan->stats.n_launches++;
    plan->run_workspace =
        nn_max(plan->run_workspace, ((int64_t)s->call.workspace_bytes + 63) / 64 * 64);
    plan->stats.workspace_bytes = nn_max(nn_max(plan->stats.workspace_bytes, plan->run_workspace),
                                         ((int64_t)s->call.repack_bytes + 63) / 64 * 64);
    s->packed_offset = plan->stats.packed_bytes;
    plan->stats.packed_bytes += ((int64_t)s->call.packed_bytes + 63) / 64 * 64;
    if (is_fallback(plan, s)) {
        plan->stats.n_fallbacks++;
        nn_log(NN_LOG_DEBUG, "%s: %s falls back to %s", s->node->scope, nn_op_name(s->node->op),
               s->kernel->name);
    }
}

static nn_status make_steps(nn_plan *plan, const bool *lives)
{
    const nn_graph *g = plan->graph;
    plan->steps = nn_alloc(g->n_nodes, sizeof(*plan->steps));
    NN_NEED(plan->steps);
    for (int64_t i = 0; i < g->n_nodes; i++) {
        if (!lives[i] || nn_op_of(g->nodes[i]->op)->is_view) continue;
        nn_step *s = &plan->steps[plan->n_steps++];
        s->node = g->nodes[i];
        NN_TRY(choose(plan, s));
        count(plan, s);
    }
    return NN_OK;
}

static nn_status reserve(nn_plan *plan, int64_t bytes, char **out)
{
    *out = bytes ? plan->device->backend->alloc(plan->device, bytes) : NULL;
    return bytes && !*out
               ? nn_fail_prefix(NN_MEMORY, "the plan wants %.1f MB: ", (double)bytes / 1e6)
               : NN_OK;
}

static void connect(nn_plan *plan)
{
    for (int64_t k = 0; k < plan->n_steps; k++) {
        nn_step *s = &plan->steps[k];
        for (int i = 0; i < s->call.n_in; i++)
            if (s->node->in[i]) s->call.in[i].data = nn_plan_address(plan, s->node->in[i]);
        for (int i = 0; i < s->call.n_out; i++)
            s->call.out[i].data = nn_plan_address(plan, s->node->out[i]);
        s->call.workspace = plan->workspace;
        s->call.run_seed = plan->run_seed;
        s->call.stream_id = s->node->stream;
        if (s->call.packed_bytes) s->call.packed = plan->packed + s->packed_offset;
    }
}

static nn_status find_stores(nn_plan *plan)
{
    const nn_graph *g = plan->graph;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        nn_params *store = g->tensors[i]->store;
        int64_t k = 0;
        while (k < plan->n_stores && plan->stores[k] != store) k++;
        if (!store || k < plan->n_stores) continue;
        NN_TRY(nn_grow(&plan->stores, &plan->stores_capacity, k, sizeof(*plan->stores)));
        plan->stores[plan->n_stores++] = store;
    }
    return NN_OK;
}

static nn_status make_places(nn_plan *plan)
{
    plan->places = nn_alloc(plan->graph->n_tensors, sizeof(*plan->places));
    NN_NEED(plan->places);
    for (int64_t i = 0; i < plan->graph->n_tensors; i++) plan->places[i].same_as = -1;
    return NN_OK;
}

static nn_status build(nn_plan *plan)
{
    NN_TRY(nn_graph_status(plan->graph));
    NN_TRY(make_places(plan));
    bool *lives = nn_alloc(plan->graph->n_nodes, sizeof(*lives));
    NN_NEED(lives);
    mark(plan->graph, lives);
    nn_plan_join(plan, lives);
    int64_t resident = nn_clock_rss_bytes();
    nn_status status = make_steps(plan, lives);
    nn_free(lives);
    NN_TRY(status);
    plan->stats.program_bytes = nn_max(nn_clock_rss_bytes() - resident, 0);
    NN_TRY(nn_plan_sort_weights(plan));
    NN_TRY(nn_plan_layout(plan));
    NN_TRY(reserve(plan, plan->stats.activation_bytes, &plan->activations));
    NN_TRY(reserve(plan, plan->stats.workspace_bytes, &plan->workspace));
    NN_TRY(reserve(plan, plan->stats.packed_bytes, &plan->packed));
    NN_TRY(nn_plan_capture_reserve(plan));
    connect(plan);
    NN_TRY(find_stores(plan));
    return plan->options.hostile ? nn_plan_make_poison(plan) : NN_OK;
}

nn_status nn_plan_create(nn_graph *g, nn_device *device, const nn_plan_options *options,
                         nn_plan **out)
{
    nn_plan *plan = nn_alloc(1, sizeof(*plan));
    NN_NEED(plan);
    plan->graph = g;
    plan->device = device;
    if (options) plan->options = *options;
    nn_status status = build(plan);
    if (status != NN_OK) {
        nn_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return NN_OK;
}

void nn_plan_destroy(nn_plan *plan)
{
    if (!plan) return;
    const nn_backend *b = plan->device->backend;
    nn_plan_capture_free(plan);
    for (int64_t i = 0; plan->steps && i < plan->n_steps; i++) {
        nn_step *s = &plan->steps[i];
        if (s->kernel && s->kernel->release) s->kernel->release(&s->call);
    }
    if (plan->activations) b->free(plan->device, plan->activations);
    if (plan->workspace) b->free(plan->device, plan->workspace);
    if (plan->packed) b->free(plan->device, plan->packed);
    nn_free(plan->steps);
    nn_free(plan->places);
    nn_free(plan->stores);
    nn_free(plan->poison);
    nn_free(plan);
}

nn_plan_stats nn_plan_stats_of(const nn_plan *plan)
{
    return plan->stats;
}

/* With the gaps between its rows. */
static bool lies_in(const nn_view *v, const char *from, const char *to)
{
    const char *start = v->data;
    int64_t elems = nn_view_elems(v) > 0;
    for (int i = 0; i < v->rank && elems; i++) elems += (v->dim[i] - 1) * v->stride[i];
    return start && start < to && start + elems * nn_dtype_bytes(v->dtype) > from;
}

int64_t nn_plan_written(const nn_plan *plan, const void *from, const void *to)
{
    for (int64_t k = plan->n_steps; k > 0; k--) {
        const nn_call *c = &plan->steps[k - 1].call;
        const bool mutates = nn_op_of(plan->steps[k - 1].node->op)->mutates;
        for (int i = 0; i < c->n_out; i++)
            if (lies_in(&c->out[i], from, to)) return k;
        for (int i = 0; mutates && i < c->n_in; i++)
            if (lies_in(&c->in[i], from, to)) return k;
    }
    return 0;
}

int64_t nn_plan_n_steps(const nn_plan *plan)
{
    return plan->n_steps;
}

nn_plan_step nn_plan_step_at(const nn_plan *plan, int64_t i)
{
    NN_ASSERT(i >= 0 && i < plan->n_steps);
    return account(&plan->steps[i]);
}
