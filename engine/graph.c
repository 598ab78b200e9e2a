/* Nodes, tensors, scopes and the sticky error. */
#include "engine/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/nn.h"

#define NN_OP(ID, name) extern const nn_op nn_op_##name;
#include "kernels/ops.def"
#undef NN_OP

const nn_op *nn_op_of(nn_op_id id)
{
    static const nn_op *const table[NN_OP_COUNT] = {
#define NN_OP(ID, name) &nn_op_##name,
#include "kernels/ops.def"
#undef NN_OP
    };
    return table[id];
}

nn_status nn_graph_create(nn_graph **out)
{
    nn_graph *g = nn_alloc(1, sizeof(*g));
    NN_NEED(g);
    g->scope = "";
    g->compute = NN_F32;
    g->poison = (nn_tensor){ .kind = NN_POISON, .name = "(error)" };
    g->poison.root = &g->poison;
    for (int i = 0; i < NN_MAX_RANK; i++) g->poison.view.dim[i] = 1;
    g->poison.view.rank = NN_MAX_RANK;
    *out = g;
    return NN_OK;
}

void nn_graph_destroy(nn_graph *g)
{
    if (!g) return;
    nn_arena_free(&g->arena);
    nn_free(g->nodes);
    nn_free(g->tensors);
    nn_free(g->error);
    nn_free(g);
}

nn_tensor *nn_graph_stick(nn_graph *g, nn_status status)
{
    if (g->status == NN_OK) {
        g->status = status;
        g->error = nn_strdup(nn_error_message());
    }
    return &g->poison;
}

nn_status nn_graph_status(const nn_graph *g)
{
    return g->status == NN_OK ? NN_OK
                              : nn_fail(g->status, "%s", g->error ? g->error : "out of memory");
}

