// Streams, events and graphs.
#ifndef CUSIM_STREAM_H
#define CUSIM_STREAM_H

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "runtime.h"

namespace cusim
{

struct operation;

// What is being recorded, by one stream or several.
struct capture {
    std::vector<operation> operations;
    CUstream_st *origin = nullptr; // NULL: ended
    bool valid = true;
};

// One recording of an event.
struct mark {
    CUstream_st *stream = nullptr;
    std::shared_ptr<capture> in; // where it was recorded while capturing
    bool done = false;
    double seconds = 0; // when it was done
};

// What streams do together: it happens when all have come to it.
struct meeting {
    size_t expected = 0;
    std::vector<CUstream_st *> streams; // in which it is queued, in the order of coming
    std::function<void()> run;
};

struct operation {
    uint64_t number = 0; // in the order of the calls
    work run = { nullptr, nullptr, false };
    std::shared_ptr<mark> records, waits_for; // one of these, or run
    std::shared_ptr<meeting> joins;
};

CUstream_st *stream_of(cudaStream_t stream); // NULL: unknown
cudaError_t stream_add(cudaStream_t stream, operation o);
bool stream_step(CUstream_st *s); // executes one operation if it can; true: there are more
void stream_drop(CUstream_st *s, const meeting *m); // it does not come any more
void mark_finish(const mark &m);
void capture_end(const std::shared_ptr<capture> &c); // its streams execute again

} // namespace cusim

struct CUstream_st {
    unsigned flags = 0;
    std::thread::id maker; // whose rank it belongs to
    std::deque<cusim::operation> queue;
    std::shared_ptr<cusim::capture> capture;
};

struct CUevent_st {
    unsigned flags = 0;
    std::shared_ptr<cusim::mark> last; // NULL: never recorded
};

struct CUgraph_st {
    std::vector<cusim::operation> operations;
};

struct CUgraphExec_st {
    std::vector<cusim::operation> operations;
};

#endif
