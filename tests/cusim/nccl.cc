// NCCL between the threads of one process. A call is queued in its rank's stream, and happens when
// the streams of all ranks have come to it. Calls that do not match, where NCCL would hang or write
// where it must not, end the program.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nccl.h>

#include "stream.h"

namespace cusim
{

namespace
{

enum class kind { all_reduce, reduce, reduce_scatter, all_gather, broadcast, exchange };
const char *const kind_names[] = { "ncclAllReduce",     "ncclReduce",    "ncclReduceScatter",
                                   "ncclAllGather",     "ncclBroadcast",
                                   "a group of ncclSend and ncclRecv" };

struct message {
    int peer;
    const char *src; // NULL: it is received
    char *dst;
    size_t bytes;
};

struct call {
    bool here = false;
    kind what = kind::all_reduce;
    size_t count = 0;
    ncclDataType_t type = ncclInt8;
    int root = 0;
    const char *src = nullptr;
    char *dst = nullptr;
    std::vector<message> messages;
    CUstream_st *stream = nullptr;
};

// One call of all ranks.
struct gathering : meeting {
    std::vector<call> calls; // by rank
};

struct clique {
    size_t n_ranks = 0, n_here = 0;
    std::map<uint64_t, std::shared_ptr<gathering>> under_way; // by number of the call
};

constexpr int most_pauses = 300000; // about a minute
std::map<std::string, std::shared_ptr<clique>> cliques;
uint64_t n_ids;
thread_local std::string last_error;

size_t element_bytes(ncclDataType_t type)
{
    return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 1;
}

float as_float(ncclDataType_t type, const char *p)
{
    uint32_t bits = 0;
    if (type == ncclFloat32) {
        memcpy(&bits, p, 4);
    } else {
        uint16_t half;
        memcpy(&half, p, 2);
        bits = uint32_t(half) << 16;
    }
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

void put_float(ncclDataType_t type, float x, char *p)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (type == ncclFloat32) {
        memcpy(p, &bits, 4);
        return;
    }
    const uint16_t half = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    memcpy(p, &half, 2);
}

// As a ring adds: it begins at another rank for each part, and what travels has the type of the
// buffer.
void sum_element(const gathering &g, ncclDataType_t type, size_t i, char *out)
{
    const size_t width = element_bytes(type), n = g.calls.size(), first = (i + 1) % n;
    memcpy(out, g.calls[first].src + i * width, width);
    for (size_t k = 1; k < n; k++) {
        const char *x = g.calls[(first + k) % n].src + i * width;
        put_float(type, as_float(type, out) + as_float(type, x), out);
    }
}

void reduce(const gathering &g)
{
    const call &one = g.calls[0];
    const bool scatter = one.what == kind::reduce_scatter;
    const size_t width = element_bytes(one.type), n = g.calls.size();
    const size_t total = one.count * (scatter ? n : 1);
    std::vector<char> sum(total * width);
    for (size_t i = 0; i < total; i++) sum_element(g, one.type, i, &sum[i * width]);
    for (size_t r = 0; r < n; r++)
        if (one.what != kind::reduce || r == size_t(one.root))
            memcpy(g.calls[r].dst, &sum[scatter ? r * one.count * width : 0], one.count * width);
}

void all_gather(const gathering &g)
{
    const size_t bytes = g.calls[0].count * element_bytes(g.calls[0].type);
    std::vector<char> all;
    for (const call &c : g.calls) all.insert(all.end(), c.src, c.src + bytes);
    for (const call &c : g.calls) memcpy(c.dst, all.data(), all.size());
}

void broadcast(const gathering &g)
{
    const call &root = g.calls[size_t(g.calls[0].root)];
    const size_t bytes = root.count * element_bytes(root.type);
    const std::vector<char> copy(root.src, root.src + bytes);
    for (const call &c : g.calls) memcpy(c.dst, copy.data(), bytes);
}

// The first message of `from` to `to` that has not been taken.
message take(std::vector<message> &messages, int to)
{
    auto is_it = [to](const message &m) { return m.src && m.peer == to; };
    auto found = std::find_if(messages.begin(), messages.end(), is_it);
    if (found == messages.end()) return {};
    message m = *found;
    messages.erase(found);
    return m;
}

void exchange(gathering &g)
{
    std::vector<std::vector<char>> contents;
    std::vector<char *> to;
    for (size_t r = 0; r < g.calls.size(); r++)
        for (const message &m : g.calls[r].messages) {
            if (m.src) continue;
            const message sent = take(g.calls[size_t(m.peer)].messages, int(r));
            if (!sent.src || sent.bytes != m.bytes)
                fail("nccl: rank %zu receives %zu bytes from rank %d, which sends %zu", r, m.bytes,
                     m.peer, sent.bytes);
            contents.emplace_back(sent.src, sent.src + sent.bytes);
            to.push_back(m.dst);
        }
    for (size_t r = 0; r < g.calls.size(); r++)
        for (const message &m : g.calls[r].messages)
            if (m.src) fail("nccl: rank %d does not receive what rank %zu sends", m.peer, r);
    for (size_t k = 0; k < to.size(); k++) memcpy(to[k], contents[k].data(), contents[k].size());
}

void happen(gathering &g)
{
    switch (g.calls[0].what) {
    case kind::all_reduce:
    case kind::reduce:
    case kind::reduce_scatter:
        return reduce(g);
    case kind::all_gather:
        return all_gather(g);
    case kind::broadcast:
        return broadcast(g);
    case kind::exchange:
        return exchange(g);
    }
}

void match(const gathering &g, uint64_t number, size_t rank, const call &c)
{
    for (size_t r = 0; r < g.calls.size(); r++) {
        const call &o = g.calls[r];
        if (!o.here ||
            (o.what == c.what && o.count == c.count && o.type == c.type && o.root == c.root))
            continue;
        fail("nccl: call %llu is %s of %zu (type %d, root %d) on rank %zu and %s of %zu (type %d, "
             "root "
             "%d) on rank %zu",
             (unsigned long long)number, kind_names[int(c.what)], c.count, int(c.type), c.root,
             rank, kind_names[int(o.what)], o.count, int(o.type), o.root, r);
    }
}

} // namespace

} // namespace cusim

