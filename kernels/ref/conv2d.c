/* Oracle of conv2d and its gradients: each result is one sum over the places that touch it. */
#include "kernels/ref/ref.h"

static double at4(const nn_view *v, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return nn_ref_get(v, a * v->stride[0] + b * v->stride[1] + c * v->stride[2] + d * v->stride[3]);
}

static bool inside(const nn_view *image, int64_t h, int64_t w)
{
    return h >= 0 && h < image->dim[1] && w >= 0 && w < image->dim[2];
}

static double place(const nn_conv2d_params *p, const nn_view *x, const nn_view *w,
                    const int64_t *at) /* at: n, ho, wo, o */
{
    double sum = 0;
    for (int64_t kh = 0; kh < w->dim[2]; kh++)
        for (int64_t kw = 0; kw < w->dim[3]; kw++) {
            int64_t row = at[1] * p->stride + kh - p->top, col = at[2] * p->stride + kw - p->left;
            if (!inside(x, row, col)) continue;
            for (int64_t i = 0; i < w->dim[1]; i++)
                sum += at4(x, at[0], row, col, i) * at4(w, at[3], i, kh, kw);
        }
    return sum;
}

static nn_status run(const nn_call *c)
{
    const nn_view *b = &c->in[2], *shift = &c->in[3], *residual = &c->in[4], *y = &c->out[0];
    NN_REF_EACH(i, y)
    {
        double sum = place(c->params, &c->in[0], &c->in[1], i.at);
        if (nn_present(b)) sum += nn_ref_get(b, i.at[3] * b->stride[0]);
        if (nn_present(shift))
            sum += nn_ref_get(shift, i.at[0] * shift->stride[0] + i.at[3] * shift->stride[1]);
        if (nn_present(residual)) sum += nn_ref_get(residual, nn_ref_offset(residual, &i));
        nn_ref_put(y, nn_ref_offset(y, &i), sum);
    }
    return NN_OK;
}

/* The pixel (n, h, w, i) was seen through (kh, kw) from the places where
 * ho * stride + kh - top = h. */
static nn_status run_bwd_x(const nn_call *c)
{
    const nn_conv2d_params *p = c->params;
    const nn_view *dy = &c->in[0], *w = &c->in[1], *dx = &c->out[0];
    NN_REF_EACH(i, dx)
    {
        double sum = 0;
        for (int64_t kh = 0; kh < w->dim[2]; kh++)
            for (int64_t kw = 0; kw < w->dim[3]; kw++) {
                int64_t row = i.at[1] + p->top - kh, col = i.at[2] + p->left - kw;
                if (row % p->stride || col % p->stride) continue;
                row /= p->stride, col /= p->stride;
                if (!inside(dy, row, col)) continue;
                for (int64_t o = 0; o < w->dim[0]; o++)
                    sum += at4(dy, i.at[0], row, col, o) * at4(w, o, i.at[3], kh, kw);
            }
        nn_ref_put(dx, nn_ref_offset(dx, &i), sum);
    }
    return NN_OK;
}

static double over_places(const nn_conv2d_params *p, const nn_view *dy, const nn_view *x,
                          const int64_t *at) /* at: o, i, kh, kw */
{
    double sum = 0;
    for (int64_t n = 0; n < dy->dim[0]; n++)
        for (int64_t h = 0; h < dy->dim[1]; h++)
            for (int64_t w = 0; w < dy->dim[2]; w++) {
                int64_t row = h * p->stride + at[2] - p->top, col = w * p->stride + at[3] - p->left;
                if (inside(x, row, col))
                    sum += at4(dy, n, h, w, at[0]) * at4(x, n, row, col, at[1]);
            }
    return sum;
}

static nn_status run_bwd_w(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *dw = &c->out[0], *db = &c->out[1];
    NN_REF_EACH(i, dw)
    nn_ref_put(dw, nn_ref_offset(dw, &i), over_places(c->params, dy, &c->in[1], i.at));
    for (int64_t o = 0; o < db->dim[0]; o++) {
        double sum = 0;
        for (nn_ref_index i = nn_ref_begin(dy, 3); i.more; nn_ref_next(&i))
            sum += at4(dy, i.at[0], i.at[1], i.at[2], o);
        nn_ref_put(db, o * db->stride[0], sum);
    }
    return NN_OK;
}

const nn_kernel nn_ref_conv2d[] = { { .name = "conv2d_any", .run = run }, { 0 } };
const nn_kernel nn_ref_conv2d_bwd_x[] = { { .name = "conv2d_bwd_x_any", .run = run_bwd_x }, { 0 } };
const nn_kernel nn_ref_conv2d_bwd_w[] = { { .name = "conv2d_bwd_w_any", .run = run_bwd_w }, { 0 } };
