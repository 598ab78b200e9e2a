/* linear and its gradients as products of cuBLASLt.
 *
 * cuBLAS counts columns first, so that our [m, n] row by row is its [n, m]: D^T = B^T A^T. Operands
 * are one type, f32 (in full f32 arithmetic) or bf16; sums are f32. The bias of bf16 products is
 * rounded to bf16, which is what the epilogue adds; the residual is the product's C. The algorithm
 * is chosen once per plan, among those that need no atomic sums, so that reruns give the same bits.
 *
 * The gradient of the bias has the type of D, which is dw: f32, as it is wanted. So it is summed by
 * the epilogue of dw's product, that has dy at hand, wherever the library has an algorithm for
 * both; elsewhere a kernel of ours reads dy once more. */
#include "kernels/cuda/linear.cuh"

extern "C" {
#include "engine/base/alloc.h"
}

enum { BLAS_WORKSPACE = 32 << 20, ALIGNMENT = 16 };

typedef struct linear_blas {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c, d; /* in the terms of cuBLAS; c of the residual or NULL */
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes; /* of the product; ours lies behind */
    bool sums_bias;         /* the product of dw makes db too */
} linear_blas;

#define BLAS_TRY(call) NN_TRY(nn_cublas_status((call), #call))

/* One side of the product: which operand, and whether cuBLAS must transpose it. */
typedef struct side {
    const nn_view *view;
    bool transposed;
} side;

template <linear_kind KIND> static side left(const nn_call *c)
{
    if (KIND == LINEAR_FORWARD) return { &c->in[1], true }; /* w */
    return { &c->in[1], false };                            /* w of bwd_x, x of bwd_w */
}

template <linear_kind KIND> static side right(const nn_call *c)
{
    return { &c->in[0], KIND == LINEAR_BWD_W }; /* x, dy, dy */
}

static cudaDataType_t type_of(const nn_view *v)
{
    return v->dtype == NN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static uint32_t alignment_of(const nn_view *v)
{
    const uintptr_t at = reinterpret_cast<uintptr_t>(v->data) | ALIGNMENT;
    return (uint32_t)(at & (~at + 1)); /* the lowest bit that is set */
}

static nn_status layout(const nn_view *v, cublasLtMatrixLayout_t *out)
{
    const linear_matrix m = linear_matrix_of(v);
    return nn_cublas_status(cublasLtMatrixLayoutCreate(out, type_of(v), (uint64_t)m.columns,
                                                       (uint64_t)m.rows, m.stride),
                            "layout of a matrix");
}

static nn_status set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t what,
                     const void *value, size_t bytes)
{
    return nn_cublas_status(cublasLtMatmulDescSetAttribute(product, what, value, bytes),
                            "attribute of a product");
}

/* c is NULL where nothing is added. */
static nn_status describe(linear_blas *s, side a, side b, const nn_view *c, const nn_view *d)
{
    const cublasOperation_t flip[2] = { CUBLAS_OP_N, CUBLAS_OP_T };
    BLAS_TRY(cublasLtMatmulDescCreate(&s->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    NN_TRY(set(s->product, CUBLASLT_MATMUL_DESC_TRANSA, &flip[a.transposed], sizeof(flip[0])));
    NN_TRY(set(s->product, CUBLASLT_MATMUL_DESC_TRANSB, &flip[b.transposed], sizeof(flip[0])));
    NN_TRY(layout(a.view, &s->a));
    NN_TRY(layout(b.view, &s->b));
    if (c) NN_TRY(layout(c, &s->c));
    return layout(d, &s->d);
}

static nn_status prefer(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t what,
                        const void *value, size_t bytes)
{
    return nn_cublas_status(cublasLtMatmulPreferenceSetAttribute(p, what, value, bytes),
                            "preference of a product");
}

static nn_status ask(cublasLtHandle_t blas, linear_blas *s, cublasLtMatmulPreference_t p,
                     const nn_view *a, const nn_view *b, const nn_view *c, const nn_view *d)
{
    const size_t room = BLAS_WORKSPACE;
    const uint32_t ordered = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t aligned[4] = { alignment_of(a), alignment_of(b), alignment_of(c ? c : d),
                                  alignment_of(d) };
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof(room)));
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &ordered, sizeof(ordered)));
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aligned[0], sizeof(uint32_t)));
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned[1], sizeof(uint32_t)));
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &aligned[2], sizeof(uint32_t)));
    NN_TRY(prefer(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &aligned[3], sizeof(uint32_t)));
    BLAS_TRY(cublasLtMatmulAlgoGetHeuristic(blas, s->product, s->a, s->b, s->c ? s->c : s->d, s->d,
                                            p, 1, &found, &n));
    if (n < 1) return nn_fail(NN_UNSUPPORTED, "cuBLASLt has no algorithm for this product");
    s->algorithm = found.algo;
    s->workspace_bytes = (found.workspaceSize + 255) / 256 * 256;
    return NN_OK;
}

