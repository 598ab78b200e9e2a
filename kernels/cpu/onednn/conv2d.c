/* conv2d and its gradients as convolutions of oneDNN.
 *
 * "direct" works on channels-last images as they lie; "bf16" is the same with rounded operands, at
 * twice the speed. Weights are packed once in frozen plans and in every run otherwise. Shift and
 * residual are written to the result first, and the convolution adds to that; a residual whose
 * storage the result takes over is not even copied.
 *
 * "winograd", for dw alone, is F(4x4, 3x3), or F(2x2, 3x3) where the library prefers it: a third of
 * the multiplications, but images go through the blocked layout of the library, by copies in the
 * workspace. */
#include <string.h>

#include "engine/base/alloc.h"
#include "kernels/cpu/onednn/onednn.h"

enum { X, W, B, SHIFT, RESIDUAL };

/* How to convolve: an algorithm, and the type of what is read. Results are f32. */
typedef struct way {
    dnnl_alg_kind_t alg;
    dnnl_data_type_t type;
} way;

static const way direct = { dnnl_convolution_direct, dnnl_f32 },
                 bf16 = { dnnl_convolution_direct, dnnl_bf16 },
                 blocked = { dnnl_convolution_winograd, dnnl_f32 };

/* The geometry of one convolution, whichever of its tensors is the result. */
typedef struct conv {
    way how;
    bool plain_w;                                 /* weights without gaps */
    dnnl_memory_desc_t x, w, b, y;                /* as they lie, images packed */
    dnnl_memory_desc_t asked_x, asked_w, asked_y; /* as the library is asked for them */
    dnnl_dims_t strides, before, after;
} conv;

static dnnl_memory_desc_t tagged(int rank, const int64_t *dim, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims = { 0 };
    memcpy(dims, dim, (size_t)rank * sizeof(*dim));
    NN_ASSERT(dnnl_memory_desc_init_by_tag(&md, rank, dims, dnnl_f32, tag) == dnnl_success);
    return md;
}

/* [N, H, W, C] packed, in the library's order of dims. */
static dnnl_memory_desc_t image(const nn_view *v)
{
    return tagged(4, (int64_t[]){ v->dim[0], v->dim[3], v->dim[1], v->dim[2] }, dnnl_nhwc);
}

/* The same as it lies. */
static dnnl_memory_desc_t image_at(const nn_view *v)
{
    if (nn_view_contiguous(v)) return image(v);
    return nn_dnnl_strided(4, (int64_t[]){ v->dim[0], v->dim[3], v->dim[1], v->dim[2] },
                           (int64_t[]){ v->stride[0], v->stride[3], v->stride[1], v->stride[2] });
}

static dnnl_memory_desc_t weights_at(const nn_view *v)
{
    return nn_view_contiguous(v) ? tagged(4, v->dim, dnnl_oihw)
                                 : nn_dnnl_strided(4, v->dim, v->stride);
}

static dnnl_memory_desc_t asked(const dnnl_memory_desc_t *md, way how, bool any)
{
    dnnl_memory_desc_t out = nn_dnnl_of(md, how.type);
    return any ? nn_dnnl_any(&out) : out;
}

static conv make_conv(const nn_call *c, way how, const nn_view *x, const nn_view *w,
                      const nn_view *y)
{
    const nn_conv2d_params *p = c->params;
    bool any = how.alg == dnnl_convolution_winograd;
    conv v = { .how = how,
               .plain_w = nn_view_contiguous(w),
               .x = image(x),
               .w = weights_at(w),
               .b = tagged(1, &w->dim[0], dnnl_a),
               .y = image(y),
               .strides = { p->stride, p->stride },
               .before = { p->top, p->left },
               .after = { p->bottom, p->right } };
    v.asked_x = asked(&v.x, how, any);
    v.asked_w = asked(&v.w, how, true);
    v.asked_y = asked(&v.y, how, any);
    return v;
}

