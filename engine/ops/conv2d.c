/* y = x * w + b + shift + residual, images channels-last. Source: torch.nn.functional.conv2d. */
#include "engine/nn.h"

enum { X, W, B, SHIFT, RESIDUAL }; /* of conv2d */
enum { DY, W2 };                   /* of conv2d_bwd_x */
enum { DY1, X1 };                  /* of conv2d_bwd_w */
enum { DW, DB };                   /* outputs of conv2d_bwd_w */

nn_tensor *nn_conv2d(nn_graph *g, nn_tensor *x, nn_tensor *w, nn_tensor *b, nn_tensor *shift,
                     nn_tensor *residual, nn_conv conv)
{
    nn_conv2d_params p = { .stride = conv.stride,
                           .top = conv.top,
                           .left = conv.left,
                           .bottom = conv.bottom,
                           .right = conv.right };
    return NN_NODE(g, CONV2D, &p, nn_lower(g, x), nn_lower(g, w), b, nn_lower(g, shift),
                   nn_lower(g, residual));
}

static bool sane(const nn_conv2d_params *p, int64_t kh, int64_t kw)
{
    return p->stride >= 1 && kh >= 1 && kh <= 16 && kw >= 1 && kw <= 16 && p->top >= 0 &&
           p->top < kh && p->bottom >= 0 && p->bottom < kh && p->left >= 0 && p->left < kw &&
           p->right >= 0 && p->right < kw;
}