static void free_blas(linear_blas *s)
{
    if (s->product) cublasLtMatmulDescDestroy(s->product);
    if (s->a) cublasLtMatrixLayoutDestroy(s->a);
    if (s->b) cublasLtMatrixLayoutDestroy(s->b);
    if (s->c) cublasLtMatrixLayoutDestroy(s->c);
    if (s->d) cublasLtMatrixLayoutDestroy(s->d);
    *s = {};
}

/* The vector has the type of D. Its address is not true yet, but its alignment is, which is what
 * the choice of an algorithm depends on; a bias that will be rounded is well aligned. */
static nn_status set_epilogue(cublasLtMatmulDesc_t product, cublasLtEpilogue_t epilogue,
                              const nn_view *vector, const nn_view *d)
{
    const cudaDataType_t type = type_of(d);
    NN_TRY(set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)));
    NN_TRY(set(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof(type)));
    if (vector->dtype != d->dtype) return NN_OK;
    return set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector->data, sizeof(vector->data));
}

/* Chooses the algorithm, and with it who makes db. */
template <linear_kind KIND>
static nn_status choose(const nn_call *c, cublasLtHandle_t blas, linear_blas *s,
                        cublasLtMatmulPreference_t p)
{
    const nn_view *a = left<KIND>(c).view, *b = right<KIND>(c).view, *d = &c->out[0];
    const nn_view *bias = linear_added<KIND>(c, LINEAR_B), *db = &c->out[1];
    const nn_view *residual = linear_added<KIND>(c, LINEAR_RESIDUAL);
    if (bias) NN_TRY(set_epilogue(s->product, CUBLASLT_EPILOGUE_BIAS, bias, d));
    if (KIND == LINEAR_BWD_W && d->dtype == db->dtype) {
        NN_TRY(set_epilogue(s->product, CUBLASLT_EPILOGUE_BGRADB, db, d));
        s->sums_bias = ask(blas, s, p, a, b, NULL, d) == NN_OK;
        if (s->sums_bias) return NN_OK;
        NN_TRY(set_epilogue(s->product, CUBLASLT_EPILOGUE_DEFAULT, db, d));
    }
    return ask(blas, s, p, a, b, residual, d);
}

template <linear_kind KIND> static nn_status open_blas(const nn_call *c, linear_blas *s)
{
    cublasLtHandle_t blas;
    cublasLtMatmulPreference_t p = NULL;
    NN_TRY(nn_cuda_blas(nn_cuda_of(c), &blas));
    nn_status status = describe(s, left<KIND>(c), right<KIND>(c),
                                linear_added<KIND>(c, LINEAR_RESIDUAL), &c->out[0]);
    if (status == NN_OK)
        status = nn_cublas_status(cublasLtMatmulPreferenceCreate(&p), "preference of a product");
    if (status == NN_OK) status = choose<KIND>(c, blas, s, p);
    if (p) cublasLtMatmulPreferenceDestroy(p);
    if (status != NN_OK) free_blas(s);
    return status;
}

template <linear_kind KIND> static bool fits(const nn_call *c)
{
    const nn_view *bias = linear_added<KIND>(c, LINEAR_B);
    const nn_view *residual = linear_added<KIND>(c, LINEAR_RESIDUAL);
    const bool vectors =
        (!bias || (bias->dtype == NN_F32 && bias->stride[0] == 1)) &&
        (KIND != LINEAR_BWD_W || (c->out[1].dtype == NN_F32 && nn_view_contiguous(&c->out[1])));
    return nn_is_float(&c->in[0]) && c->in[1].dtype == c->in[0].dtype && nn_is_float(&c->out[0]) &&
           (c->out[0].dtype == c->in[0].dtype || KIND == LINEAR_BWD_W) && vectors &&
           nn_view_elems(&c->in[0]) && nn_view_elems(&c->in[1]) &&
           linear_matrix_of(&c->in[0]).even && linear_matrix_of(&c->in[1]).even &&
           linear_matrix_of(&c->out[0]).even && (!residual || linear_matrix_of(residual).even);
}

template <linear_kind KIND> bool linear_blas_accepts(const nn_call *c)
{
    linear_blas s = {};
    if (!fits<KIND>(c)) return false;
    if (nn_cuda_of(c)->absent) return true;
    if (open_blas<KIND>(c, &s) != NN_OK) return false;
    free_blas(&s);
    return true;
}

/* The bias in bf16: with the packed weights if they are frozen, else in the workspace. */
template <linear_kind KIND> static size_t rounded_bytes(const nn_call *c)
{
    const bool rounds = linear_added<KIND>(c, LINEAR_B) && c->out[0].dtype == NN_BF16;
    return rounds ? (size_t)nn_last(&c->out[0], 0) * sizeof(bf16) : 0;
}