nn_status nn_node_fail(const nn_node *n, const char *fmt, ...)
{
    char words[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    return nn_fail(NN_SHAPE, "%s%s%s: %s", n->scope, n->scope[0] ? ": " : "", nn_op_name(n->op),
                   words);
}

static nn_tensor *new_tensor(nn_graph *g, nn_tensor_kind kind, const nn_view *view)
{
    nn_tensor *t = nn_arena_alloc(&g->arena, 1, sizeof(*t));
    if (!t ||
        nn_grow(&g->tensors, &g->tensors_capacity, g->n_tensors, sizeof(*g->tensors)) != NN_OK) {
        nn_graph_stick(g, NN_MEMORY);
        return NULL;
    }
    t->view = *view;
    t->view.data = NULL;
    t->kind = kind;
    t->id = (int)g->n_tensors;
    t->root = t;
    t->name = g->scope;
    g->tensors[g->n_tensors++] = t;
    return t;
}

static bool poisoned(int n_in, nn_tensor *const in[])
{
    for (int i = 0; i < n_in; i++)
        if (in[i] && in[i]->kind == NN_POISON) return true;
    return false;
}

/* Where out[slot] of a view op starts in in[0]. */
static int64_t view_offset(const nn_node *n, int slot)
{
    if (n->op == NN_OP_SPLIT)
        return slot * nn_last(&n->in[0]->view, 0) / n->n_out *
               n->in[0]->view.stride[n->in[0]->view.rank - 1];
    return ((const nn_view_params *)n->params)->offset;
}

static nn_status add_outputs(nn_graph *g, nn_node *n, const nn_op *op, const nn_view *out)
{
    bool needs_grad = false;
    for (int i = 0; i < n->n_in; i++) needs_grad |= n->in[i] && n->in[i]->needs_grad;
    for (int i = 0; i < n->n_out; i++) {
        nn_tensor *t = new_tensor(g, NN_ACTIVATION, &out[i]);
        if (!t) return NN_MEMORY;
        t->node = n;
        t->slot = i;
        t->needs_grad = needs_grad && op->grad;
        if (op->is_view || op->aliases) {
            NN_ASSERT(n->in[0]);
            t->root = n->in[0]->root;
            t->offset = n->in[0]->offset + (op->is_view ? view_offset(n, i) : 0);
        }
        n->out[i] = t;
    }
    return NN_OK;
}

static nn_status build_node(nn_graph *g, nn_node *n, const void *params, int n_in,
                            nn_tensor *const in[])
{
    const nn_op *op = nn_op_of(n->op);
    NN_ASSERT(n_in <= NN_MAX_IN);
    n->graph = g;
    n->id = (int)g->n_nodes;
    n->scope = g->scope;
    n->segment = g->in_backward ? 0 : g->segment;
    n->backward = g->in_backward;
    n->stream = nn_mix((uint64_t)n->id, nn_hash_text(g->scope));
    n->n_in = n_in;
    if (n_in) memcpy(n->in, in, (size_t)n_in * sizeof(*in));
    if (op->params_bytes) {
        void *copy = nn_arena_alloc(&g->arena, 1, op->params_bytes);
        NN_NEED(copy);
        NN_ASSERT(params);
        memcpy(copy, params, op->params_bytes);
        n->params = copy;
    }
    nn_view out[NN_MAX_OUT] = { 0 };
    n->n_out = op->n_out ? op->n_out : 1;
    NN_TRY(op->infer(n, out));
    while (n->n_out < NN_MAX_OUT && out[n->n_out].dtype != NN_NONE)
        n->n_out++; /* ops with many outputs */
    NN_TRY(add_outputs(g, n, op, out));
    NN_TRY(nn_grow(&g->nodes, &g->nodes_capacity, g->n_nodes, sizeof(*g->nodes)));
    g->nodes[g->n_nodes++] = n;
    return NN_OK;
}

nn_tensor *nn_node_add(nn_graph *g, nn_op_id op, const void *params, int n_in,
                       nn_tensor *const in[])
{
    if (g->status != NN_OK || poisoned(n_in, in)) return &g->poison;
    nn_node *n = nn_arena_alloc(&g->arena, 1, sizeof(*n));
    if (!n) return nn_graph_stick(g, NN_MEMORY);
    n->op = op;
    nn_status status = build_node(g, n, params, n_in, in);
    return status == NN_OK ? n->out[0] : nn_graph_stick(g, status);
}

nn_tensor *nn_sibling(nn_tensor *t, int slot)
{
    if (t->kind == NN_POISON) return t;
    NN_ASSERT(t->node && slot < t->node->n_out);
    return t->node->out[slot];
}

nn_tensor *nn_external(nn_graph *g, const char *name, const nn_view *view, void *data)
{
    nn_tensor *t = g->status == NN_OK ? new_tensor(g, NN_EXTERNAL, view) : NULL;
    if (!t) return &g->poison;
    t->name = name;
    t->external = data;
    return t;
}

nn_tensor *nn_input(nn_graph *g, const char *name, nn_dtype dtype, int rank, const int64_t *dim)
{
    nn_view view = nn_view_make(dtype, rank, dim);
    nn_tensor *t = g->status == NN_OK ? new_tensor(g, NN_INPUT, &view) : NULL;
    if (!t) return &g->poison;
    t->name = nn_arena_strdup(&g->arena, name);
    return t->name ? t : nn_graph_stick(g, NN_MEMORY);
}

nn_view nn_leading(const nn_view *x, int n)
{
    return nn_view_make(nn_stat_dtype(x), x->rank - n, x->dim);
}

void nn_require_grad(nn_tensor *t)
{
    t->needs_grad = true;
}

void nn_keep(nn_tensor *t)
{
    t->keep = true;
    t->root->keep = true;
}

nn_scope nn_root(nn_graph *g, nn_params *params, const char *name)
{
    char *path = nn_arena_strdup(&g->arena, name);
    if (!path) nn_graph_stick(g, NN_MEMORY);
    return (nn_scope){ g, params, path ? path : "" };
}

nn_scope nn_at(nn_scope s, const char *fmt, ...)
{
    char name[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    char *path = nn_arena_format(&s.g->arena, "%s%s%s", s.path, s.path[0] ? "." : "", name);
    if (!path) nn_graph_stick(s.g, NN_MEMORY);
    s.path = path ? path : "";
    s.g->scope = s.path;
    return s;
}

void nn_enter(nn_scope s)
{
    s.g->scope = s.path;
}

/* A graph holds one tensor per parameter, so that all its uses add up to one gradient. */
static nn_tensor *known_param(const nn_graph *g, const nn_param *param)
{
    for (int64_t i = 0; i < g->n_tensors; i++)
        if (g->tensors[i]->param == param) return g->tensors[i];
    return NULL;
}

/* Networks in f32 may run on a store of bf16 values. */
static nn_tensor *as_computed(nn_graph *g, nn_tensor *t)
{
    return g->compute == NN_BF16 ? t : nn_precise(g, t);
}

/* Matrices and kernels are read as bf16 where the graph computes so, vectors as they are. */
static nn_tensor *add_param(nn_graph *g, nn_params *store, nn_param *param)
{
    nn_view view = param->view;
    if (g->compute == NN_BF16 && view.rank >= 2) {
        nn_status status = nn_params_lower(store);
        if (status != NN_OK) return nn_graph_stick(g, status);
        view.dtype = NN_BF16;
        view.data = param->half;
    }
    nn_tensor *t = nn_external(g, param->name, &view, view.data);
    if (t->kind == NN_POISON) return t;
    t->param = param;
    t->store = store;
    t->needs_grad = g->training && store->trained;
    return as_computed(g, t);
}

static nn_tensor *tensor_of(nn_graph *g, nn_params *store, nn_param *param)
{
    nn_tensor *t = known_param(g, param);
    return t ? as_computed(g, t) : add_param(g, store, param);
}

nn_tensor *nn_param_at(nn_scope s, const char *name, nn_init init, int rank, const int64_t *dim)
{
    if (s.g->status != NN_OK) return &s.g->poison;
    char full[256];
    snprintf(full, sizeof(full), "%s%s%s", s.path, s.path[0] ? "." : "", name);
    nn_param *param;
    nn_status status = nn_params_declare(s.params, full, init, rank, dim, &param);
    return status == NN_OK ? tensor_of(s.g, s.params, param) : nn_graph_stick(s.g, status);
}

nn_tensor *nn_params_joined(nn_graph *g, int n, nn_tensor *const parts[])
{
    if (g->status != NN_OK) return &g->poison;
    NN_ASSERT(n > 0);
    nn_param **params = nn_arena_alloc(&g->arena, n, sizeof(nn_param *)), *joined;
    if (!params) return nn_graph_stick(g, NN_MEMORY);
    nn_params *store = NULL;
    for (int i = 0; i < n; i++) {
        const nn_tensor *t = parts[i]->param ? parts[i] : parts[i]->node->in[0]; /* before a cast */
        params[i] = t->param;
        store = t->store;
    }
    nn_status status = nn_params_join(store, n, params, &joined);
    return status == NN_OK ? tensor_of(g, store, joined) : nn_graph_stick(g, status);
}

void nn_checkpoint_begin(nn_graph *g)
{
    NN_ASSERT(!g->segment);
    g->segment = ++g->n_segments;
}

void nn_checkpoint_end(nn_graph *g)
{
    g->segment = 0;
}
