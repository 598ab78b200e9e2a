/* Oracle of linear and its gradients: one dot product per result. Rows are all dims but the last.
 */
#include "kernels/ref/ref.h"

/* sum over k of x[x0 + k * xs] * w[w0 + k * ws] */
static double dot(const nn_view *x, int64_t x0, int64_t xs, const nn_view *w, int64_t w0,
                  int64_t ws, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += nn_ref_get(x, x0 + k * xs) * nn_ref_get(w, w0 + k * ws);
    return sum;
}

static int64_t last_stride(const nn_view *v)
{
    return v->stride[v->rank - 1];
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0], *w = &c->in[1], *b = &c->in[2], *residual = &c->in[3];
    const nn_view *y = &c->out[0];
    for (nn_ref_index r = nn_ref_begin(x, x->rank - 1); r.more; nn_ref_next(&r)) {
        const int64_t x0 = nn_ref_offset(x, &r), y0 = nn_ref_offset(y, &r);
        for (int64_t o = 0; o < w->dim[0]; o++) {
            double sum = dot(x, x0, last_stride(x), w, o * w->stride[0], w->stride[1], w->dim[1]);
            if (nn_present(b)) sum += nn_ref_get(b, o * b->stride[0]);
            if (nn_present(residual))
                sum +=
                    nn_ref_get(residual, nn_ref_offset(residual, &r) + o * last_stride(residual));
            nn_ref_put(y, y0 + o * last_stride(y), sum);
        }
    }
    return NN_OK;
}

static nn_status run_bwd_x(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *w = &c->in[1], *dx = &c->out[0];
    for (nn_ref_index r = nn_ref_begin(dy, dy->rank - 1); r.more; nn_ref_next(&r)) {
        int64_t y0 = 0, x0 = 0;
        for (int d = 0; d < r.rank; d++)
            y0 += r.at[d] * dy->stride[d], x0 += r.at[d] * dx->stride[d];
        for (int64_t i = 0; i < w->dim[1]; i++)
            nn_ref_put(dx, x0 + i * last_stride(dx),
                       dot(dy, y0, last_stride(dy), w, i * w->stride[1], w->stride[0], w->dim[0]));
    }
    return NN_OK;
}

/* One element of dw (i < width of x) or of db (i < 0): a sum over the rows. */
static double over_rows(const nn_view *dy, int64_t o, const nn_view *x, int64_t i)
{
    double sum = 0;
    for (nn_ref_index r = nn_ref_begin(dy, dy->rank - 1); r.more; nn_ref_next(&r)) {
        int64_t y0 = o * last_stride(dy), x0 = i * last_stride(x);
        for (int d = 0; d < r.rank; d++)
            y0 += r.at[d] * dy->stride[d], x0 += r.at[d] * x->stride[d];
        sum += nn_ref_get(dy, y0) * (i < 0 ? 1 : nn_ref_get(x, x0));
    }
    return sum;
}

static nn_status run_bwd_w(const nn_call *c)
{
    const nn_view *dy = &c->in[0], *x = &c->in[1], *dw = &c->out[0], *db = &c->out[1];
    for (int64_t o = 0; o < dw->dim[0]; o++) {
        for (int64_t i = 0; i < dw->dim[1]; i++)
            nn_ref_put(dw, o * dw->stride[0] + i * dw->stride[1], over_rows(dy, o, x, i));
        nn_ref_put(db, o * db->stride[0], over_rows(dy, o, x, -1));
    }
    return NN_OK;
}

const nn_kernel nn_ref_linear[] = { { .name = "linear_any", .run = run }, { 0 } };
const nn_kernel nn_ref_linear_bwd_x[] = { { .name = "linear_bwd_x_any", .run = run_bwd_x }, { 0 } };
const nn_kernel nn_ref_linear_bwd_w[] = { { .name = "linear_bwd_w_any", .run = run_bwd_w }, { 0 } };
