/* Walk several views of one shape together, in runs along the innermost dimension.
 *
 * Neighbouring dims over which every view steps evenly are merged, so that packed tensors are one
 * long run. A view of lower rank is aligned at the last dimension; where it has size 1 and the
 * shape has not, its step is 0. */
#ifndef KERNELS_CPU_WALK_H
#define KERNELS_CPU_WALK_H

#include "kernels/cpu/simd.h"
#include "kernels/kernel.h"

enum { NN_WALK_VIEWS = 3, NN_WALK_GRAIN = 8192 /* elements worth a thread */ };

typedef struct nn_walk {
    int rank; /* >= 1 */
    int n_views;
    int64_t n; /* elements */
    int64_t dim[NN_MAX_RANK];
    int64_t stride[NN_WALK_VIEWS][NN_MAX_RANK];
} nn_walk;

NN_INLINE void nn_walk_add(nn_walk *w, int64_t dim, const int64_t *step)
{
    bool merge = w->rank > 0;
    for (int k = 0; merge && k < w->n_views; k++)
        merge = w->stride[k][w->rank - 1] == step[k] * dim;
    if (merge)
        w->dim[w->rank - 1] *= dim;
    else
        w->dim[w->rank++] = dim;
    for (int k = 0; k < w->n_views; k++) w->stride[k][w->rank - 1] = step[k];
}

/* Step of a view along dim d of a shape of `rank` dims. */
NN_INLINE int64_t nn_walk_step(const nn_view *v, int d, int rank)
{
    int own = d - (rank - v->rank);
    return own < 0 || v->dim[own] == 1 ? 0 : v->stride[own];
}

NN_INLINE nn_walk nn_walk_make(const nn_view *shape, int n_views, const nn_view *const *v)
{
    nn_walk w = { .n_views = n_views, .n = nn_view_elems(shape) };
    int64_t step[NN_WALK_VIEWS] = { 1, 1, 1 };
    for (int d = 0; d < shape->rank; d++) {
        if (shape->dim[d] == 1) continue;
        for (int k = 0; k < n_views; k++) step[k] = nn_walk_step(v[k], d, shape->rank);
        nn_walk_add(&w, shape->dim[d], step);
    }
    if (!w.rank) nn_walk_add(&w, 1, (int64_t[NN_WALK_VIEWS]){ 1, 1, 1 });
    return w;
}

/* Step of view k within a run. */
NN_INLINE int64_t nn_walk_inner(const nn_walk *w, int k)
{
    return w->stride[k][w->rank - 1];
}

typedef struct nn_run { /* n elements, view k's first at at[k] */
    int64_t n, left;
    int64_t at[NN_WALK_VIEWS], index[NN_MAX_RANK];
} nn_run;

/* The runs of the elements [begin, end): for (r = nn_run_first(..); r.n; nn_run_next(..)). */
NN_INLINE nn_run nn_run_first(const nn_walk *w, int64_t begin, int64_t end)
{
    nn_run r = { .left = end - begin };
    if (r.left <= 0) return r;
    for (int d = w->rank - 1; d >= 0; d--) {
        r.index[d] = begin % w->dim[d];
        begin /= w->dim[d];
        for (int k = 0; k < w->n_views; k++) r.at[k] += r.index[d] * w->stride[k][d];
    }
    r.n = nn_min(r.left, w->dim[w->rank - 1] - r.index[w->rank - 1]);
    return r;
}

NN_INLINE void nn_run_next(const nn_walk *w, nn_run *r)
{
    int d = w->rank - 1;
    r->left -= r->n;
    r->index[d] += r->n;
    for (int k = 0; k < w->n_views; k++) r->at[k] += r->n * w->stride[k][d];
    for (; d > 0 && r->index[d] == w->dim[d]; d--) {
        r->index[d] = 0;
        r->index[d - 1]++;
        for (int k = 0; k < w->n_views; k++)
            r->at[k] += w->stride[k][d - 1] - w->dim[d] * w->stride[k][d];
    }
    r->n = nn_min(r->left, w->dim[w->rank - 1]);
}

/* n <= NN_LANES elements at p, p + step, ... */
NN_INLINE nn_vf nn_load_step(const float *p, int64_t step, int64_t n)
{
    if (step == 1) return n == NN_LANES ? nn_load(p) : nn_load_n(p, n, 0);
    if (step == 0) return nn_set(*p);
    float lanes[NN_LANES];
    for (int i = 0; i < NN_LANES; i++) lanes[i] = p[i < n ? i * step : 0];
    return nn_load(lanes);
}

/* A view as rows along its last dimension, one fixed stride apart. */
typedef struct nn_rows {
    int64_t n, width, stride;
} nn_rows;

/* False if the rows are not packed inside or not evenly spaced. */
NN_INLINE bool nn_rows_of(const nn_view *v, nn_rows *r)
{
    if (v->rank < 1 || !nn_view_packed_from(v, v->rank - 1)) return false;
    *r = (nn_rows){ .n = 1, .width = nn_last(v, 0), .stride = nn_last(v, 0) };
    for (int d = v->rank - 2; d >= 0; d--) {
        if (v->dim[d] == 1) continue;
        if (r->n == 1)
            r->stride = v->stride[d];
        else if (v->stride[d] != r->stride * r->n)
            return false;
        r->n *= v->dim[d];
    }
    return true;
}

#endif
