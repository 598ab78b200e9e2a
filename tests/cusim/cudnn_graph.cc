// cuDNN's graphs of one operation, scaled dot-product attention: descriptors, what is refused, and
// the sums in double precision.
#include <cudnn.h>

#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include <cuda_bf16.h>

#include "runtime.h"

namespace cusim
{

namespace
{

// One descriptor: the attributes that were set, as bytes.
struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finished = false;
    bool refused = false; // an engine that the library offers, but cannot compile
    std::map<int, std::vector<unsigned char>> attributes;

    template <class T> std::vector<T> all(int name) const
    {
        auto found = attributes.find(name);
        if (found == attributes.end()) return {};
        std::vector<T> out(found->second.size() / sizeof(T));
        memcpy(out.data(), found->second.data(), out.size() * sizeof(T));
        return out;
    }
    template <class T> T one(int name, T otherwise) const
    {
        std::vector<T> v = all<T>(name);
        return v.size() == 1 ? v[0] : otherwise;
    }
    const descriptor *to(int name) const { return one<const descriptor *>(name, nullptr); }
};

constexpr size_t plan_workspace = 4096;
constexpr int n_engines = 2; // the first is refused when it is to be compiled

size_t bytes_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_HEUR_MODE:
        return 4;
    case CUDNN_TYPE_BOOLEAN:
        return 1;
    default:
        return 8;
    }
}

struct tensor {
    int64_t dim[4], stride[4]; // batch, head, token, depth
    cudnnDataType_t type;
    bool by_value;
    int64_t id, alignment;
};

bool read_tensor(const descriptor *d, tensor *t)
{
    if (!d || d->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) return false;
    std::vector<int64_t> dim = d->all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
    std::vector<int64_t> stride = d->all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    if (dim.size() != 4 || stride.size() != 4) return false;
    for (int i = 0; i < 4; i++) {
        t->dim[i] = dim[size_t(i)];
        t->stride[i] = stride[size_t(i)];
        if (t->dim[i] < 1 || t->stride[i] < 1) return false;
    }
    t->type = cudnnDataType_t(d->one<int>(CUDNN_ATTR_TENSOR_DATA_TYPE, -1));
    t->by_value = d->one<unsigned char>(CUDNN_ATTR_TENSOR_IS_BY_VALUE, 0) != 0;
    t->id = d->one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, -1);
    t->alignment = d->one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    return t->id >= 0 && t->alignment > 0;
}

struct attention {
    tensor q, k, v, o, stats, scale;
};

bool read_attention(const descriptor *d, attention *a)
{
    return d && d->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC), &a->q) &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC), &a->k) &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC), &a->v) &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC), &a->o) &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC), &a->stats) &&
           read_tensor(d->to(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC), &a->scale);
}

bool same_dims(const tensor &a, const tensor &b)
{
    return memcmp(a.dim, b.dim, sizeof a.dim) == 0;
}

// Rows of a head are packed and lie at multiples of 16 bytes.
bool rows_fit(const tensor &t)
{
    bool even = t.type == CUDNN_DATA_BFLOAT16 && t.stride[3] == 1 && t.dim[3] % 8 == 0;
    for (int i = 0; i < 3; i++) even = even && (t.dim[i] == 1 || t.stride[i] % 8 == 0);
    return even && t.alignment >= 16 && !t.by_value;
}

