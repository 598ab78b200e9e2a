/* The planner's joins: a concatenation costs nothing where whatever makes its parts can write them
 * to where they belong in the whole, and whatever else reads them can read them there.
 *
 * The parts then live as long as the whole does. */
#include <string.h>

#include "engine/plan_internal.h"

enum { ALIGNMENT = 16 }; /* bytes: of rows, so that no kernel moves smaller pieces than before */

static bool touches(const nn_node *n, const nn_tensor *root)
{
    bool found = false;
    for (int i = 0; i < n->n_in; i++) found |= n->in[i] && n->in[i]->root == root;
    for (int i = 0; i < n->n_out; i++) found |= n->out[i]->root == root;
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
static bool is_movable(const nn_plan *plan, const nn_tensor *root)
{
    return nn_is_planned(root) && root->kind == NN_ACTIVATION && !root->keep &&
           !plan->places[root->id].whole;
}

/* Places a part at an offset of the whole: all of its root, which may have another shape. */
static bool put_part(nn_plan *plan, const nn_tensor *part, const nn_tensor *whole, int64_t offset)
{
    const nn_tensor *root = part->root;
    nn_view there = part->view, seen = root->view;
    memcpy(there.stride, whole->view.stride, sizeof(there.stride));
    if (!is_movable(plan, root) || !nn_view_contiguous(&part->view) ||
        nn_view_elems(&part->view) != nn_view_elems(&root->view) ||
        !is_aligned(&whole->view, offset) || !nn_view_restride(&there, &seen))
        return false;
    nn_place *place = &plan->places[root->id];
    place->whole = whole;
    place->same_as = whole->id;
    place->part_offset = offset;
    memcpy(place->part_stride, seen.stride, sizeof(seen.stride));
    return true;
}

/* False: one cannot be there. */
static bool put_parts(nn_plan *plan, const nn_node *concat)
{
    const nn_concat_params *p = concat->params;
    const nn_tensor *whole = concat->out[0];
    int64_t offset = 0;
    for (int i = 0; i < concat->n_in; i++) {
        const nn_tensor *part = concat->in[i];
        if (!put_part(plan, part, whole, offset)) return false;
        offset += part->view.dim[p->axis] * whole->view.stride[p->axis];
    }
    return true;
}

static void take_back(nn_plan *plan, const nn_node *concat)
{
    for (int i = 0; i < concat->n_in; i++) {
        nn_place *place = &plan->places[concat->in[i]->root->id];
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

/* Whether the node writes a part, or reads one through a view. */
static bool writes(const nn_node *n, const nn_node *concat)
{
    bool found = false;
    for (int i = 0; i < concat->n_in; i++) found |= concat->in[i]->root->node == n;
    return found;
}

static bool looks_through_view(const nn_node *n, const nn_node *concat)
{
    bool found = false;
    for (int i = 0; i < concat->n_in; i++)
        for (int k = 0; k < n->n_in; k++)
            found |=
                n->in[k] && n->in[k]->root == concat->in[i]->root && n->in[k]->root != n->in[k];
    return found;
}

/* Whether the node runs the same kernel with as little workspace when the parts are in the whole,
 * which they are before and after the call. */
static bool is_indifferent(nn_plan *plan, const nn_node *n, const nn_node *concat)
{
    const nn_op *op = nn_op_of(n->op);
    if (op->is_view) return true;
    if (op->aliases || op->mutates || looks_through_view(n, concat)) return false;
    const choice joined = choose(plan, n);
    if (!joined.kernel || (writes(n, concat) && !joined.kernel->strided_out)) return false;
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
        for (int k = 0; k < concat->n_in; k++) near |= touches(n, concat->in[k]->root);
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
