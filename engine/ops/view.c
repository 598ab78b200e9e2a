/* Views: the same elements in another shape or order. No kernel runs; the gradient of what a view
 * leaves out is 0. */
#include <string.h>

#include "engine/nn.h"
#include "engine/ops/broadcast.h"

static nn_tensor *view(nn_graph *g, nn_tensor *x, const nn_view *v, nn_view_params p)
{
    p.rank = v->rank;
    memcpy(p.dim, v->dim, sizeof(p.dim));
    memcpy(p.stride, v->stride, sizeof(p.stride));
    return NN_NODE(g, VIEW, &p, x);
}

nn_tensor *nn_reshape(nn_graph *g, nn_tensor *x, int rank, const int64_t *dim)
{
    if (x->kind == NN_POISON) return x;
    nn_view v = nn_view_make(x->view.dtype, rank, dim);
    int64_t known = 1, open = -1;
    for (int i = 0; i < rank; i++)
        if (dim[i] < 0)
            open = i;
        else
            known *= dim[i];
    if (open >= 0) v.dim[open] = known ? nn_view_elems(&x->view) / known : 0;
    v = nn_view_make(v.dtype, rank, v.dim);
    if (nn_view_elems(&v) != nn_view_elems(&x->view))
        return nn_graph_stick(g, nn_fail(NN_SHAPE, "%s: reshape: x is %s: cannot become %s",
                                         g->scope, nn_view_text(&x->view).s, nn_view_text(&v).s));
    if (nn_view_contiguous(&x->view)) return view(g, x, &v, (nn_view_params){ .kind = NN_RESHAPE });
    nn_view packed = v;
    bool fits = nn_view_restride(&x->view, &v);
    return view(g, fits ? x : nn_contiguous(g, x), fits ? &v : &packed,
                (nn_view_params){ .kind = NN_RESHAPE });
}

nn_tensor *nn_permute(nn_graph *g, nn_tensor *x, const int *order)
{
    nn_view v = x->view;
    nn_view_params p = { .kind = NN_PERMUTE };
    memcpy(p.order, order, (size_t)v.rank * sizeof(*order));
    for (int i = 0; i < v.rank; i++) {
        v.dim[i] = x->view.dim[order[i]];
        v.stride[i] = x->view.stride[order[i]];
    }
    return view(g, x, &v, p);
}

nn_tensor *nn_slice(nn_graph *g, nn_tensor *x, int axis, int64_t begin, int64_t end)
{
    nn_view v = x->view;
    if (x->kind == NN_POISON) return x;
    if (axis < 0) axis += v.rank;
    if (begin < 0 || end > v.dim[axis] || begin > end)
        return nn_graph_stick(g, nn_fail(NN_SHAPE, "%s: slice: [%lld, %lld) of axis %d of %s",
                                         g->scope, (long long)begin, (long long)end, axis,
                                         nn_view_text(&v).s));
    v.dim[axis] = end - begin;
    nn_view_params p = {
        .kind = NN_SLICE, .axis = axis, .begin = begin, .offset = begin * v.stride[axis]
    };
    return view(g, x, &v, p);
}

nn_tensor *nn_broadcast(nn_graph *g, nn_tensor *x, int rank, const int64_t *dim)
{
    if (x->kind == NN_POISON) return x;
    nn_view v = nn_view_make(x->view.dtype, rank, dim);
    for (int i = 0; i < rank; i++) {
        bool has = i < x->view.rank;
        int64_t from = has ? nn_last(&x->view, i) : 1;
        int64_t *to = &v.dim[rank - 1 - i];
        if (from != 1 && from != *to)
            return nn_graph_stick(g,
                                  nn_fail(NN_SHAPE, "%s: broadcast: %s does not become %s",
                                          g->scope, nn_view_text(&x->view).s, nn_view_text(&v).s));
        v.stride[rank - 1 - i] = from == 1 ? 0 : x->view.stride[x->view.rank - 1 - i];
    }
    return view(g, x, &v, (nn_view_params){ .kind = NN_BROADCAST });
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view_params *p = n->params;
    out[0] = (nn_view){ .dtype = nn_in(n, 0)->dtype, .rank = p->rank };
    memcpy(out[0].dim, p->dim, sizeof(p->dim));
    memcpy(out[0].stride, p->stride, sizeof(p->stride));
    return NN_OK;
}

static nn_tensor *undo_permute(nn_graph *g, const nn_view_params *p, nn_tensor *dy)
{
    int back[NN_MAX_RANK] = { 0 };
    for (int i = 0; i < p->rank; i++) back[p->order[i]] = i;
    return nn_permute(g, dy, back);
}

/* dy between zeros. */
static nn_tensor *undo_slice(nn_graph *g, const nn_view_params *p, const nn_view *x, nn_tensor *dy)
{
    nn_tensor *parts[3];
    int n = 0;
    nn_view zeros = *x;
    zeros.dim[p->axis] = p->begin;
    if (p->begin) parts[n++] = nn_fill(g, dy->view.dtype, x->rank, zeros.dim, 0);
    parts[n++] = dy;
    zeros.dim[p->axis] = x->dim[p->axis] - p->begin - p->dim[p->axis];
    if (zeros.dim[p->axis]) parts[n++] = nn_fill(g, dy->view.dtype, x->rank, zeros.dim, 0);
    return n == 1 ? dy : nn_concat(g, n, parts, p->axis);
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_view_params *p = n->params;
    const nn_view *x = nn_in(n, 0);
    switch (p->kind) {
    case NN_RESHAPE:
        dx[0] = nn_reshape(g, dy[0], x->rank, x->dim);
        break;
    case NN_PERMUTE:
        dx[0] = undo_permute(g, p, dy[0]);
        break;
    case NN_SLICE:
        dx[0] = undo_slice(g, p, x, dy[0]);
        break;
    case NN_BROADCAST:
        dx[0] = nn_sum_like(g, dy[0], x);
        break;
    }
    return NN_OK;
}

const nn_op nn_op_view = { .name = "view",
                           .params_bytes = sizeof(nn_view_params),
                           .infer = infer,
                           .grad = grad,
                           .is_view = true };
