/* The planner's memory half: who is alive when, who may take over whose storage, and where
 * everything lies.
 *
 * Placement is greedy by size: the largest tensor first, each at the lowest offset that is free for
 * its whole life. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/plan_internal.h"

/* Root at the end of a chain of take-overs. */
static int64_t storage_of(const nn_plan *plan, int64_t id)
{
    while (plan->places[id].same_as >= 0) id = plan->places[id].same_as;
    return id;
}

static void touch(nn_plan *plan, const nn_tensor *t, int64_t step)
{
    if (!t) return;
    nn_place *p = &plan->places[storage_of(plan, t->root->id)];
    if (!p->used) p->first = step;
    p->used = true;
    p->last = nn_max(p->last, step);
}

static void find_lives(nn_plan *plan)
{
    const nn_graph *g = plan->graph;
    for (int64_t s = 0; s < plan->n_steps; s++) {
        const nn_node *n = plan->steps[s].node;
        for (int i = 0; i < n->n_out; i++) touch(plan, n->out[i], s);
        for (int i = 0; i < n->n_in; i++) touch(plan, n->in[i], s);
    }
    for (int64_t i = 0; i < g->n_tensors; i++) {
        const nn_tensor *t = g->tensors[i];
        if (!nn_is_planned(t)) continue;
        nn_place *p = &plan->places[t->id];
        if (t->kind == NN_INPUT) p->used = true, p->first = 0;
        if (t->kind == NN_INPUT || (t->keep && p->used)) p->last = plan->n_steps;
    }
}

static bool may_take_over(const nn_plan *plan, const nn_node *n, int i, int64_t step)
{
    const nn_tensor *in = n->in[i], *out = n->out[0];
    if (plan->places[out->id].whole || (in && plan->places[in->root->id].whole)) return false;
    if (!in || !nn_is_planned(in->root) || in->root->kind != NN_ACTIVATION || !nn_is_planned(out))
        return false;
    if (in->root->keep || out->view.dtype != in->view.dtype) return false;
    if (!nn_view_contiguous(&in->view) ||
        nn_view_bytes(&in->root->view) != nn_view_bytes(&out->view))
        return false;
    if (nn_view_elems(&in->view) != nn_view_elems(&out->view)) return false;
    for (int j = 0; j < n->n_in; j++)
        if (j != i && n->in[j] && n->in[j]->root == in->root) return false;
    return plan->places[storage_of(plan, in->root->id)].last == step;
}

static void take_over(nn_plan *plan)
{
    for (int64_t s = 0; s < plan->n_steps; s++) {
        nn_step *step = &plan->steps[s];
        const nn_node *n = step->node;
        unsigned inplace = nn_op_of(n->op)->inplace;
        for (int i = 0; inplace && i < n->n_in && !step->inplace; i++) {
            if (!(inplace >> i & 1) || !may_take_over(plan, n, i, s)) continue;
            nn_place *owner = &plan->places[storage_of(plan, n->in[i]->root->id)];
            nn_place *taker = &plan->places[n->out[0]->id];
            taker->same_as = storage_of(plan, n->in[i]->root->id);
            owner->last = nn_max(owner->last, taker->last);
            step->inplace = true;
        }
    }
}

typedef struct ranked {
    int64_t id, bytes;
} ranked;

static int larger_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* placed[0 .. n) are in order of offset; find the lowest gap for p and keep the order. */
static void place_one(nn_place **placed, int64_t n, nn_place *p)
{
    int64_t offset = 0;
    for (int64_t i = 0; i < n; i++) {
        const nn_place *q = placed[i];
        if (q->last < p->first || q->first > p->last) continue;
        if (q->offset >= offset + p->bytes) break;
        offset = nn_max(offset, q->offset + q->bytes);
    }
    p->offset = offset;
    int64_t at = n;
    while (at > 0 && placed[at - 1]->offset > offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = p;
}

static nn_status place_all(nn_plan *plan, ranked *order, int64_t n)
{
    nn_place **placed = nn_alloc(n, sizeof(*placed));
    NN_NEED(placed);
    qsort(order, (size_t)n, sizeof(*order), larger_first);
    for (int64_t i = 0; i < n; i++) {
        nn_place *p = &plan->places[order[i].id];
        place_one(placed, i, p);
        plan->stats.activation_bytes = nn_max(plan->stats.activation_bytes, p->offset + p->bytes);
    }
    nn_free(placed);
    return NN_OK;
}

nn_status nn_plan_layout(nn_plan *plan)
{
    const nn_graph *g = plan->graph;
    find_lives(plan);
    take_over(plan);

    ranked *order = nn_alloc(g->n_tensors, sizeof(*order));
    NN_NEED(order);
    int64_t n = 0, guards = plan->options.hostile ? 2 * NN_GUARD_BYTES : 0;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        nn_place *p = &plan->places[i];
        if (!p->used || !nn_is_planned(g->tensors[i]) || p->same_as >= 0) continue;
        p->bytes = (nn_view_bytes(&g->tensors[i]->view) + 63) / 64 * 64 + guards;
        if (p->bytes) order[n++] = (ranked){ i, p->bytes };
    }
    nn_status status = place_all(plan, order, n);
    nn_free(order);
    return status;
}

int64_t nn_plan_offset(const nn_plan *plan, const nn_tensor *t)
{
    return plan->places[t->root->id].part_offset + t->offset;
}

void *nn_plan_address(const nn_plan *plan, const nn_tensor *t)
{
    const nn_tensor *root = t->root;
    char *start = root->external;
    if (nn_is_planned(root)) {
        const nn_place *p = &plan->places[storage_of(plan, root->id)];
        if (!p->used) return NULL;
        start = plan->activations + p->offset + (plan->options.hostile ? NN_GUARD_BYTES : 0);
    }
    return start ? start + nn_plan_offset(plan, t) * nn_dtype_bytes(t->view.dtype) : NULL;
}