using namespace cusim;

struct ncclComm {
    std::shared_ptr<clique> of;
    size_t rank;
    uint64_t n_calls = 0;
};

namespace
{

struct grouped {
    ncclComm_t comm;
    cudaStream_t stream;
    message what;
};

thread_local int group_depth;
thread_local std::vector<grouped> group;

ncclResult_t refuse(ncclResult_t result, const char *why)
{
    last_error = why;
    return result;
}

std::shared_ptr<gathering> gathering_of(ncclComm_t comm, uint64_t number)
{
    std::shared_ptr<gathering> &g = comm->of->under_way[number];
    if (g) return g;
    g = std::make_shared<gathering>();
    g->expected = comm->of->n_ranks;
    g->calls.resize(g->expected);
    gathering *raw = g.get();
    clique *of = comm->of.get();
    g->run = [raw, of, number] {
        happen(*raw);
        of->under_way.erase(number);
    };
    return g;
}

ncclResult_t queue(ncclComm_t comm, cudaStream_t stream, call c)
{
    CUstream_st *s = stream_of(stream);
    if (!comm || !s) return refuse(ncclInvalidArgument, "no such communicator or stream");
    if (stream_capturing(stream)) return refuse(ncclInvalidUsage, "cusim's NCCL records no graphs");
    const uint64_t number = comm->n_calls++;
    std::shared_ptr<gathering> g = gathering_of(comm, number);
    match(*g, number, comm->rank, c);
    c.here = true;
    c.stream = s;
    g->calls[comm->rank] = std::move(c);
    g->streams.push_back(s);
    operation o;
    o.joins = g;
    return stream_add(stream, std::move(o)) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t collective(ncclComm_t comm, cudaStream_t stream, const call &c, size_t n_src,
                        size_t n_dst)
{
    entry_lock lock(entry_mutex());
    const size_t width = element_bytes(c.type);
    if (!comm) return refuse(ncclInvalidArgument, "no communicator");
    if (group_depth) return refuse(ncclInvalidUsage, "cusim groups ncclSend and ncclRecv alone");
    if (c.root < 0 || size_t(c.root) >= comm->of->n_ranks)
        return refuse(ncclInvalidArgument, "no such root");
    if (c.count &&
        (!memory_is_device(c.src, n_src * width) || !memory_is_device(c.dst, n_dst * width)))
        return refuse(ncclInvalidArgument, "a buffer is not in the device's memory");
    return queue(comm, stream, c);
}

call make(kind what, const void *src, void *dst, size_t count, ncclDataType_t type, int root)
{
    call c;
    c.what = what;
    c.count = count;
    c.type = type;
    c.root = root;
    c.src = static_cast<const char *>(src);
    c.dst = static_cast<char *>(dst);
    return c;
}

ncclResult_t add_message(ncclComm_t comm, cudaStream_t stream, message m)
{
    entry_lock lock(entry_mutex());
    if (!group_depth) return refuse(ncclInvalidUsage, "cusim's ncclSend and ncclRecv want a group");
    if (!comm || m.peer < 0 || size_t(m.peer) >= comm->of->n_ranks)
        return refuse(ncclInvalidArgument, "no such peer");
    if (!memory_is_device(m.src ? m.src : m.dst, m.bytes))
        return refuse(ncclInvalidArgument, "a buffer is not in the device's memory");
    group.push_back({ comm, stream, m });
    return ncclSuccess;
}

} // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    entry_lock lock(entry_mutex());
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "cusim-%llu", (unsigned long long)++n_ids);
    return ncclSuccess;
}

