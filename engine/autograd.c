/* Autograd: the gradient is more graph.
 *
 * The nodes are walked backwards; each op's grad builds the nodes that turn the gradients of its
 * outputs into those of its inputs. This file knows no op by name. A checkpointed segment is copied
 * (forward again) when the walk reaches its last node, and the copies stand in for the originals,
 * whose outputs thereby die early. */
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/nn.h"

typedef struct walk {
    nn_graph *g;
    nn_tensor **grad;     /* by tensor id: sum of the gradients that arrived */
    nn_tensor **copy;     /* by tensor id: the recomputed stand-in */
    int64_t n;            /* tensors that existed before the walk */
    int64_t copied_from;  /* segment copied last */
    int64_t *first;       /* by tensor id: the first node that reads it, plus 1; 0 = none */
    bool accumulate;      /* add to the gradients that are kept */
    nn_use_gradient *use; /* NULL: gradients are kept */
    void *ctx;
} walk;

void nn_graph_training(nn_graph *g)
{
    g->training = true;
}

nn_tensor *nn_grad_of(const nn_tensor *t)
{
    return t->grad;
}

/* An activation's gradient has its type; that of parameters and inputs, which is where gradients
 * are read, has the type of statistics. */
static nn_dtype gradient_dtype(const nn_tensor *t)
{
    return t->root->kind == NN_ACTIVATION ? t->view.dtype : nn_stat_dtype(&t->view);
}

static void arrive(walk *w, const nn_tensor *t, nn_tensor *gradient)
{
    if (!gradient || !t->needs_grad) return;
    gradient = nn_cast(w->g, gradient, gradient_dtype(t));
    nn_tensor **sum = &w->grad[t->id];
    *sum = *sum ? nn_add(w->g, *sum, gradient) : gradient;
}

/* The tensor to read in backward: the recomputed copy where there is one. */
static nn_tensor *stand_in(const walk *w, nn_tensor *t)
{
    return t && t->id < w->n && w->copy[t->id] ? w->copy[t->id] : t;
}

static void copy_node(walk *w, const nn_node *n)
{
    nn_tensor *in[NN_MAX_IN];
    for (int i = 0; i < n->n_in; i++) in[i] = stand_in(w, n->in[i]);
    w->g->scope = n->scope;
    nn_tensor *out = nn_node_add(w->g, n->op, n->params, n->n_in, in);
    if (out->kind == NN_POISON) return;
    out->node->stream = n->stream;
    for (int i = 0; i < n->n_out; i++) w->copy[n->out[i]->id] = out->node->out[i];
}

static void copy_segment(walk *w, int64_t last)
{
    int segment = w->g->nodes[last]->segment;
    int64_t first = last;
    while (first > 0 && w->g->nodes[first - 1]->segment == segment) first--;
    for (int64_t i = first; i <= last; i++) copy_node(w, w->g->nodes[i]);
    w->copied_from = segment;
}

static nn_status back_node(walk *w, const nn_node *n)
{
    const nn_op *op = nn_op_of(n->op);
    nn_tensor *dy[NN_MAX_OUT] = { 0 }, *dx[NN_MAX_IN] = { 0 };
    bool any = false, wanted = false;
    for (int i = 0; i < n->n_out; i++) any |= (dy[i] = w->grad[n->out[i]->id]) != NULL;
    for (int i = 0; i < n->n_in; i++) wanted |= nn_wants_grad(n, i);
    if (!any || !wanted || !op->grad) return NN_OK;

    nn_node seen = *n; /* the node as backward may read it */
    for (int i = 0; i < n->n_in; i++) seen.in[i] = stand_in(w, n->in[i]);
    for (int i = 0; i < n->n_out; i++) seen.out[i] = stand_in(w, n->out[i]);
    w->g->scope = n->scope;
    NN_TRY(op->grad(w->g, &seen, dy, dx));
    for (int i = 0; i < n->n_in; i++)
        if (nn_wants_grad(n, i)) arrive(w, n->in[i], dx[i]);
    return NN_OK;
}

