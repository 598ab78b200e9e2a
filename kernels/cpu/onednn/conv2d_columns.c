/* conv2d and its gradients as matrix products, where the weights are more than the images.
 *
 * The patches of the image are the rows of a matrix in the workspace, [places, C * kh * kw], in the
 * order of the weights, which are read, and whose gradient is written, as published. A convolution
 * of the library wants a layout of its own for them, and in training makes that copy in every run.
 * The gradient of the image is the matrix of the patches' gradients, summed place by place in a
 * fixed order. */
#include "engine/base/pool.h"
#include "kernels/cpu/onednn/onednn.h"

enum { X, W, B, SHIFT, RESIDUAL };
enum { PATCHED = 1 << 14 }; /* elements that are worth a thread */

/* The image whose patches are taken, and what there is one of for each patch. */
typedef struct patches {
    const nn_conv2d_params *p;
    const nn_view *x, *y;
    int64_t places, kh, kw, columns;
} patches;

static patches patches_of(const nn_call *c, const nn_view *x, int64_t kh, int64_t kw,
                          const nn_view *y)
{
    return (patches){ .p = c->params,
                      .x = x,
                      .y = y,
                      .places = y->dim[0] * y->dim[1] * y->dim[2],
                      .kh = kh,
                      .kw = kw,
                      .columns = x->dim[3] * kh * kw };
}

static patches forward_patches(const nn_call *c)
{
    return patches_of(c, &c->in[X], c->in[W].dim[2], c->in[W].dim[3], &c->out[0]);
}

static patches bwd_x_patches(const nn_call *c)
{
    return patches_of(c, &c->out[0], c->in[W].dim[2], c->in[W].dim[3], &c->in[0]);
}

static patches bwd_w_patches(const nn_call *c)
{
    return patches_of(c, &c->in[1], c->out[0].dim[2], c->out[0].dim[3], &c->in[0]);
}

/* -- patches and places */

typedef struct job {
    patches s;
    const float *from;
    float *to;
} job;

/* The pixel under place (i, j) of the kernel, for patch (h, w); NULL in the padding. */
static const float *pixel(const patches *s, const float *image, int64_t h, int64_t w, int64_t i,
                          int64_t j)
{
    const nn_view *x = s->x;
    const int64_t row = h * s->p->stride - s->p->top + i,
                  column = w * s->p->stride - s->p->left + j;
    if (row < 0 || row >= x->dim[1] || column < 0 || column >= x->dim[2]) return NULL;
    return image + row * x->stride[1] + column * x->stride[2];
}

static void fill_patches(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *b = ctx;
    const patches *s = &b->s;
    const int64_t width = s->y->dim[2], height = s->y->dim[1], channels = s->x->dim[3];
    const int64_t size = s->kh * s->kw;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        const float *image = b->from + n / (width * height) * s->x->stride[0];
        for (int64_t k = 0; k < size; k++) {
            const float *from =
                pixel(s, image, n / width % height, n % width, k / s->kw, k % s->kw);
            float *to = b->to + n * s->columns + k;
            for (int64_t i = 0; i < channels; i++) to[i * size] = from ? from[i] : 0;
        }
    }
}

/* The patch that has pixel `at` under place `k` of the kernel, along one dim; -1 = none. */
static int64_t patch_over(int64_t at, int64_t k, int before, int stride, int64_t n)
{
    const int64_t from = at + before - k;
    return from >= 0 && from % stride == 0 && from / stride < n ? from / stride : -1;
}

static void add_patches(void *ctx, int thread, int64_t begin, int64_t end)
{
    const job *b = ctx;
    const patches *s = &b->s;
    const int64_t *x = s->x->dim, *y = s->y->dim, channels = x[3], size = s->kh * s->kw;
    (void)thread;
    for (int64_t at = begin; at < end; at++) { /* a pixel of the image */
        float *to = b->to + at * channels;
        const int64_t n = at / (x[1] * x[2]);
        for (int64_t i = 0; i < channels; i++) to[i] = 0;
        for (int64_t k = 0; k < size; k++) {
            const int64_t h =
                patch_over(at / x[2] % x[1], k / s->kw, s->p->top, s->p->stride, y[1]);
            const int64_t w = patch_over(at % x[2], k % s->kw, s->p->left, s->p->stride, y[2]);
            if (h < 0 || w < 0) continue;
            const float *from = b->from + ((n * y[1] + h) * y[2] + w) * s->columns + k;
            for (int64_t i = 0; i < channels; i++) to[i] += from[i * size];
        }
    }
}

/* -- the products */

/* A patch is a pixel, and so the image is the matrix. */
static bool is_plain(const patches *s)
{
    return s->columns == s->x->dim[3] && s->p->stride == 1 && nn_view_contiguous(s->x) &&
           s->x->dim[1] == s->y->dim[1] && s->x->dim[2] == s->y->dim[2];
}

static size_t matrix_bytes(const patches *s)
{
    return is_plain(s) ? 0 : (size_t)(s->places * s->columns * 4 + 63) / 64 * 64;
}

static nn_view matrix(int64_t rows, int64_t columns, void *data)
{
    nn_view m = nn_view_make(NN_F32, 2, (int64_t[]){ rows, columns });
    m.data = data;
    return m;
}

static nn_view patch_matrix(const nn_call *c, const patches *s)
{
    return matrix(s->places, s->columns, is_plain(s) ? s->x->data : c->workspace);
}

/* What there is one of for each patch: rows that may have gaps, as in a part of a concatenation. */
static nn_view rows_of(const patches *s)
{
    nn_view m = matrix(s->places, s->y->dim[3], s->y->data);
    if (!nn_view_contiguous(s->y)) m.stride[0] = s->y->stride[2];
    return m;
}