static int64_t places(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t stride)
{
    int64_t room = size + before + after - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

/* What is added to the products, y. */
static nn_status check_added(const nn_node *n, const nn_view *y)
{
    const nn_view *w = nn_in(n, W), *b = nn_in(n, B), *shift = nn_in(n, SHIFT);
    const nn_view *residual = nn_in(n, RESIDUAL);
    nn_view bias = nn_view_make(nn_stat_dtype(y), 1, w->dim);
    nn_view per_sample = nn_view_make(y->dtype, 2, (int64_t[]){ y->dim[0], w->dim[0] });
    NN_WANT(n, !nn_present(b) || (b->dtype == bias.dtype && nn_view_same_shape(b, &bias)),
            "b is %s, %s is expected", nn_view_text(b).s, nn_view_text(&bias).s);
    NN_WANT(n,
            !nn_present(shift) ||
                (shift->dtype == y->dtype && nn_view_same_shape(shift, &per_sample)),
            "shift is %s, the result %s", nn_view_text(shift).s, nn_view_text(y).s);
    NN_WANT(n,
            !nn_present(residual) ||
                (residual->dtype == y->dtype && nn_view_same_shape(residual, y)),
            "residual is %s, the result %s", nn_view_text(residual).s, nn_view_text(y).s);
    return NN_OK;
}

static nn_status infer(const nn_node *n, nn_view out[])
{
    const nn_conv2d_params *p = n->params;
    const nn_view *x = nn_in(n, X), *w = nn_in(n, W);
    NN_WANT(n, x->rank == 4 && w->rank == 4 && x->dim[3] == w->dim[1],
            "x is %s, w is %s: channels do not fit", nn_view_text(x).s, nn_view_text(w).s);
    NN_WANT(n, x->dtype == w->dtype, "x is %s, w is %s: the types differ", nn_view_text(x).s,
            nn_view_text(w).s);
    NN_WANT(n, sane(p, w->dim[2], w->dim[3]),
            "w is %s with stride %d and padding %d, %d, %d, %d: kernels are 1 to 16 wide, padding "
            "is smaller",
            nn_view_text(w).s, p->stride, p->top, p->left, p->bottom, p->right);
    int64_t height = places(x->dim[1], p->top, p->bottom, w->dim[2], p->stride);
    int64_t width = places(x->dim[2], p->left, p->right, w->dim[3], p->stride);
    NN_WANT(n, height > 0 && width > 0, "x is %s, smaller than w, %s", nn_view_text(x).s,
            nn_view_text(w).s);
    out[0] = nn_view_make(x->dtype, 4, (int64_t[]){ x->dim[0], height, width, w->dim[0] });
    return check_added(n, &out[0]);
}

static nn_status grad(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[])
{
    const nn_view *x = nn_in(n, X), *w = nn_in(n, W), *y = &dy[0]->view;
    nn_conv2d_params p = *(const nn_conv2d_params *)n->params;
    p.height = x->dim[1];
    p.width = x->dim[2];
    p.kh = w->dim[2];
    p.kw = w->dim[3];
    if (nn_wants_grad(n, X)) dx[X] = NN_NODE(g, CONV2D_BWD_X, &p, dy[0], n->in[W]);
    if (nn_wants_grad(n, W) || nn_wants_grad(n, B)) {
        dx[W] = NN_NODE(g, CONV2D_BWD_W, &p, dy[0], n->in[X]);
        dx[B] = nn_sibling(dx[W], DB);
    }
    if (nn_wants_grad(n, SHIFT)) {
        nn_tensor *sum = nn_sum(g, dy[0], 4, (int64_t[]){ y->dim[0], 1, 1, y->dim[3] });
        dx[SHIFT] = nn_reshape(g, sum, 2, (int64_t[]){ y->dim[0], y->dim[3] });
    }
    dx[RESIDUAL] = dy[0];
    return NN_OK;
}

/* Every place of the result sees the whole kernel. */
static double products(const nn_view *y, double kh, double kw, double in, double out)
{
    return 2.0 * (double)(y->dim[0] * y->dim[1] * y->dim[2]) * kh * kw * in * out;
}

static void cost(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_view *w = nn_in(n, W);
    *flops = products(&n->out[0]->view, (double)w->dim[2], (double)w->dim[3], (double)w->dim[1],
                      (double)w->dim[0]);
}

const nn_op nn_op_conv2d = { .name = "conv2d",
                             .params_bytes = sizeof(nn_conv2d_params),
                             .infer = infer,
                             .grad = grad,
                             .cost = cost,
                             .inplace = 1u << RESIDUAL };

static nn_status infer_bwd_x(const nn_node *n, nn_view out[])
{
    const nn_conv2d_params *p = n->params;
    const nn_view *dy = nn_in(n, DY), *w = nn_in(n, W2);
    NN_WANT(n, dy->rank == 4 && w->rank == 4 && dy->dim[3] == w->dim[0] && dy->dtype == w->dtype,
            "dy is %s, w is %s", nn_view_text(dy).s, nn_view_text(w).s);
    out[0] = nn_view_make(dy->dtype, 4, (int64_t[]){ dy->dim[0], p->height, p->width, w->dim[1] });
    return NN_OK;
}

static void cost_bwd_x(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_view *w = nn_in(n, W2);
    *flops = products(nn_in(n, DY), (double)w->dim[2], (double)w->dim[3], (double)w->dim[1],
                      (double)w->dim[0]);
}

const nn_op nn_op_conv2d_bwd_x = { .name = "conv2d_bwd_x",
                                   .params_bytes = sizeof(nn_conv2d_params),
                                   .infer = infer_bwd_x,
                                   .cost = cost_bwd_x };

static nn_status infer_bwd_w(const nn_node *n, nn_view out[])
{
    const nn_conv2d_params *p = n->params;
    const nn_view *dy = nn_in(n, DY1), *x = nn_in(n, X1);
    NN_WANT(n, dy->rank == 4 && x->rank == 4 && dy->dim[0] == x->dim[0] && dy->dtype == x->dtype,
            "dy is %s, x is %s", nn_view_text(dy).s, nn_view_text(x).s);
    out[DW] =
        nn_view_make(nn_stat_dtype(dy), 4, (int64_t[]){ dy->dim[3], x->dim[3], p->kh, p->kw });
    out[DB] = nn_view_make(nn_stat_dtype(dy), 1, &dy->dim[3]);
    return NN_OK;
}

static void cost_bwd_w(const nn_node *n, double *flops, double *bytes)
{
    (void)bytes;
    const nn_conv2d_params *p = n->params;
    const nn_view *dy = nn_in(n, DY1);
    *flops = products(dy, (double)p->kh, (double)p->kw, (double)nn_in(n, X1)->dim[3],
                      (double)dy->dim[3]);
}

const nn_op nn_op_conv2d_bwd_w = { .name = "conv2d_bwd_w",
                                   .params_bytes = sizeof(nn_conv2d_params),
                                   .infer = infer_bwd_w,
                                   .cost = cost_bwd_w,
                                   .n_out = 2 };