static nn_status describe(const nn_call *c, const conv *v, dnnl_prop_kind_t kind, bool biased,
                          bool accumulate, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t op;
    NN_TRY(nn_dnnl_check(dnnl_convolution_forward_desc_init(
                             &op, kind, v->how.alg, &v->asked_x, &v->asked_w, biased ? &v->b : NULL,
                             &v->asked_y, v->strides, v->before, v->after),
                         "describing a convolution"));
    return nn_dnnl_describe(c, &op, accumulate, NULL, out);
}

/* The forward pass that the library wants to see before it chooses a gradient. */
static nn_status describe_hint(const nn_call *c, const conv *v, bool biased,
                               dnnl_primitive_desc_t *out)
{
    conv f = *v;
    f.asked_x = nn_dnnl_of(&v->asked_x, v->how.type);
    f.asked_w = nn_dnnl_of(&v->asked_w, v->how.type);
    return describe(c, &f, dnnl_forward_training, biased, false, out);
}

static nn_status describe_bwd_x(const nn_call *c, const conv *v, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t hint;
    NN_TRY(describe_hint(c, v, false, &hint));
    nn_status status = nn_dnnl_check(
        dnnl_convolution_backward_data_desc_init(&op, v->how.alg, &v->asked_x, &v->asked_w,
                                                 &v->asked_y, v->strides, v->before, v->after),
        "describing a gradient");
    if (status == NN_OK) status = nn_dnnl_describe(c, &op, false, hint, out);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

static nn_status describe_bwd_w(const nn_call *c, const conv *v, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t hint;
    NN_TRY(describe_hint(c, v, true, &hint));
    nn_status status = nn_dnnl_check(dnnl_convolution_backward_weights_desc_init(
                                         &op, v->how.alg, &v->asked_x, &v->asked_w, &v->b,
                                         &v->asked_y, v->strides, v->before, v->after),
                                     "describing a gradient");
    if (status == NN_OK) status = nn_dnnl_describe(c, &op, false, hint, out);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

/* Every element of a view has a place of its own. */
static bool usable(const nn_view *v)
{
    if (v->dtype != NN_F32 || nn_view_elems(v) == 0) return false;
    for (int i = 0; i < v->rank; i++)
        if (v->dim[i] > 1 && v->stride[i] < 1) return false;
    return true;
}

bool nn_dnnl_conv2d_accepts(const nn_call *c)
{
    bool ok = true;
    for (int i = 0; i < c->n_in; i++) ok &= !nn_present(&c->in[i]) || usable(&c->in[i]);
    for (int i = 0; i < c->n_out; i++) ok &= usable(&c->out[i]) && nn_view_contiguous(&c->out[i]);
    return ok && (c->n_in <= B || !nn_present(&c->in[B]) || nn_view_contiguous(&c->in[B]));
}

bool nn_dnnl_conv2d_bf16_accepts(const nn_call *c)
{
    return c->arithmetic == NN_BF16 && nn_dnnl_conv2d_accepts(c);
}

static bool accumulates(const nn_call *c)
{
    return nn_present(&c->in[SHIFT]) || nn_present(&c->in[RESIDUAL]);
}

static nn_status describe_forward(const nn_call *c, const conv *v, dnnl_primitive_desc_t *out)
{
    return describe(c, v, c->frozen ? dnnl_forward_inference : dnnl_forward_training,
                    nn_present(&c->in[B]), accumulates(c), out);
}

static conv forward_conv(const nn_call *c, way how)
{
    conv v = make_conv(c, how, &c->in[X], &c->in[W], &c->out[0]);
    v.asked_y = nn_dnnl_of(&v.asked_y, dnnl_f32);
    return v;
}

static const dnnl_memory_desc_t *wanted(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static nn_status append_forward(nn_call *c, const conv *v, const_dnnl_primitive_desc_t pd)
{
    bool biased = nn_present(&c->in[B]);
    nn_dnnl_arg args[4] = {
        { DNNL_ARG_SRC, NN_DNNL_IN, X, image_at(&c->in[X]) },
        { DNNL_ARG_WEIGHTS, NN_DNNL_IN, W, v->w },
        { DNNL_ARG_BIAS, NN_DNNL_IN, B, v->b },
    };
    args[biased ? 3 : 2] = (nn_dnnl_arg){ DNNL_ARG_DST, NN_DNNL_OUT, 0, image_at(&c->out[0]) };
    NN_TRY(nn_dnnl_arrange(c, &args[0], wanted(pd, dnnl_query_src_md)));
    NN_TRY(nn_dnnl_pack(c, &args[1], wanted(pd, dnnl_query_weights_md)));
    if (biased) NN_TRY(nn_dnnl_arrange(c, &args[2], &v->b));
    return nn_dnnl_append_to(c, pd, biased ? 4 : 3, args, wanted(pd, dnnl_query_dst_md),
                             accumulates(c));
}

/* -- what the convolution adds to */

static void add_row(float *y, const nn_view *v, const float *from, int64_t channels, bool set)
{
    int64_t step = v->stride[v->rank - 1];
    for (int64_t i = 0; i < channels; i++) y[i] = from[i * step] + (set ? 0 : y[i]);
}

static void prefill_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const nn_call *c = ctx;
    const nn_view *y = &c->out[0], *shift = &c->in[SHIFT], *residual = &c->in[RESIDUAL];
    int64_t height = y->dim[1], width = y->dim[2], channels = y->dim[3];
    bool copied = nn_present(residual) && residual->data != y->data;
    bool set = !nn_present(residual);
    for (int64_t i = begin; i < end; i++) { /* i counts rows of pixels */
        int64_t n = i / height, h = i % height;
        float *to = (float *)y->data + i * width * channels;
        for (int64_t w = 0; w < width; w++, to += channels) {
            if (copied)
                add_row(to, residual,
                        (const float *)residual->data + n * residual->stride[0] +
                            h * residual->stride[1] + w * residual->stride[2],
                        channels, true);
            if (nn_present(shift))
                add_row(to, shift, (const float *)shift->data + n * shift->stride[0], channels,
                        set);
        }
    }
}

void nn_dnnl_conv2d_prefill(const nn_call *c)
{
    const nn_view *y = &c->out[0], *residual = &c->in[RESIDUAL];
    if (nn_present(&c->in[SHIFT]) || (nn_present(residual) && residual->data != y->data))
        nn_pool_for(c->pool, y->dim[0] * y->dim[1], 1, prefill_rows, (void *)c);
}

nn_status nn_dnnl_conv2d_run(const nn_call *c)
{
    nn_dnnl_conv2d_prefill(c);
    return nn_dnnl_run(c);
}

/* -- gradients */

static nn_status append_bwd_x(nn_call *c, const conv *v, const_dnnl_primitive_desc_t pd)
{
    nn_dnnl_arg args[] = {
        { DNNL_ARG_DIFF_DST, NN_DNNL_IN, 0, image_at(&c->in[0]) },
        { DNNL_ARG_WEIGHTS, NN_DNNL_IN, W, v->w },
        { DNNL_ARG_DIFF_SRC, NN_DNNL_OUT, 0, v->x },
    };
    NN_TRY(nn_dnnl_arrange(c, &args[0], wanted(pd, dnnl_query_diff_dst_md)));
    NN_TRY(nn_dnnl_pack(c, &args[1], wanted(pd, dnnl_query_weights_md)));
    return nn_dnnl_append_to(c, pd, 3, args, wanted(pd, dnnl_query_diff_src_md), false);
}

static conv bwd_x_conv(const nn_call *c, way how)
{
    conv v = make_conv(c, how, &c->out[0], &c->in[1], &c->in[0]);
    v.asked_x = nn_dnnl_of(&v.asked_x, dnnl_f32);
    return v;
}

static nn_status append_bwd_w(nn_call *c, const conv *v, const_dnnl_primitive_desc_t pd)
{
    nn_dnnl_arg args[] = {
        { DNNL_ARG_DIFF_DST, NN_DNNL_IN, 0, image_at(&c->in[0]) },
        { DNNL_ARG_SRC, NN_DNNL_IN, 1, image_at(&c->in[1]) },
        { DNNL_ARG_DIFF_BIAS, NN_DNNL_OUT, 1, v->b },
        { DNNL_ARG_DIFF_WEIGHTS, NN_DNNL_OUT, 0, v->w },
    };
    NN_TRY(nn_dnnl_arrange(c, &args[0], wanted(pd, dnnl_query_diff_dst_md)));
    NN_TRY(nn_dnnl_arrange(c, &args[1], wanted(pd, dnnl_query_src_md)));
    return nn_dnnl_append_to(c, pd, 4, args, wanted(pd, dnnl_query_diff_weights_md), false);
}

static conv bwd_w_conv(const nn_call *c, way how)
{
    conv v = make_conv(c, how, &c->in[1], &c->out[0], &c->in[0]);
    v.asked_w = nn_dnnl_of(&v.asked_w, dnnl_f32);
    return v;
}

/* -- the kernels: a direction and an algorithm each */

typedef struct direction {
    conv (*geometry)(const nn_call *c, way how);
    nn_status (*describe)(const nn_call *c, const conv *v, dnnl_primitive_desc_t *out);
    nn_status (*append)(nn_call *c, const conv *v, const_dnnl_primitive_desc_t pd);
} direction;

static const direction forward = { forward_conv, describe_forward, append_forward };
static const direction bwd_x = { bwd_x_conv, describe_bwd_x, append_bwd_x };
static const direction bwd_w = { bwd_w_conv, describe_bwd_w, append_bwd_w };

static nn_status prepare(nn_call *c, const direction *d, way how)
{
    dnnl_primitive_desc_t pd;
    conv v = d->geometry(c, how);
    NN_TRY(nn_dnnl_begin(c));
    NN_TRY(d->describe(c, &v, &pd));
    nn_status status = d->append(c, &v, pd);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* Measured on AVX-512: it transforms images, gradients and weights, which enough places repay. */
static bool wins(const conv *v, const nn_conv2d_params *p)
{
    const dnnl_dim_t *w = v->w.dims, *y = v->y.dims;
    return w[2] == 3 && w[3] == 3 && p->stride == 1 && y[2] >= 4 && y[3] >= 4 && w[0] >= 32 &&
           w[1] >= 32 && w[0] % 16 == 0 && w[1] % 16 == 0 && v->plain_w &&
           y[0] * y[2] * y[3] >= 512;
}

bool nn_dnnl_conv2d_bwd_w_winograd_accepts(const nn_call *c)
{
    dnnl_primitive_desc_t pd;
    if (!nn_dnnl_conv2d_accepts(c)) return false;
    conv v = bwd_w_conv(c, blocked);
    if (!wins(&v, c->params)) return false;
    if (describe_bwd_w(c, &v, &pd) != NN_OK) {
        nn_error_clear(); /* this processor has none: not an error */
        return false;
    }
    dnnl_primitive_desc_destroy(pd);
    return true;
}

nn_status nn_dnnl_conv2d_bwd_w_winograd_prepare(nn_call *c)
{
    return prepare(c, &bwd_w, blocked);
}

#define KERNELS(op, d)                                                                             \
    nn_status nn_dnnl_##op##_direct_prepare(nn_call *c)                                            \
    {                                                                                              \
        return prepare(c, &(d), direct);                                                           \
    }                                                                                              \
    nn_status nn_dnnl_##op##_bf16_prepare(nn_call *c)                                              \
    {                                                                                              \
        return prepare(c, &(d), bf16);                                                             \
    }
#define WHOLE_WINOGRAD(op, d)                                                                      \
    nn_status nn_dnnl_##op##_winograd_prepare(nn_call *c)                                          \
    {                                                                                              \
        return prepare(c, &(d), blocked);                                                          \
    }
KERNELS(conv2d, forward)
KERNELS(conv2d_bwd_x, bwd_x)
KERNELS(conv2d_bwd_w, bwd_w)
