// Streams are lazy: what is queued is executed only when somebody waits for it, and then in an
// order that the seed chooses among those which streams and events allow.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "stream.h"

namespace cusim
{

namespace
{

CUstream_st
    legacy; // the stream 0, before and after everything in streams that are not non-blocking
std::vector<CUstream_st *> streams{ &legacy };
uint64_t n_queued;
bool hosting;                   // a callback runs
constexpr double patience = 60; // seconds

double seconds_now()
{
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

bool blocks_with_legacy(const CUstream_st *s)
{
    return !(s->flags & cudaStreamNonBlocking);
}

// The stream that is not yet at the meeting to which s has come.
CUstream_st *behind(const meeting &m)
{
    for (CUstream_st *other : m.streams)
        if (other->queue.front().joins.get() != &m) return other;
    return nullptr;
}

// The stream whose first operation must be executed before that of s.
CUstream_st *held_by(CUstream_st *s)
{
    const operation &first = s->queue.front();
    CUstream_st *holds = nullptr;
    if (first.joins)
        holds = behind(*first.joins);
    else if (first.waits_for && !first.waits_for->done)
        holds = first.waits_for->stream;
    else if (s == &legacy)
        for (CUstream_st *other : streams)
            if (other != s && blocks_with_legacy(other) && !other->queue.empty() &&
                other->queue.front().number < first.number)
                holds = other;
    if (!holds && s != &legacy && blocks_with_legacy(s) && !legacy.queue.empty() &&
        legacy.queue.front().number < first.number)
        holds = &legacy;
    return holds;
}

// The stream whose first operation can be executed now and must be before that of s, or be it;
// NULL: none before a stream comes to a meeting.
CUstream_st *what_holds(CUstream_st *s)
{
    for (size_t hops = 0; hops <= 2 * streams.size(); hops++) {
        const std::shared_ptr<meeting> &m = s->queue.front().joins;
        if (m && m->streams.size() < m->expected) return nullptr;
        CUstream_st *holds = held_by(s);
        if (!holds) return s;
        s = holds;
    }
    fail("streams wait for each other in a circle");
}

void execute_first(CUstream_st *s)
{
    operation o = std::move(s->queue.front());
    if (o.joins) {
        for (CUstream_st *other : o.joins->streams) other->queue.pop_front();
        memory_open("nccl");
        o.joins->run();
        return;
    }
    s->queue.pop_front();
    if (o.run.run) {
        if (o.run.on_host)
            memory_close();
        else
            memory_open(o.run.name);
        hosting = o.run.on_host;
        o.run.run();
        hosting = false;
    }
    if (o.records) {
        o.records->done = true;
        o.records->seconds = seconds_now();
    }
}

bool legacy_would_capture()
{
    for (const CUstream_st *s : streams)
        if (s->capture && blocks_with_legacy(s)) return true;
    return false;
}

CUstream_st *oldest()
{
    CUstream_st *out = nullptr;
    for (CUstream_st *s : streams)
        if (!s->queue.empty() && (!out || s->queue.front().number < out->queue.front().number))
            out = s;
    return out;
}

// With a seed every second operation is one that nobody waits for yet.
CUstream_st *choose(CUstream_st *wanted)
{
    if (!shuffled()) return oldest();
    if (random_below(2)) return wanted;
    CUstream_st *s = streams[random_below(streams.size())];
    return s->queue.empty() ? wanted : s;
}

// One operation, of s or another stream; false: none that s waits for can be executed.
bool execute_one(CUstream_st *s)
{
    CUstream_st *next = what_holds(choose(s));
    if (!next) next = what_holds(s);
    if (next) execute_first(next);
    return next != nullptr;
}

// Executes what s waits for until enough is done. A rank that is expected at a meeting may come in
// another thread.
template <class F> void execute_until(CUstream_st *s, F enough)
{
    double stuck_since = 0;
    while (!enough()) {
        if (execute_one(s)) {
            stuck_since = 0;
            continue;
        }
        memory_close();
        if (stuck_since == 0) stuck_since = seconds_now();
        if (seconds_now() - stuck_since > patience)
            fail("a stream waits for a rank that never comes");
        entry_mutex().pause();
    }
    memory_close();
}

void execute_through(CUstream_st *s, uint64_t number)
{
    execute_until(s, [s, number] { return s->queue.empty() || s->queue.front().number > number; });
}

// Of another rank, whose device this one does not wait for.
void execute_what_can_be(CUstream_st *s, uint64_t number)
{
    while (stream_of(s) && !s->queue.empty() && s->queue.front().number <= number)
        if (!execute_one(s)) break;
    memory_close();
}

cudaError_t add(CUstream_st *s, operation o)
{
    if (s->capture) {
        s->capture->operations.push_back(std::move(o));
        return cudaSuccess;
    }
    o.number = ++n_queued;
    s->queue.push_back(std::move(o));
    return cudaSuccess;
}

cudaError_t add_copy(cudaStream_t stream, void *to, const void *from, size_t bytes)
{
    auto run = [to, from, bytes] { memcpy(to, from, bytes); };
    return stream_queue(stream, { "cudaMemcpyAsync", run, false });
}

// Where cudaMemcpyDefault and a stated direction must agree with what the pointers are.
cudaError_t check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return cudaErrorInvalidMemcpyDirection;
    if (kind == cudaMemcpyDefault) return cudaSuccess;
    if (memory_is_device(to, bytes) != to_device || memory_is_device(from, bytes) != from_device)
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

} // namespace

CUstream_st *stream_of(cudaStream_t stream)
{
    if (stream == nullptr) return &legacy;
    bool known = std::find(streams.begin(), streams.end(), stream) != streams.end();
    return known ? stream : nullptr;
}

bool in_host_function()
{
    return hosting;
}

cudaError_t stream_queue(cudaStream_t stream, work w)
{
    CUstream_st *s = stream_of(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (hosting) return cudaErrorNotPermitted;
    if (s == &legacy && legacy_would_capture()) {
        capture_break();
        return cudaErrorStreamCaptureImplicit;
    }
    operation o;
    o.run = std::move(w);
    return add(s, std::move(o));
}

cudaError_t stream_add(cudaStream_t stream, operation o)
{
    return add(stream_of(stream), std::move(o));
}

cudaError_t stream_finish(cudaStream_t stream)
{
    CUstream_st *s = stream_of(stream);
    if (!s) return cudaErrorInvalidResourceHandle;
    if (hosting) return cudaErrorNotPermitted;
    if (s->capture || (s == &legacy && legacy_would_capture())) {
        capture_break();
        return cudaErrorStreamCaptureUnsupported;
    }
    if (s == &legacy)
        for (CUstream_st *other : streams)
            if (blocks_with_legacy(other)) execute_through(other, n_queued);
    execute_through(s, n_queued);
    return cudaSuccess;
}

cudaError_t stream_finish_all()
{
    if (hosting) return cudaErrorNotPermitted;
    if (any_capturing()) {
        capture_break();
        return cudaErrorStreamCaptureUnsupported;
    }
    const uint64_t until = n_queued;
    for (CUstream_st *s : std::vector<CUstream_st *>(streams))
        if (s == &legacy || s->maker == std::this_thread::get_id())
            execute_through(s, until);
        else
            execute_what_can_be(s, until);
    return cudaSuccess;
}

void mark_finish(const mark &m)
{
    execute_until(m.stream, [&m] { return m.done; });
}

bool any_capturing()
{
    for (const CUstream_st *s : streams)
        if (s->capture) return true;
    return false;
}

void capture_break()
{
    for (CUstream_st *s : streams)
        if (s->capture) s->capture->valid = false;
}

void capture_end(const std::shared_ptr<capture> &c)
{
    c->origin = nullptr;
    for (CUstream_st *s : streams)
        if (s->capture == c) s->capture = nullptr;
}

bool stream_step(CUstream_st *s)
{
    if (s->queue.empty()) return false;
    const uint64_t number = s->queue.front().number;
    while (!s->queue.empty() && s->queue.front().number == number)
        if (!execute_one(s)) break;
    memory_close();
    return !s->queue.empty();
}

void stream_drop(CUstream_st *s, const meeting *m)
{
    auto is_it = [m](const operation &o) { return o.joins.get() == m; };
    s->queue.erase(std::remove_if(s->queue.begin(), s->queue.end(), is_it), s->queue.end());
}

} // namespace cusim

using namespace cusim;

cudaError_t cudaDeviceSynchronize(void)
{
    entry_lock lock(entry_mutex());
    return note(stream_finish_all());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    return note(stream_finish(stream));
}

// Every question lets one operation happen.
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s) return note(cudaErrorInvalidResourceHandle);
    if (s->capture) {
        capture_break();
        return note(cudaErrorStreamCaptureUnsupported);
    }
    return stream_step(s) ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    entry_lock lock(entry_mutex());
    if (!out || (flags & ~unsigned(cudaStreamNonBlocking))) return note(cudaErrorInvalidValue);
    *out = new CUstream_st;
    (*out)->flags = flags;
    (*out)->maker = std::this_thread::get_id();
    streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    if (!stream || !stream_of(stream)) return note(cudaErrorInvalidResourceHandle);
    cudaError_t error = stream_finish(stream);
    if (error != cudaSuccess) return note(error);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *user)
{
    entry_lock lock(entry_mutex());
    if (!function) return note(cudaErrorInvalidValue);
    auto run = [function, user] { function(user); };
    return note(stream_queue(stream, { "cudaLaunchHostFunc", run, true }));
}

