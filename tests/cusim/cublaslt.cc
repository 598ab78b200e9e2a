// cuBLASLt's descriptors and the checks that the library makes before it computes.
#include "cublaslt.h"

#include <algorithm>
#include <cstring>

#include "runtime.h"

namespace cusim
{

namespace
{

constexpr size_t algo_workspace = 1 << 20; // what an algorithm asks for, if it may
constexpr size_t algo_alignment = 16;      // of the operands, if the preference promises as much
constexpr size_t workspace_alignment = 256;
constexpr uint64_t algo_magic = 0x6d6973756cu;

cublasStatus_t take(void *to, size_t expected, const void *value, size_t bytes)
{
    if (!value || bytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool layout_sound(const cublasLtMatrixLayoutOpaque &l)
{
    int64_t rows = int64_t(l.rows), cols = int64_t(l.cols);
    return rows > 0 && cols > 0 && l.batches > 0 &&
           l.ld >= (l.order == CUBLASLT_ORDER_COL ? rows : cols);
}

// The table of types for a compute type of 32F.
bool types_supported(const product &p)
{
    uint32_t in = p.a.layout.type, out = p.d.layout.type;
    bool compute = p.desc.compute == CUBLAS_COMPUTE_32F ||
                   p.desc.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                   (in == CUDA_R_32F && (p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                                         p.desc.compute == CUBLAS_COMPUTE_32F_FAST_16BF));
    bool known = in == CUDA_R_32F || in == CUDA_R_16BF;
    bool same = p.b.layout.type == in && p.c.layout.type == out;
    int32_t bias = p.desc.bias_type;
    bool bias_known = bias < 0 || uint32_t(bias) == out;
    return compute && known && same && bias_known && p.desc.scale == CUDA_R_32F &&
           p.desc.pointer_mode == CUBLASLT_POINTER_MODE_HOST &&
           (out == CUDA_R_32F || (out == CUDA_R_16BF && in == CUDA_R_16BF));
}

bool epilogue_supported(const product &p)
{
    switch (p.desc.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
        return p.d.layout.order == CUBLASLT_ORDER_COL ||
               !(p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS);
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
        return p.d.layout.batches == 1;
    default:
        return false;
    }
}

cublasStatus_t check(const product &p)
{
    const cublasLtMatrixLayoutOpaque &a = p.a.layout, &b = p.b.layout, &c = p.c.layout,
                                     &d = p.d.layout;
    bool ta = p.desc.trans_a != CUBLAS_OP_N, tb = p.desc.trans_b != CUBLAS_OP_N;
    bool fits = (ta ? a.cols : a.rows) == d.rows && (tb ? b.rows : b.cols) == d.cols &&
                (ta ? a.rows : a.cols) == (tb ? b.cols : b.rows) && c.rows == d.rows &&
                c.cols == d.cols && c.order == d.order && a.batches == d.batches &&
                b.batches == d.batches && c.batches == d.batches;
    if (!layout_sound(a) || !layout_sound(b) || !layout_sound(c) || !layout_sound(d) || !fits)
        return CUBLAS_STATUS_INVALID_VALUE;
    return types_supported(p) && epilogue_supported(p) ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_NOT_SUPPORTED;
}

uint64_t mix(uint64_t hash, uint64_t v)
{
    hash = (hash ^ v) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

// An algorithm is good for the problem that it was found for.
uint64_t fingerprint(const product &p)
{
    uint64_t h = mix(mix(mix(1, uint64_t(p.desc.compute)), uint64_t(p.desc.trans_a)),
                     uint64_t(p.desc.trans_b));
    h = mix(h, p.desc.epilogue);
    for (const matrix *m : { &p.a, &p.b, &p.c, &p.d }) {
        const cublasLtMatrixLayoutOpaque &l = m->layout;
        h = mix(mix(mix(mix(h, l.type), uint64_t(l.order)), l.rows), l.cols);
        h = mix(mix(h, uint64_t(l.ld)), uint64_t(l.batches));
    }
    return h;
}

bool aligned(const void *p, size_t to)
{
    return reinterpret_cast<uintptr_t>(p) % to == 0;
}

// As far as the library can see before it computes: a wrong address is not among that.
cublasStatus_t check_algo(const product &p, const cublasLtMatmulAlgo_t *algo, const void *workspace,
                          size_t workspace_bytes)
{
    const void *operands[4] = { p.a.data, p.b.data, p.c.data, p.d.data };
    const matrix *matrices[4] = { &p.a, &p.b, &p.c, &p.d };
    for (int i = 0; i < 4; i++)
        if (!aligned(operands[i], element_bytes(matrices[i]->layout.type)))
            return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes > 0 && (!workspace || !aligned(workspace, workspace_alignment)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!algo) return CUBLAS_STATUS_SUCCESS;
    if (algo->data[0] != algo_magic || algo->data[1] != fingerprint(p))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < algo->data[2]) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < 4; i++)
        if (!aligned(operands[i], algo->data[3 + i])) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!aligned(p.desc.bias, algo->data[7])) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

// What an algorithm may rely on, given what is promised (0: nothing).
uint64_t relied_on(uint64_t promised)
{
    return promised == 0 ? 1 : std::min<uint64_t>(promised, algo_alignment);
}

// Not every problem has an algorithm that sums a gradient on the side.
bool has_algo(const product &p, const uint32_t *alignment)
{
    if (!(p.desc.epilogue & (CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB))) return true;
    return alignment[0] >= algo_alignment && alignment[1] >= algo_alignment;
}

// Where the hardware would fault or write astray.
void need_matrix(const matrix &m, const char *name)
{
    const cublasLtMatrixLayoutOpaque &l = m.layout;
    int64_t lines = int64_t(l.order == CUBLASLT_ORDER_COL ? l.cols : l.rows);
    int64_t line = int64_t(l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols);
    int64_t last = (l.batches - 1) * l.batch_stride + (lines - 1) * l.ld + line;
    if (last < 0 || !memory_is_device(m.data, size_t(last) * element_bytes(l.type)))
        fail("cublasLtMatmul: %s is not in device memory with all of its %lld elements", name,
             (long long)last);
}

void need_operands(const product &p)
{
    need_matrix(p.a, "A");
    need_matrix(p.b, "B");
    if (p.beta != 0) need_matrix(p.c, "C");
    need_matrix(p.d, "D");
    uint32_t type = p.desc.bias_type < 0 ? p.d.layout.type : uint32_t(p.desc.bias_type);
    uint64_t n = p.desc.epilogue & CUBLASLT_EPILOGUE_BGRADB ? p.d.layout.cols : p.d.layout.rows;
    if (p.desc.bias && !memory_is_device(p.desc.bias, n * element_bytes(type)))
        fail("cublasLtMatmul: the bias is not in device memory with all of its %llu elements",
             (unsigned long long)n);
}

bool needs_bias(uint32_t epilogue)
{
    return epilogue &
           (CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB);
}

} // namespace

} // namespace cusim

using namespace cusim;

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
        return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR:
        return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "unknown";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}
