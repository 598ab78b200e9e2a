/* attention by cuDNN: a graph of one operation, scaled dot-product attention of bf16 operands where
 * every query sees every key, with lse as its statistics. Its engines are compiled while a plan is
 * made; the first of the library's choices that can be is taken. Backward stays with our kernels,
 * which read the same lse. */
#include "kernels/cuda/cudnn/attention.cuh"
#include "kernels/cuda/cudnn/cudnn.cuh"

extern "C" {
#include "engine/base/alloc.h"
}

enum { SDPA_Q, SDPA_K, SDPA_V, SDPA_Y, SDPA_LSE, SDPA_SCALE, SDPA_TENSORS };
enum { SDPA_ENGINES = 8 /* that are tried */, SDPA_MADE = SDPA_TENSORS + SDPA_ENGINES + 8 };

typedef cudnnBackendDescriptor_t descriptor;

typedef struct attention_cudnn {
    descriptor made[SDPA_MADE]; /* all that is to be destroyed */
    int n_made;
    descriptor heuristic, plan; /* two of them */
    float scale;
} attention_cudnn;

static nn_status make(attention_cudnn *s, cudnnBackendDescriptorType_t type, descriptor *out)
{
    NN_ASSERT(s->n_made < SDPA_MADE);
    NN_CUDNN_TRY(cudnnBackendCreateDescriptor(type, out));
    s->made[s->n_made++] = *out;
    return NN_OK;
}

static nn_status set(descriptor d, cudnnBackendAttributeName_t name,
                     cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    return nn_cudnn_status(cudnnBackendSetAttribute(d, name, type, n, value),
                           "an attribute of cuDNN's graph");
}

static nn_status refer(descriptor d, cudnnBackendAttributeName_t name, descriptor to)
{
    return set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}

static nn_status finish(descriptor d)
{
    return nn_cudnn_status(cudnnBackendFinalize(d), "a part of cuDNN's graph");
}

static void destroy(attention_cudnn *s)
{
    while (s->n_made) cudnnBackendDestroyDescriptor(s->made[--s->n_made]);
    *s = {};
}

/* -- the graph --------------------------------------------------------------------------------- */

/* A tensor [B, H, T, D]; the scale is a number of the host. */
static nn_status describe(attention_cudnn *s, int64_t id, cudnnDataType_t type,
                          const int64_t (&dim)[4], const int64_t (&stride)[4], descriptor *out)
{
    const int64_t alignment = id == SDPA_SCALE ? sizeof(float) : 16;
    const bool by_value = id == SDPA_SCALE;
    NN_TRY(make(s, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    NN_TRY(set(*out, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value));
    return finish(*out);
}

/* [B, T, H, D] as it lies */
static nn_status describe_rows(attention_cudnn *s, int64_t id, const nn_view *v, descriptor *out)
{
    const int64_t dim[4] = { v->dim[0], v->dim[2], v->dim[1], v->dim[3] };
    const int64_t stride[4] = { v->stride[0], v->stride[2], v->stride[1], v->stride[3] };
    return describe(s, id, CUDNN_DATA_BFLOAT16, dim, stride, out);
}

static nn_status describe_operation(attention_cudnn *s, const nn_call *c, descriptor *out)
{
    const nn_view *l = &c->out[ATTN_LSE];
    const int64_t dim[4] = { l->dim[0], l->dim[1], l->dim[2], 1 }, one[4] = { 1, 1, 1, 1 };
    const int64_t stride[4] = { l->dim[1] * l->dim[2], l->dim[2], 1, 1 };
    descriptor t[SDPA_TENSORS];
    NN_TRY(describe_rows(s, SDPA_Q, &c->in[ATTN_Q], &t[SDPA_Q]));
    NN_TRY(describe_rows(s, SDPA_K, &c->in[ATTN_K], &t[SDPA_K]));
    NN_TRY(describe_rows(s, SDPA_V, &c->in[ATTN_V], &t[SDPA_V]));
    NN_TRY(describe_rows(s, SDPA_Y, &c->out[ATTN_Y], &t[SDPA_Y]));
    NN_TRY(describe(s, SDPA_LSE, CUDNN_DATA_FLOAT, dim, stride, &t[SDPA_LSE]));
    NN_TRY(describe(s, SDPA_SCALE, CUDNN_DATA_FLOAT, one, one, &t[SDPA_SCALE]));
    NN_TRY(make(s, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, out));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, t[SDPA_Q]));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, t[SDPA_K]));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, t[SDPA_V]));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, t[SDPA_Y]));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, t[SDPA_LSE]));
    NN_TRY(refer(*out, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, t[SDPA_SCALE]));
    return finish(*out);
}