cudnnStatus_t check_attention(const descriptor *d)
{
    attention a;
    if (!read_attention(d, &a)) return CUDNN_STATUS_BAD_PARAM;
    bool shapes = same_dims(a.q, a.o) && same_dims(a.k, a.v) && a.q.dim[0] == a.k.dim[0] &&
                  a.q.dim[1] == a.k.dim[1] && a.q.dim[3] == a.k.dim[3] && a.stats.dim[3] == 1;
    for (int i = 0; i < 3; i++) shapes = shapes && a.stats.dim[i] == a.q.dim[i];
    if (!shapes) return CUDNN_STATUS_BAD_PARAM;
    bool fit = rows_fit(a.q) && rows_fit(a.k) && rows_fit(a.v) && rows_fit(a.o) &&
               a.stats.type == CUDNN_DATA_FLOAT && a.scale.type == CUDNN_DATA_FLOAT &&
               a.scale.by_value && a.q.dim[3] <= 256;
    return fit ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

// The operation behind a plan, an engine, a heuristic or a graph.
const descriptor *operation_of(const descriptor *d)
{
    if (d && d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        d = d->to(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (d && (d->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR ||
              d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR))
        d = d->to(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    return d ? d->to(CUDNN_ATTR_OPERATIONGRAPH_OPS) : nullptr;
}

cudnnStatus_t check(const descriptor *d)
{
    tensor t;
    bool whole = true;
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        whole = read_tensor(d, &t);
        break;
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
        return check_attention(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        whole = d->one<cudnnHandle_t>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, nullptr) && operation_of(d);
        break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        whole = operation_of(d) && d->one<int>(CUDNN_ATTR_ENGINEHEUR_MODE, -1) >= 0;
        break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        whole = d->one<cudnnHandle_t>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, nullptr) && operation_of(d);
        if (whole && d->to(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->refused)
            return CUDNN_STATUS_NOT_SUPPORTED;
        break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        whole = d->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() ==
                d->all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size();
        break;
    default:
        return CUDNN_STATUS_BAD_PARAM;
    }
    return whole ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

struct execution {
    attention a;
    const __nv_bfloat16 *q, *k, *v;
    __nv_bfloat16 *o;
    float *stats, scale;
    void *workspace;
};

int64_t at(const tensor &t, int64_t b, int64_t h, int64_t i)
{
    return b * t.stride[0] + h * t.stride[1] + i * t.stride[2];
}

void attend(const execution &e, int64_t b, int64_t h, int64_t i)
{
    const attention &a = e.a;
    int64_t keys = a.k.dim[2], depth = a.q.dim[3];
    std::vector<double> p(size_t(keys), 0.0), y(size_t(depth), 0.0);
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; j++) {
        for (int64_t d = 0; d < depth; d++)
            p[size_t(j)] += double(__bfloat162float(e.q[at(a.q, b, h, i) + d])) *
                            __bfloat162float(e.k[at(a.k, b, h, j) + d]);
        p[size_t(j)] *= e.scale;
        most = fmax(most, p[size_t(j)]);
    }
    for (int64_t j = 0; j < keys; j++) {
        double weight = exp(p[size_t(j)] - most);
        sum += weight;
        for (int64_t d = 0; d < depth; d++)
            y[size_t(d)] += weight * __bfloat162float(e.v[at(a.v, b, h, j) + d]);
    }
    for (int64_t d = 0; d < depth; d++)
        e.o[at(a.o, b, h, i) + d] = __float2bfloat16_rn(float(y[size_t(d)] / sum));
    e.stats[at(a.stats, b, h, i)] = float(most + log(sum));
}

// Where the hardware would fault or write astray.
void need(const tensor &t, const void *data, size_t width, const char *name)
{
    int64_t last = 1;
    for (int i = 0; i < 4; i++) last += (t.dim[i] - 1) * t.stride[i];
    if (!memory_is_device(data, size_t(last) * width))
        fail("cudnnBackendExecute: %s is not in device memory with all of its %lld elements", name,
             (long long)last);
}

void execute(const execution &e)
{
    need(e.a.q, e.q, 2, "q");
    need(e.a.k, e.k, 2, "k");
    need(e.a.v, e.v, 2, "v");
    need(e.a.o, e.o, 2, "o");
    need(e.a.stats, e.stats, 4, "stats");
    memset(e.workspace, poison, plan_workspace); // nobody else's results may be there
    for (int64_t b = 0; b < e.a.q.dim[0]; b++)
        for (int64_t h = 0; h < e.a.q.dim[1]; h++)
            for (int64_t i = 0; i < e.a.q.dim[2]; i++) attend(e, b, h, i);
    memory_check("cudnnBackendExecute");
}

// The address of a tensor in a pack; NULL where it is missing or less aligned than was promised.
void *address_of(const descriptor *pack, const tensor &t)
{
    std::vector<int64_t> ids = pack->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    std::vector<void *> data = pack->all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (size_t i = 0; i < ids.size(); i++)
        if (ids[i] == t.id)
            return reinterpret_cast<uintptr_t>(data[i]) % uint64_t(t.alignment) ? nullptr : data[i];
    return nullptr;
}

descriptor *of(cudnnBackendDescriptor_t d)
{
    return static_cast<descriptor *>(d);
}

} // namespace

} // namespace cusim

using namespace cusim;

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out)
{
    if (!out) return CUDNN_STATUS_BAD_PARAM;
    descriptor *d = new descriptor();
    d->type = type;
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete of(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n,
                                       const void *values)
{
    if (!d || !values || n < 1 || of(d)->finished) return CUDNN_STATUS_BAD_PARAM;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < n; i++)
            if (!of(static_cast<const cudnnBackendDescriptor_t *>(values)[i])->finished)
                return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    const unsigned char *bytes = static_cast<const unsigned char *>(values);
    of(d)->attributes[name].assign(bytes, bytes + size_t(n) * bytes_of(type));
    return CUDNN_STATUS_SUCCESS;
}