/* Behind the workspace of the product: the bias in bf16, or the partial sums of its gradient. */
template <linear_kind KIND> static size_t own_bytes(const nn_call *c, const linear_blas *s)
{
    if (KIND == LINEAR_BWD_W) return s->sums_bias ? 0 : linear_bias_bytes(&c->in[0]);
    return c->frozen ? 0 : rounded_bytes<KIND>(c);
}

/* Without a GPU there is nobody to ask for an algorithm: the most that one may want is taken. */
template <linear_kind KIND> nn_status linear_blas_prepare(nn_call *c)
{
    linear_blas *s = static_cast<linear_blas *>(nn_alloc(1, sizeof(*s)));
    NN_NEED(s);
    c->state = s;
    if (nn_cuda_of(c)->absent)
        s->workspace_bytes = BLAS_WORKSPACE;
    else
        NN_TRY(open_blas<KIND>(c, s));
    c->workspace_bytes = s->workspace_bytes + own_bytes<KIND>(c, s);
    if (c->frozen) c->packed_bytes = rounded_bytes<KIND>(c);
    return NN_OK;
}

void linear_blas_release(nn_call *c)
{
    linear_blas *s = static_cast<linear_blas *>(c->state);
    if (!s) return;
    free_blas(s);
    nn_free(s);
    c->state = NULL;
}

/* A bias that is part of a longer vector may begin anywhere. */
static nn_status round_bias(const nn_call *c, bf16 *rounded)
{
    const nn_view *bias = &c->in[LINEAR_B], *const views[2] = { bias, bias };
    const nn_operands<float, 1> in = { { static_cast<const float *>(bias->data) } };
    return NN_LAUNCH((nn_map_steps<nn_map_same, float, bf16, 1>),
                     (unsigned)nn_ceil_div(bias->dim[0], NN_MAP_THREADS), NN_MAP_THREADS, 0, c,
                     nn_map_same{}, in, rounded, nn_steps_of(bias, views));
}

/* The bias as the product wants it. */
static nn_status point_at_bias(const nn_call *c, linear_blas *s)
{
    const void *data = c->in[LINEAR_B].data;
    if (c->out[0].dtype == NN_BF16) {
        bf16 *rounded =
            c->frozen
                ? static_cast<bf16 *>(c->packed)
                : reinterpret_cast<bf16 *>(static_cast<char *>(c->workspace) + s->workspace_bytes);
        if (!c->frozen || c->repack) NN_TRY(round_bias(c, rounded));
        data = rounded;
    }
    if (nn_cuda_of(c)->absent) return NN_OK;
    return set(s->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data, sizeof(data));
}

/* What the product itself keeps in the workspace is not known. */
template <linear_kind KIND> double linear_blas_extra(const nn_call *c)
{
    const linear_blas *s = static_cast<const linear_blas *>(c->state);
    const bool sums = KIND == LINEAR_BWD_W && !s->sums_bias;
    return 2 * (double)own_bytes<KIND>(c, s) + (sums ? (double)nn_view_bytes(&c->in[0]) : 0);
}

template <linear_kind KIND> nn_status linear_blas_run(const nn_call *c)
{
    linear_blas *s = static_cast<linear_blas *>(c->state);
    const nn_view *d = &c->out[0], *residual = linear_added<KIND>(c, LINEAR_RESIDUAL);
    const float one = 1, added = residual ? 1 : 0;
    const bool apart = residual && residual->data != d->data; /* in place, C is D in all */
    if (linear_added<KIND>(c, LINEAR_B)) NN_TRY(point_at_bias(c, s));
    if (s->sums_bias)
        NN_TRY(set(s->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &c->out[1].data, sizeof(void *)));
    if (nn_cuda_may_start(c))
        BLAS_TRY(cublasLtMatmul(nn_cuda_of(c)->blas, s->product, &one, left<KIND>(c).view->data,
                                s->a, right<KIND>(c).view->data, s->b, &added,
                                apart ? residual->data : d->data, apart ? s->c : s->d, d->data,
                                s->d, &s->algorithm, c->workspace, s->workspace_bytes,
                                nn_cuda_of(c)->stream));
    if (KIND != LINEAR_BWD_W || s->sums_bias) return NN_OK;
    return linear_bias_run(
        c, &c->in[0], static_cast<float *>(c->out[1].data),
        reinterpret_cast<float *>(static_cast<char *>(c->workspace) + s->workspace_bytes));
}

#define EACH(KIND)                                                                                 \
    template bool linear_blas_accepts<KIND>(const nn_call *c);                                     \
    template nn_status linear_blas_prepare<KIND>(nn_call * c);                                     \
    template double linear_blas_extra<KIND>(const nn_call *c);                                     \
    template nn_status linear_blas_run<KIND>(const nn_call *c);
EACH(LINEAR_FORWARD)
EACH(LINEAR_BWD_X)
EACH(LINEAR_BWD_W)
