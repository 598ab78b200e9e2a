/* The planner's joins: a concatenation costs nothing where whatever makes its parts can write them
 * to where they belong in the whole, and whatever else reads them can read them there.
 *
 * The parts then live as long as the whole does. */
#include <string.h>

#include "engine/plan_internal.h"

enum { ALIGNMENT = 16 }; /* bytes: of rows, so that no kernel moves smaller pieces than before */

static bool touches(const nn_node *n, const nn_tensor *t)
{
    bool found = false;
    for (int i = 0; i < n->n_in; i++) found |= n->in[i] && n->in[i]->root == t;
    for (int i = 0; i < n->n_out; i++) found |= n->out[i]->root == t;
    return found;
}

static bool is_aligned(const nn_view *whole, int64_t offset)
{
    const int64_t size = nn_dtype_bytes(whole->dtype);
    bool fit = offset * size % ALIGNMENT == 0;
    for (int d = 0; d + 1 < whole->rank; d++) fit &= whole->stride[d] * size % ALIGNMENT == 0;
    return fit;
}

/* Nobody holds it to the place that it has: the host, memory outside, another whole. */
static bool is_movable(const nn_plan *plan, const nn_tensor *t)
{
    return nn_is_planned(t) && t->kind == NN_ACTIVATION && !t->keep && t->slot == 0 &&
           !plan->places[t->id].whole;
}

/* Places the parts in the whole; false: one cannot be there. */
static bool put_parts(nn_plan *plan, const nn_node *concat)
{
    const nn_concat_params *p = concat->params;
    const nn_tensor *whole = concat->out[0];
    int64_t offset = 0;
    for (int i = 0; i < concat->n_in; i++) {
        const nn_tensor *part = concat->in[i];
        if (!is_movable(plan, part) || !is_aligned(&whole->view, offset)) return false;
        nn_place *place = &plan->places[part->id];
        place->whole = whole;
        place->same_as = whole->id;
        place->part_offset = offset;
        offset += part->view.dim[p->axis] * whole->view.stride[p->axis];
    }
    return true;
}

static void take_back(nn_plan *plan, const nn_node *concat)
{
    for (int i = 0; i < concat->n_in; i++) {
        nn_place *place = &plan->places[concat->in[i]->id];
        if (place->whole != concat->out[0]) continue;
        place->whole = NULL;
        place->same_as = -1;
        place->part_offset = 0;
    }
}

typedef struct choice {
    const nn_kernel *kernel;
    size_t workspace; /* more of it would be for copies of what is strided */
} choice;

static choice choose(const nn_plan *plan, const nn_node *n)
{
    nn_call c = { 0 };
    nn_plan_describe(plan, n, &c);
    choice made = { .kernel = nn_device_kernel(plan->device, n->op, &c, 0) };
    if (made.kernel && made.kernel->workspace) made.workspace = made.kernel->workspace(&c);
    return made;
}

/* Whether the node runs the same kernel with as little workspace when the parts are in the whole,
 * which they are before and after the call. */
static bool is_indifferent(nn_plan *plan, const nn_node *n, const nn_node *concat)
{
    const nn_op *op = nn_op_of(n->op);
    if (op->is_view || op->aliases || op->mutates) return false;
    const choice joined = choose(plan, n);
    if (!joined.kernel) return false;
    for (int i = 0; i < concat->n_in; i++)
        if (concat->in[i]->node == n && !joined.kernel->strided_out) return false;
    take_back(plan, concat);
    const choice apart = choose(plan, n);
    return put_parts(plan, concat) && joined.kernel == apart.kernel &&
           joined.workspace <= apart.workspace;
}

static bool join(nn_plan *plan, const bool *lives, const nn_node *concat)
{
    const nn_graph *g = plan->graph;
    if (!nn_is_planned(concat->out[0]) || !put_parts(plan, concat)) return false;
    for (int64_t i = 0; i < g->n_nodes; i++) {
        const nn_node *n = g->nodes[i];
        bool near = false;
        for (int k = 0; k < concat->n_in; k++) near |= touches(n, concat->in[k]);
        if (near && lives[i] && n != concat && !is_indifferent(plan, n, concat)) return false;
    }
    return true;
}

void nn_plan_join(nn_plan *plan, bool *lives)
{
    const nn_graph *g = plan->graph;
    for (int64_t i = 0; i < g->n_nodes; i++) {
        const nn_node *n = g->nodes[i];
        if (!lives[i] || n->op != NN_OP_CONCAT || plan->options.skip) continue;
        if (join(plan, lives, n))
            lives[i] = false;
        else
            take_back(plan, n);
    }
}