// Pinned memory is touched when the operation is executed. Pageable memory is read at the call; a
// copy to it has happened when the call returns.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    if (bytes == 0) return cudaSuccess;
    if (!to || !from) return note(cudaErrorInvalidValue);
    cudaError_t error = check_copy(to, from, bytes, kind);
    if (error != cudaSuccess) return note(error);
    bool from_host = !memory_is_device(from, bytes), to_host = !memory_is_device(to, bytes);
    if (stream_capturing(stream)) return note(add_copy(stream, to, from, bytes));
    if (from_host && !memory_is_pinned(from)) {
        const char *start = static_cast<const char *>(from);
        auto copy = std::make_shared<std::vector<char>>(start, start + bytes);
        auto run = [to, copy] { memcpy(to, copy->data(), copy->size()); };
        error = stream_queue(stream, { "cudaMemcpyAsync", run, false });
    } else {
        error = add_copy(stream, to, from, bytes);
    }
    if (error == cudaSuccess && to_host && !memory_is_pinned(to)) error = stream_finish(stream);
    return note(error);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    entry_lock lock(entry_mutex());
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    bool on_device = memory_is_device(to, bytes) && memory_is_device(from, bytes);
    if (error != cudaSuccess || bytes == 0 || on_device) return error;
    return note(stream_finish(nullptr));
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    if (bytes == 0) return cudaSuccess;
    if (!memory_is_device(to, bytes)) return note(cudaErrorInvalidValue);
    auto run = [to, byte, bytes] { memset(to, byte, bytes); };
    return note(stream_queue(stream, { "cudaMemsetAsync", run, false }));
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
    return cudaMemsetAsync(to, byte, bytes, nullptr);
}
