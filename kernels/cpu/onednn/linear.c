/* linear and its gradients as matrix products of oneDNN: rows of constant stride, one product for
 * all leading dims.
 *
 * The product adds to a residual in the result, which is copied there unless the result has taken
 * over its storage. Forward and dx are `matmul`; weights are packed in frozen plans and read as
 * published otherwise (the product packs its tiles as it goes, at 95 % of the packed speed). dw and
 * db are one `inner_product` gradient, which splits long sums over threads in a fixed order. In
 * bf16 the operands are copied in every run anyway, so weights take the library's layout on that
 * way. */
#include <string.h>

#include "kernels/cpu/onednn/onednn.h"

enum { B = 2, RESIDUAL };  /* optional operands of linear */
enum { COPIED = 1 << 14 }; /* elements of a residual that are worth a thread */

/* A view as a matrix of f32: all dims but the last are rows. Rows may have gaps, but one stride. */
typedef struct matrix {
    int64_t rows, columns, stride;
    bool ok;
} matrix;

static matrix matrix_of(const nn_view *v)
{
    matrix m = { .rows = 1, .columns = v->rank ? nn_last(v, 0) : 0 };
    int64_t packed = m.columns;
    m.ok = v->dtype == NN_F32 && nn_view_elems(v) > 0 && v->rank > 0 &&
           nn_view_packed_from(v, v->rank - 1);
    m.stride = m.columns;
    for (int i = v->rank - 2; i >= 0; i--) {
        if (v->dim[i] == 1) continue;
        if (m.rows == 1)
            m.stride = packed = v->stride[i];
        else
            m.ok &= v->stride[i] == packed;
        packed *= v->dim[i];
        m.rows *= v->dim[i];
    }
    m.ok &= m.stride >= m.columns;
    return m;
}

static dnnl_memory_desc_t layout(const matrix *m)
{
    return nn_dnnl_strided(2, (int64_t[]){ m->rows, m->columns }, (int64_t[]){ m->stride, 1 });
}

static dnnl_memory_desc_t transposed(const matrix *m)
{
    return nn_dnnl_strided(2, (int64_t[]){ m->columns, m->rows }, (int64_t[]){ 1, m->stride });
}

bool nn_dnnl_linear_accepts(const nn_call *c)
{
    bool ok = true;
    for (int i = 0; i < c->n_in; i++) ok &= !nn_present(&c->in[i]) || matrix_of(&c->in[i]).ok;
    for (int i = 0; i < c->n_out; i++) ok &= matrix_of(&c->out[i]).ok;
    return ok;
}

bool nn_dnnl_linear_bf16_accepts(const nn_call *c)
{
    return c->arithmetic == NN_BF16 && nn_dnnl_linear_accepts(c);
}

/* The layout that an operand is wanted in: as it lies, or without gaps and rounded. */
static dnnl_memory_desc_t wanted(matrix m, dnnl_data_type_t type)
{
    if (type == dnnl_bf16) m.stride = m.columns;
    dnnl_memory_desc_t md = layout(&m);
    return nn_dnnl_of(&md, type);
}

static const nn_view *added(const nn_call *c, int i)
{
    return c->n_in > i && nn_present(&c->in[i]) ? &c->in[i] : NULL;
}

