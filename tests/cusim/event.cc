// Events, and graphs captured from streams.
#include "stream.h"

namespace cusim
{

bool stream_capturing(cudaStream_t stream)
{
    const CUstream_st *s = stream_of(stream);
    return s && s->capture;
}

} // namespace cusim

using namespace cusim;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    if (!out) return note(cudaErrorInvalidValue);
    *out = new CUevent_st;
    (*out)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!event) return note(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!event || !s) return note(cudaErrorInvalidResourceHandle);
    event->last = std::make_shared<mark>();
    event->last->stream = s;
    event->last->in = s->capture;
    if (s->capture) return cudaSuccess; // a graph is executed in the order of its capture
    operation o;
    o.records = event->last;
    return note(stream_add(stream, std::move(o)));
}

// A stream that waits for something captured is captured too.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!event || !s) return note(cudaErrorInvalidResourceHandle);
    if (!event->last) return cudaSuccess;
    if (const std::shared_ptr<capture> &in = event->last->in) {
        if (!in->origin) return note(cudaErrorCapturedEvent);
        if (s->capture && s->capture != in) return note(cudaErrorStreamCaptureMerge);
        s->capture = in;
        return cudaSuccess;
    }
    if (s->capture) {
        s->capture->valid = false;
        return note(cudaErrorStreamCaptureIsolation);
    }
    operation o;
    o.waits_for = event->last;
    return note(stream_add(stream, std::move(o)));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    entry_lock lock(entry_mutex());
    if (!event) return note(cudaErrorInvalidResourceHandle);
    if (!event->last) return cudaSuccess;
    if (event->last->in) return note(cudaErrorCapturedEvent);
    if (in_host_function()) return note(cudaErrorNotPermitted);
    mark_finish(*event->last);
    return cudaSuccess;
}

// Every question lets one operation happen.
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    entry_lock lock(entry_mutex());
    if (!event) return note(cudaErrorInvalidResourceHandle);
    if (!event->last || event->last->done) return cudaSuccess;
    if (event->last->in) return note(cudaErrorCapturedEvent);
    stream_step(event->last->stream);
    return event->last->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    entry_lock lock(entry_mutex());
    if (!milliseconds) return note(cudaErrorInvalidValue);
    if (!from || !to || !from->last || !to->last) return note(cudaErrorInvalidResourceHandle);
    if ((from->flags | to->flags) & cudaEventDisableTiming)
        return note(cudaErrorInvalidResourceHandle);
    if (!from->last->done || !to->last->done) return cudaErrorNotReady;
    *milliseconds = float((to->last->seconds - from->last->seconds) * 1e3);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s) return note(cudaErrorInvalidResourceHandle);
    if (!stream) return note(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return note(cudaErrorIllegalState);
    s->capture = std::make_shared<capture>();
    s->capture->origin = s;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s || !out) return note(cudaErrorInvalidValue);
    *out = nullptr;
    if (!s->capture) return note(cudaErrorIllegalState);
    std::shared_ptr<capture> recorded = s->capture;
    if (recorded->origin != s) return note(cudaErrorStreamCaptureUnmatched);
    capture_end(recorded);
    if (!recorded->valid) return note(cudaErrorStreamCaptureInvalidated);
    *out = new CUgraph_st{ std::move(recorded->operations) };
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *out)
{
    entry_lock lock(entry_mutex());
    const CUstream_st *s = stream_of(stream);
    if (!s || !out) return note(cudaErrorInvalidValue);
    *out = !s->capture         ? cudaStreamCaptureStatusNone
           : s->capture->valid ? cudaStreamCaptureStatusActive
                               : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    if (!out || !graph) return note(cudaErrorInvalidValue);
    *out = new CUgraphExec_st;
    (*out)->operations = graph->operations;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    entry_lock lock(entry_mutex());
    CUstream_st *s = stream_of(stream);
    if (!exec || !s) return note(cudaErrorInvalidValue);
    if (s->capture) return note(cudaErrorStreamCaptureUnsupported);
    for (const operation &o : exec->operations) {
        cudaError_t error = stream_queue(stream, o.run);
        if (error != cudaSuccess) return note(error);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