// Waits for all ranks, as the real one does.
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank)
{
    entry_lock lock(entry_mutex());
    if (!comm || n_ranks < 1 || rank < 0 || rank >= n_ranks)
        return refuse(ncclInvalidArgument, "no such rank");
    std::shared_ptr<clique> &named = cliques[std::string(id.internal, strnlen(id.internal, 128))];
    if (!named) named = std::make_shared<clique>();
    std::shared_ptr<clique> of = named;
    of->n_ranks = size_t(n_ranks);
    of->n_here++;
    for (int waited = 0; of->n_here < of->n_ranks; waited++) {
        if (waited == most_pauses)
            fail("nccl: %zu of %zu ranks have come", of->n_here, of->n_ranks);
        entry_mutex().pause();
    }
    *comm = new ncclComm{ of, size_t(rank) };
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    entry_lock lock(entry_mutex());
    if (!comm) return ncclInvalidArgument;
    for (const auto &g : comm->of->under_way)
        if (g.second->calls[comm->rank].here)
            fail("nccl: rank %zu is destroyed before its call %llu has happened", comm->rank,
                 (unsigned long long)g.first);
    delete comm;
    return ncclSuccess;
}

// What the rank has queued does not happen any more; the others wait for it in vain.
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    entry_lock lock(entry_mutex());
    if (!comm) return ncclInvalidArgument;
    for (const auto &g : comm->of->under_way) {
        gathering &m = *g.second;
        call &own = m.calls[comm->rank];
        if (!own.here) continue;
        own.here = false;
        m.expected++; // it is never complete
        m.streams.erase(std::find(m.streams.begin(), m.streams.end(), own.stream));
        stream_drop(own.stream, &m);
    }
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result)
{
    if (!comm || !result) return ncclInvalidArgument;
    *result = ncclSuccess;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = { "no error",
                                         "unhandled cuda error",
                                         "unhandled system error",
                                         "internal error",
                                         "invalid argument",
                                         "invalid usage",
                                         "remote process exited",
                                         "operation in progress" };
    return result >= 0 && result <= ncclInProgress ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_error.c_str();
}

ncclResult_t ncclAllReduce(const void *src, void *dst, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    if (op != ncclSum || type == ncclInt8)
        return refuse(ncclInvalidArgument, "sums of floats alone");
    return collective(comm, stream, make(kind::all_reduce, src, dst, count, type, 0), count, count);
}

ncclResult_t ncclReduce(const void *src, void *dst, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    if (op != ncclSum || type == ncclInt8)
        return refuse(ncclInvalidArgument, "sums of floats alone");
    return collective(comm, stream, make(kind::reduce, src, dst, count, type, root), count, count);
}

ncclResult_t ncclReduceScatter(const void *src, void *dst, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    if (op != ncclSum || type == ncclInt8)
        return refuse(ncclInvalidArgument, "sums of floats alone");
    return collective(comm, stream, make(kind::reduce_scatter, src, dst, count, type, 0),
                      comm ? comm->of->n_ranks * count : 0, count);
}

ncclResult_t ncclAllGather(const void *src, void *dst, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return collective(comm, stream, make(kind::all_gather, src, dst, count, type, 0), count,
                      comm ? comm->of->n_ranks * count : 0);
}

ncclResult_t ncclBroadcast(const void *src, void *dst, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return collective(comm, stream, make(kind::broadcast, src, dst, count, type, root), count,
                      count);
}

ncclResult_t ncclSend(const void *src, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    const size_t bytes = count * element_bytes(type);
    return add_message(comm, stream, { peer, static_cast<const char *>(src), nullptr, bytes });
}

ncclResult_t ncclRecv(void *dst, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    const size_t bytes = count * element_bytes(type);
    return add_message(comm, stream, { peer, nullptr, static_cast<char *>(dst), bytes });
}

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

// One meeting of all ranks of the communicator: every rank must close such a group.
ncclResult_t ncclGroupEnd(void)
{
    entry_lock lock(entry_mutex());
    if (group_depth == 0) return refuse(ncclInvalidUsage, "no group is open");
    if (--group_depth || group.empty()) return ncclSuccess;
    call c = make(kind::exchange, nullptr, nullptr, 0, ncclInt8, 0);
    const std::vector<grouped> all = std::move(group);
    const grouped first = all[0];
    group.clear();
    for (const grouped &g : all) {
        if (g.comm != first.comm || g.stream != first.stream)
            return refuse(ncclInvalidUsage, "cusim's groups are of one communicator and stream");
        c.messages.push_back(g.what);
    }
    return queue(first.comm, first.stream, std::move(c));
}