const char *cublasGetStatusName(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}
const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}
size_t cublasLtGetVersion(void)
{
    return 130000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new cublasLtMatmulDescOpaque();
    (*out)->compute = compute;
    (*out)->scale = scale;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    if (!d) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return take(&d->compute, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return take(&d->scale, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return take(&d->pointer_mode, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&d->trans_a, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&d->trans_b, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&d->epilogue, 4, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&d->bias, sizeof(void *), value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
        return take(&d->bias_stride, 8, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(&d->bias_type, 4, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new cublasLtMatrixLayoutOpaque();
    (*out)->type = type;
    (*out)->rows = rows;
    (*out)->cols = cols;
    (*out)->ld = ld;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes)
{
    if (!l) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return take(&l->type, 4, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return take(&l->order, 4, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return take(&l->rows, 8, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return take(&l->cols, 8, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return take(&l->ld, 8, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return take(&l->batches, 4, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return take(&l->batch_stride, 8, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new cublasLtMatmulPreferenceOpaque();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
        return take(&p->search, 4, value, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(&p->workspace, 8, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(&p->reductions, 4, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(p->alignment, 4, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(p->alignment + 1, 4, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(p->alignment + 2, 4, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(p->alignment + 3, 4, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t *results,
                                              int *n_results)
{
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !a || !b || !c || !d || !preference || !results || !n_results || n_wanted <= 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    *n_results = 0;
    product p = { *desc, { *a, nullptr }, { *b, nullptr }, { *c, nullptr }, { *d, nullptr }, 1, 0 };
    cublasStatus_t status = check(p);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!has_algo(p, preference->alignment)) return CUBLAS_STATUS_NOT_SUPPORTED;
    cublasLtMatmulHeuristicResult_t r = {};
    r.workspaceSize =
        preference->workspace < algo_workspace ? preference->workspace : algo_workspace;
    r.wavesCount = 1;
    r.algo.data[0] = algo_magic;
    r.algo.data[1] = fingerprint(p);
    r.algo.data[2] = r.workspaceSize;
    for (int i = 0; i < 4; i++) r.algo.data[3 + i] = relied_on(preference->alignment[i]);
    // The address of the bias, though not followed, says how the bias is aligned.
    uint64_t bias = reinterpret_cast<uintptr_t>(p.desc.bias);
    r.algo.data[7] = bias ? relied_on(bias & (~bias + 1)) : algo_alignment;
    results[0] = r;
    *n_results = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !alpha || !beta || !A || !a || !B || !b || !c || !D || !d)
        return CUBLAS_STATUS_INVALID_VALUE;
    product p = { *desc,
                  { *a, const_cast<void *>(A) },
                  { *b, const_cast<void *>(B) },
                  { *c, const_cast<void *>(C) },
                  { *d, D },
                  *static_cast<const float *>(alpha),
                  *static_cast<const float *>(beta) };
    cublasStatus_t status = check(p);
    if (status == CUBLAS_STATUS_SUCCESS) status = check_algo(p, algo, workspace, workspace_bytes);
    bool lacks = (p.beta != 0 && !C) || (needs_bias(desc->epilogue) && !desc->bias);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (lacks) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes > 0 && !memory_is_device(workspace, workspace_bytes))
        fail("cublasLtMatmul: the workspace of %zu bytes is not in device memory", workspace_bytes);
    auto run = [p, workspace, workspace_bytes] {
        need_operands(p);
        if (workspace_bytes)
            memset(workspace, poison, workspace_bytes); // nobody else's results may be there
        product_run(p);
        memory_check("cublasLtMatmul");
    };
    bool queued = stream_queue(stream, { "cublasLtMatmul", run, false }) == cudaSuccess;
    return queued ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