/* out[0] = in[0] * w, with what linear adds. type: of the operands. */
static nn_status product(nn_call *c, const dnnl_memory_desc_t *w, dnnl_data_type_t type)
{
    matrix x = matrix_of(&c->in[0]), y = matrix_of(&c->out[0]);
    bool biased = added(c, B) != NULL;
    nn_dnnl_arg args[] = {
        { DNNL_ARG_SRC, NN_DNNL_IN, 0, layout(&x) },
        { DNNL_ARG_WEIGHTS, NN_DNNL_IN, 1, *w },
        { DNNL_ARG_DST, NN_DNNL_OUT, 0, layout(&y) },
        { DNNL_ARG_BIAS, NN_DNNL_IN, B,
          nn_dnnl_strided(2, (int64_t[]){ 1, y.columns }, (int64_t[]){ y.columns, 1 }) },
    };
    dnnl_memory_desc_t asked_x = wanted(x, type), asked = nn_dnnl_of(w, type);
    if (c->frozen || type == dnnl_bf16) asked = nn_dnnl_any(&asked);
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd;
    NN_TRY(nn_dnnl_begin(c));
    NN_TRY(nn_dnnl_arrange(c, &args[0], &asked_x));
    NN_TRY(nn_dnnl_check(
        dnnl_matmul_desc_init(&op, &args[0].md, &asked, biased ? &args[3].md : NULL, &args[2].md),
        "describing a product"));
    NN_TRY(nn_dnnl_describe(c, &op, added(c, RESIDUAL) != NULL, NULL, &pd));
    nn_status status =
        nn_dnnl_pack(c, &args[1], dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    if (status == NN_OK) status = nn_dnnl_append(c, pd, biased ? 4 : 3, args);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static nn_status forward(nn_call *c, dnnl_data_type_t type)
{
    matrix m = matrix_of(&c->in[1]);
    dnnl_memory_desc_t w = transposed(&m);
    return product(c, &w, type);
}

static nn_status bwd_x(nn_call *c, dnnl_data_type_t type)
{
    matrix m = matrix_of(&c->in[1]);
    dnnl_memory_desc_t w = layout(&m);
    return product(c, &w, type);
}

static void copy_rows(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const nn_call *c = ctx;
    matrix from = matrix_of(&c->in[RESIDUAL]), to = matrix_of(&c->out[0]);
    const float *source = c->in[RESIDUAL].data;
    float *y = c->out[0].data;
    for (int64_t i = begin; i < end; i++)
        memcpy(y + i * to.stride, source + i * from.stride, (size_t)to.columns * sizeof(*y));
}

nn_status nn_dnnl_linear_run(const nn_call *c)
{
    const nn_view *residual = added(c, RESIDUAL);
    if (residual && residual->data != c->out[0].data) {
        int64_t columns = nn_last(residual, 0);
        nn_pool_for(c->pool, nn_view_elems(residual) / columns, COPIED / columns + 1, copy_rows,
                    (void *)c);
    }
    return nn_dnnl_run(c);
}

/* The forward pass that the library wants to see before it chooses the gradient. */
static nn_status forward_of(const nn_call *c, const dnnl_memory_desc_t *x,
                            const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *b,
                            const dnnl_memory_desc_t *y, dnnl_primitive_desc_t *out)
{
    dnnl_inner_product_desc_t op;
    NN_TRY(
        nn_dnnl_check(dnnl_inner_product_forward_desc_init(&op, dnnl_forward_training, x, w, b, y),
                      "describing a product"));
    return nn_dnnl_describe(c, &op, false, NULL, out);
}

static nn_status bwd_w(nn_call *c, dnnl_data_type_t type)
{
    matrix dy = matrix_of(&c->in[0]), x = matrix_of(&c->in[1]), dw = matrix_of(&c->out[0]);
    dnnl_memory_desc_t b = nn_dnnl_strided(1, &dy.columns, (int64_t[]){ 1 });
    nn_dnnl_arg args[] = {
        { DNNL_ARG_DIFF_DST, NN_DNNL_IN, 0, layout(&dy) },
        { DNNL_ARG_SRC, NN_DNNL_IN, 1, layout(&x) },
        { DNNL_ARG_DIFF_BIAS, NN_DNNL_OUT, 1, b },
        { DNNL_ARG_DIFF_WEIGHTS, NN_DNNL_OUT, 0, layout(&dw) },
    };
    dy.stride = dy.columns;
    x.stride = x.columns;
    dnnl_memory_desc_t packed_dy = wanted(dy, type), packed_x = wanted(x, type);
    dnnl_inner_product_desc_t op;
    dnnl_primitive_desc_t hint, pd;
    NN_TRY(nn_dnnl_begin(c));
    NN_TRY(nn_dnnl_arrange(c, &args[0], &packed_dy));
    NN_TRY(nn_dnnl_arrange(c, &args[1], &packed_x));
    dnnl_memory_desc_t w = nn_dnnl_of(&args[3].md, type);
    NN_TRY(forward_of(c, &packed_x, &w, &b, &packed_dy, &hint));
    nn_status status = nn_dnnl_check(
        dnnl_inner_product_backward_weights_desc_init(&op, &packed_x, &args[3].md, &b, &packed_dy),
        "describing a gradient");
    if (status == NN_OK) status = nn_dnnl_describe(c, &op, false, hint, &pd);
    dnnl_primitive_desc_destroy(hint);
    NN_TRY(status);
    status = nn_dnnl_append(c, pd, 4, args);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

#define KERNELS(op, prepare_it)                                                                    \
    nn_status nn_dnnl_##op##_prepare(nn_call *c)                                                   \
    {                                                                                              \
        return prepare_it(c, dnnl_f32);                                                            \
    }                                                                                              \
    nn_status nn_dnnl_##op##_bf16_prepare(nn_call *c)                                              \
    {                                                                                              \
        return prepare_it(c, dnnl_bf16);                                                           \
    }
KERNELS(linear, forward)
KERNELS(linear_bwd_x, bwd_x)
KERNELS(linear_bwd_w, bwd_w)