static bool are_rows(const nn_view *y)
{
    return nn_view_contiguous(y) || (nn_view_packed_from(y, 3) && y->dim[2] > 1 &&
                                     y->stride[1] == y->dim[2] * y->stride[2] &&
                                     (y->dim[0] == 1 || y->stride[0] == y->dim[1] * y->stride[1]));
}

static nn_view weights_as(const patches *s, const nn_view *w)
{
    return matrix(w->dim[0], s->columns, w->data);
}

/* The product's call: of `c`, with the workspace behind the patches. */
static nn_call product_of(const nn_call *c, const patches *s, int n_in, int n_out)
{
    nn_call part = *c;
    for (int i = 0; i < NN_MAX_IN; i++) part.in[i] = (nn_view){ 0 };
    part.n_in = n_in;
    part.n_out = n_out;
    part.workspace = c->workspace ? (char *)c->workspace + matrix_bytes(s) : NULL;
    return part;
}

/* Shift and residual are in the result before the product adds to it. */
static nn_call forward_product(const nn_call *c, const patches *s)
{
    nn_call part = product_of(c, s, 4, 1);
    part.in[0] = patch_matrix(c, s);
    part.in[1] = weights_as(s, &c->in[W]);
    part.in[2] = c->in[B];
    part.out[0] = rows_of(s);
    if (nn_present(&c->in[SHIFT]) || nn_present(&c->in[RESIDUAL])) part.in[3] = part.out[0];
    return part;
}

static nn_call bwd_x_product(const nn_call *c, const patches *s)
{
    nn_call part = product_of(c, s, 2, 1);
    part.in[0] = rows_of(s);
    part.in[1] = weights_as(s, &c->in[W]);
    part.out[0] = patch_matrix(c, s);
    return part;
}

static nn_call bwd_w_product(const nn_call *c, const patches *s)
{
    nn_call part = product_of(c, s, 2, 2);
    part.in[0] = rows_of(s);
    part.in[1] = patch_matrix(c, s);
    part.out[0] = weights_as(s, &c->out[0]);
    return part;
}

static nn_status prepare(nn_call *c, const patches *s, nn_call part,
                         nn_status (*prepare_product)(nn_call *c))
{
    nn_status status = prepare_product(&part);
    c->state = part.state;
    c->workspace_bytes = matrix_bytes(s) + part.workspace_bytes;
    return status;
}

nn_status nn_dnnl_conv2d_columns_prepare(nn_call *c)
{
    const patches s = forward_patches(c);
    return prepare(c, &s, forward_product(c, &s), nn_dnnl_linear_prepare);
}

nn_status nn_dnnl_conv2d_bwd_x_columns_prepare(nn_call *c)
{
    const patches s = bwd_x_patches(c);
    return prepare(c, &s, bwd_x_product(c, &s), nn_dnnl_linear_bwd_x_prepare);
}

nn_status nn_dnnl_conv2d_bwd_w_columns_prepare(nn_call *c)
{
    const patches s = bwd_w_patches(c);
    return prepare(c, &s, bwd_w_product(c, &s), nn_dnnl_linear_bwd_w_prepare);
}

static void take_patches(const nn_call *c, const patches *s)
{
    job b = { *s, s->x->data, c->workspace };
    if (!is_plain(s)) nn_pool_for(c->pool, s->places, PATCHED / s->columns + 1, fill_patches, &b);
}

nn_status nn_dnnl_conv2d_columns_run(const nn_call *c)
{
    const patches s = forward_patches(c);
    const nn_call part = forward_product(c, &s);
    take_patches(c, &s);
    nn_dnnl_conv2d_prefill(c);
    return nn_dnnl_run(&part);
}

nn_status nn_dnnl_conv2d_bwd_w_columns_run(const nn_call *c)
{
    const patches s = bwd_w_patches(c);
    const nn_call part = bwd_w_product(c, &s);
    take_patches(c, &s);
    return nn_dnnl_run(&part);
}

nn_status nn_dnnl_conv2d_bwd_x_columns_run(const nn_call *c)
{
    const patches s = bwd_x_patches(c);
    const nn_call part = bwd_x_product(c, &s);
    job b = { s, c->workspace, s.x->data };
    NN_TRY(nn_dnnl_run(&part));
    if (!is_plain(&s))
        nn_pool_for(c->pool, nn_view_elems(s.x) / s.x->dim[3], PATCHED / s.columns + 1, add_patches,
                    &b);
    return NN_OK;
}

/* -- where */

/* A frozen plan packs the weights once. */
static bool repays(const nn_call *c, const patches *s)
{
    const int64_t of_weights = s->columns * s->y->dim[3];
    return !c->frozen && c->arithmetic != NN_BF16 &&
           (is_plain(s) || of_weights >= nn_view_elems(s->x) + nn_view_elems(s->y));
}

/* Rows at one distance, channels without gaps, the weights as published. */
static bool lies_well(const nn_call *c, const patches *s, const nn_view *w)
{
    return nn_dnnl_conv2d_accepts(c) && nn_view_contiguous(w) && are_rows(s->y) &&
           nn_view_packed_from(s->x, 3);
}

bool nn_dnnl_conv2d_columns_accepts(const nn_call *c)
{
    const patches s = forward_patches(c);
    return lies_well(c, &s, &c->in[W]) && repays(c, &s);
}

bool nn_dnnl_conv2d_bwd_x_columns_accepts(const nn_call *c)
{
    const patches s = bwd_x_patches(c);
    return lies_well(c, &s, &c->in[W]) && repays(c, &s);
}

bool nn_dnnl_conv2d_bwd_w_columns_accepts(const nn_call *c)
{
    const patches s = bwd_w_patches(c);
    return lies_well(c, &s, &c->out[0]) && repays(c, &s);
}
