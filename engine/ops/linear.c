/* y = x w^T + b + residual. Source: torch.nn.functional.linear. */
#include "engine/nn.h"

enum { X, W, B, RESIDUAL }; /* of linear */
enum { DY, W2 };            /* of linear_bwd_x */
enum { DY1, X1 };           /* of linear_bwd_w */
enum { DW, DB };            /* outputs of linear_bwd_w */

nn_tensor *nn_linear(nn_graph *g, nn_tensor *x, nn_tensor *w, nn_tensor *b, nn_tensor *residual)
{
    return NN_NODE(g, LINEAR, NULL, nn_lower(g, x), nn_lower(g, w), b, nn_lower(g, residual));
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_view *x = nn_in(n, X), *w = nn_in(n, W), *b = nn_in(n, B);
    const nn_view *residual = nn_in(n, RESIDUAL);
    NN_WANT(n, x->rank >= 1 && w->rank == 2 && nn_last(x, 0) == w->dim[1],
            "x is %s, w is %s: %lld != %lld", nn_view_text(x).s, nn_view_text(w).s,
            (long long)nn_last(x, 0), (long long)nn_last(w, 0));
    NN_WANT(n, x->dtype == w->dtype, "x is %s, w is %s: the types differ", nn_view_text(x).s,
            nn_view_text(w).s);
    NN_WANT(n,
            !nn_present(b) ||
                (b->rank == 1 && b->dim[0] == w->dim[0] && b->dtype == nn_stat_dtype(x)),
            "b is %s, w is %s", nn_view_text(b).s, nn_view_text(w).s);
    nn_view y = *x;
    y.dim[y.rank - 1] = w->dim[0];
    out[0] = nn_view_make(x->dtype, y.rank, y.dim);
    NN_WANT(n,
            !nn_present(residual) ||
                (residual->dtype == y.dtype && nn_view_same_shape(residual, &out[0])),
            "residual is %s, the result %s", nn_view_text(residual).s, nn_view_text(&out[0]).s);
    return NN_OK;
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    if (nn_wants_grad(n, X)) dx[X] = NN_NODE(g, LINEAR_BWD_X, NULL, dy[0], n->in[W]);
    if (nn_wants_grad(n, W) || nn_wants_grad(n, B)) {
        dx[W] = NN_NODE(g, LINEAR_BWD_W, NULL, dy[0], n->in[X]);
        dx[B] = nn_sibling(dx[W], DB);
    }
    dx[RESIDUAL] = dy[0];
    return NN_OK;
}

static double rows(const nn_view *x)
{
    return (double)nn_view_elems(x) / (double)nn_max(nn_last(x, 0), 1);
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_view *w = nn_in(n, W);
    *flops = 2.0 * rows(nn_in(n, X)) * (double)w->dim[0] * (double)w->dim[1];
}

const nn_op nn_op_linear = {
    .name = "linear", .infer = infer, .grad = grad, .cost = cost, .inplace = 1u << RESIDUAL
};

/* dx = dy w */
static nn_status infer_bwd_x(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY), *w = nn_in(n, W2);
    NN_WANT(n, nn_last(dy, 0) == w->dim[0] && dy->dtype == w->dtype, "dy is %s, w is %s",
            nn_view_text(dy).s, nn_view_text(w).s);
    nn_view x = *dy;
    x.dim[x.rank - 1] = w->dim[1];
    out[0] = nn_view_make(dy->dtype, x.rank, x.dim);
    return NN_OK;
}

const nn_op nn_op_linear_bwd_x = { .name = "linear_bwd_x", .infer = infer_bwd_x, .cost = cost };

/* dw = dy^T x, db = sum of dy over the rows, in the type of statistics */
static nn_status infer_bwd_w(const nn_node *n, nn_view out[])
{
    const nn_view *dy = nn_in(n, DY1), *x = nn_in(n, X1);
    NN_WANT(n, rows(dy) == rows(x) && dy->dtype == x->dtype, "dy is %s, x is %s",
            nn_view_text(dy).s, nn_view_text(x).s);
    out[DW] = nn_view_make(nn_stat_dtype(dy), 2, (int64_t[]){ nn_last(dy, 0), nn_last(x, 0) });
    out[DB] = nn_view_make(nn_stat_dtype(dy), 1, (int64_t[]){ nn_last(dy, 0) });
    return NN_OK;
}

static void cost_bwd_w(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_view *dy = nn_in(n, DY1);
    *flops = 2.0 * rows(dy) * (double)nn_last(dy, 0) * (double)nn_last(nn_in(n, X1), 0);
}

const nn_op nn_op_linear_bwd_w = {
    .name = "linear_bwd_w", .infer = infer_bwd_w, .cost = cost_bwd_w, .n_out = 2
};