/* Asks which engines could run the call. */
static nn_status describe_graph(attention_cudnn *s, const nn_call *c, int64_t *n_engines)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    cudnnHandle_t dnn;
    descriptor operation, graph;
    s->scale = attn_shape_fwd(c).scale;
    NN_TRY(nn_cudnn(nn_cuda_of(c), &dnn));
    NN_TRY(describe_operation(s, c, &operation));
    NN_TRY(make(s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph));
    NN_TRY(set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn));
    NN_TRY(refer(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation));
    NN_TRY(finish(graph));
    NN_TRY(make(s, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &s->heuristic));
    NN_TRY(refer(s->heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    NN_TRY(set(s->heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    NN_TRY(finish(s->heuristic));
    return nn_cudnn_status(cudnnBackendGetAttribute(s->heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, n_engines,
                                                    NULL),
                           "cuDNN's engines for attention");
}

/* Compiles the first of n engines that can be. */
static nn_status make_plan(attention_cudnn *s, cudnnHandle_t dnn, int64_t n, int64_t *bytes)
{
    descriptor engines[SDPA_ENGINES];
    int64_t one = 0;
    n = nn_min(n, SDPA_ENGINES);
    for (int64_t i = 0; i < n; i++)
        NN_TRY(make(s, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &engines[i]));
    NN_CUDNN_TRY(cudnnBackendGetAttribute(s->heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &n, engines));
    for (int64_t i = 0; i < n; i++) {
        descriptor plan;
        NN_CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan));
        if (set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn) == NN_OK &&
            refer(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engines[i]) == NN_OK &&
            finish(plan) == NN_OK) {
            s->plan = s->made[s->n_made++] = plan;
            return nn_cudnn_status(
                cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &one, bytes),
                "workspace of attention");
        }
        cudnnBackendDestroyDescriptor(plan);
    }
    return nn_fail(NN_UNSUPPORTED, "cuDNN compiles none of its %lld engines for this attention",
                   (long long)n);
}

/* -- the kernel -------------------------------------------------------------------------------- */

static bool fits(const nn_call *c)
{
    const nn_attention_params *p = static_cast<const nn_attention_params *>(c->params);
    const nn_view *q = &c->in[ATTN_Q], *k = &c->in[ATTN_K];
    return q->dtype == NN_BF16 && attn_one_type(c, false) && !p->causal &&
           !nn_present(&c->in[ATTN_MASK]) && q->dim[3] % 8 == 0 && nn_view_elems(q) &&
           nn_view_elems(k) && attn_wide_rows(q) && attn_wide_rows(k) &&
           attn_wide_rows(&c->in[ATTN_V]) && attn_wide_rows(&c->out[ATTN_Y]) &&
           nn_view_contiguous(&c->out[ATTN_LSE]);
}

bool attention_cudnn_accepts(const nn_call *c)
{
    attention_cudnn s = {};
    int64_t n = 0;
    const bool known =
        !nn_cuda_of(c)->absent && fits(c) && describe_graph(&s, c, &n) == NN_OK && n > 0;
    destroy(&s);
    return known;
}

nn_status attention_cudnn_prepare(nn_call *c)
{
    attention_cudnn *s = static_cast<attention_cudnn *>(nn_alloc(1, sizeof(*s)));
    int64_t n = 0, bytes = 0;
    NN_NEED(s);
    c->state = s;
    NN_TRY(describe_graph(s, c, &n));
    NN_TRY(make_plan(s, nn_cuda_of(c)->dnn, n, &bytes));
    c->workspace_bytes = (size_t)bytes;
    return NN_OK;
}

void attention_cudnn_release(nn_call *c)
{
    attention_cudnn *s = static_cast<attention_cudnn *>(c->state);
    if (!s) return;
    destroy(s);
    nn_free(s);
    c->state = NULL;
}

/* The addresses of a run. */
static nn_status fill_pack(const nn_call *c, attention_cudnn *s, descriptor pack)
{
    const int64_t ids[SDPA_TENSORS] = { SDPA_Q, SDPA_K, SDPA_V, SDPA_Y, SDPA_LSE, SDPA_SCALE };
    void *const at[SDPA_TENSORS] = { c->in[ATTN_Q].data,  c->in[ATTN_K].data,    c->in[ATTN_V].data,
                                     c->out[ATTN_Y].data, c->out[ATTN_LSE].data, &s->scale };
    NN_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, SDPA_TENSORS, ids));
    NN_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, SDPA_TENSORS, at));
    NN_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &c->workspace));
    return finish(pack);
}

nn_status attention_cudnn_run(const nn_call *c)
{
    attention_cudnn *s = static_cast<attention_cudnn *>(c->state);
    descriptor pack;
    NN_CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    nn_status status = fill_pack(c, s, pack);
    nn_cuda_of(c)->n_launches++;
    if (status == NN_OK)
        status = nn_cudnn_status(cudnnBackendExecute(nn_cuda_of(c)->dnn, s->plan, pack),
                                 "attention by cuDNN");
    cudnnBackendDestroyDescriptor(pack);
    return status;
}