/* A parameter's gradient must end in its place in the store's buffer. */
static void keep(walk *w, nn_tensor *t, nn_tensor *gradient)
{
    const nn_view like = t->param->view;
    nn_status status = nn_params_keep_grads(t->store);
    if (status != NN_OK) {
        nn_graph_stick(w->g, status);
        return;
    }
    void *place = (char *)t->store->grads + t->param->offset * nn_dtype_bytes(like.dtype);
    if (w->accumulate) {
        nn_tensor *sum = nn_external(w->g, t->name, &like, place);
        NN_NODE(w->g, ACCUMULATE, NULL, sum, gradient);
        return;
    }
    bool own = gradient->root == gradient && gradient->kind == NN_ACTIVATION &&
               !gradient->external && !gradient->bound && nn_view_contiguous(&gradient->view) &&
               gradient->view.dtype == like.dtype;
    if (!own) gradient = NN_NODE(w->g, COPY, &(nn_copy_params){ like.dtype }, gradient);
    gradient->bound = true;
    gradient->external = place;
}

/* Or be used up where it is, which may change the parameter. */
static void hand_over(walk *w, nn_tensor *t, nn_tensor *gradient)
{
    const nn_dtype dtype = t->param->view.dtype;
    if (!nn_view_contiguous(&gradient->view) || gradient->view.dtype != dtype)
        gradient = NN_NODE(w->g, COPY, &(nn_copy_params){ dtype }, gradient);
    w->use(w->ctx, w->g, t, gradient);
}

/* What node n is the first to read: nothing before it adds to its gradient, and nothing behind its
 * backward nodes, those of recomputed copies included, reads its values. */
static void deliver(walk *w, const nn_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        nn_tensor *t = n->in[i];
        if (!t || !t->param || w->first[t->id] != n->id + 1) continue;
        w->first[t->id] = 0; /* it may be an operand twice */
        nn_tensor *gradient = w->grad[t->id];
        if (!gradient || gradient->kind == NN_POISON) continue;
        NN_ASSERT(!t->param->inner && !t->param->joined); /* see nn_params_joined */
        w->g->scope = t->name;
        if (w->use)
            hand_over(w, t, gradient);
        else
            keep(w, t, gradient);
    }
}

static nn_status find_first_readers(walk *w)
{
    const nn_graph *g = w->g;
    NN_NEED(w->first = nn_alloc(w->n, sizeof(*w->first)));
    for (int64_t i = g->n_nodes - 1; i >= 0; i--)
        for (int k = 0; k < g->nodes[i]->n_in; k++)
            if (g->nodes[i]->in[k]) w->first[g->nodes[i]->in[k]->id] = i + 1;
    return NN_OK;
}

static nn_status walk_back(walk *w, nn_tensor *loss, double scale)
{
    nn_graph *g = w->g;
    int64_t n_nodes = g->n_nodes;
    w->grad = nn_alloc(w->n, sizeof(*w->grad));
    NN_NEED(w->grad);
    w->copy = nn_alloc(w->n, sizeof(*w->copy));
    NN_NEED(w->copy);
    NN_TRY(find_first_readers(w));
    w->grad[loss->id] = nn_fill(g, loss->view.dtype, loss->view.rank, loss->view.dim, scale);
    for (int64_t i = n_nodes - 1; i >= 0; i--) {
        const nn_node *n = g->nodes[i];
        if (n->segment && n->segment != w->copied_from) copy_segment(w, i);
        NN_TRY(back_node(w, n));
        deliver(w, n);
    }
    for (int64_t i = 0; i < w->n; i++) g->tensors[i]->grad = w->grad[i];
    return NN_OK;
}

static void backward(walk *w, nn_tensor *loss, double scale)
{
    nn_graph *g = w->g;
    if (g->status != NN_OK) return;
    w->n = g->n_tensors;
    const char *scope = g->scope;
    g->in_backward = true;
    nn_status status = walk_back(w, loss, scale);
    g->in_backward = false;
    g->scope = scope;
    nn_free(w->grad);
    nn_free(w->copy);
    nn_free(w->first);
    if (status != NN_OK) nn_graph_stick(g, status);
}

void nn_backward(nn_graph *g, nn_tensor *loss, double scale, bool accumulate)
{
    walk w = { .g = g, .accumulate = accumulate };
    backward(&w, loss, scale);
}

void nn_backward_using(nn_graph *g, nn_tensor *loss, double scale, nn_use_gradient *use, void *ctx)
{
    walk w = { .g = g, .use = use, .ctx = ctx };
    backward(&w, loss, scale);
}