// Of a heuristic the engines, which fill descriptors that the caller made; of a plan its workspace.
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t n, int64_t *n_there,
                                       void *values)
{
    if (!d || !n_there) return CUDNN_STATUS_BAD_PARAM;
    if (!of(d)->finished) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && n == 1) {
        *n_there = 1;
        *static_cast<int64_t *>(values) = plan_workspace;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS) return CUDNN_STATUS_NOT_SUPPORTED;
    *n_there = n_engines;
    for (int i = 0; i < n_engines && i < n; i++) {
        descriptor *engine = of(static_cast<cudnnBackendDescriptor_t *>(values)[i]);
        *engine = *of(d); // what it is asked for: the graph
        engine->type = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
        engine->refused = i == 0;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    if (!d) return CUDNN_STATUS_BAD_PARAM;
    cudnnStatus_t status = check(of(d));
    of(d)->finished = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    entry_lock lock(entry_mutex());
    if (!handle || !plan || !pack) return CUDNN_STATUS_BAD_PARAM;
    if (!of(plan)->finished || !of(pack)->finished) return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    execution e = {};
    if (!read_attention(operation_of(of(plan)), &e.a)) return CUDNN_STATUS_BAD_PARAM;
    const float *scale = static_cast<const float *>(address_of(of(pack), e.a.scale));
    e.q = static_cast<const __nv_bfloat16 *>(address_of(of(pack), e.a.q));
    e.k = static_cast<const __nv_bfloat16 *>(address_of(of(pack), e.a.k));
    e.v = static_cast<const __nv_bfloat16 *>(address_of(of(pack), e.a.v));
    e.o = static_cast<__nv_bfloat16 *>(address_of(of(pack), e.a.o));
    e.stats = static_cast<float *>(address_of(of(pack), e.a.stats));
    e.workspace = of(pack)->one<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, nullptr);
    if (!scale || !e.q || !e.k || !e.v || !e.o || !e.stats) return CUDNN_STATUS_BAD_PARAM;
    if (!e.workspace || !memory_is_device(e.workspace, plan_workspace))
        fail("cudnnBackendExecute: the workspace is not in device memory");
    e.scale = *scale;
    work run = { "cudnnBackendExecute", [e] { execute(e); }, false };
    return stream_queue(handle->stream, run) == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                                            : CUDNN_STATUS_EXECUTION_FAILED;
}
