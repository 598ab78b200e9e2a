// Streams, events and graphs of cusim: what is not ordered happens in some other order, what is
// recorded can be replayed, and what CUDA forbids is refused.
#include "tests/cusim/check.h"

__global__ void add(int *x, int n)
{
    for (unsigned i = threadIdx.x; i < 64; i += blockDim.x) x[i] += n;
}

__global__ void twice(const int *x, int *y)
{
    for (unsigned i = threadIdx.x; i < 64; i += blockDim.x) y[i] = 2 * x[i];
}

struct pair {
    cudaStream_t first, second;
    cudaEvent_t event;
    pair()
    {
        EXPECT(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking) == cudaSuccess);
        EXPECT(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking) == cudaSuccess);
        EXPECT(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    }
    pair(const pair &) = delete;
    ~pair()
    {
        cudaStreamDestroy(first);
        cudaStreamDestroy(second);
        cudaEventDestroy(event);
    }
};

#define LAUNCH_ON(s, kernel, ...)                                                                  \
    EXPECT(cusim_launch(#kernel, kernel, dim3(1), dim3(32), 0, s, __VA_ARGS__) == cudaSuccess)

// One stream writes, another reads; true if the reader saw what was written.
static bool handed_over(bool with_event)
{
    on_device<int> x(std::vector<int>(64, 3)), y(64);
    pair p;
    LAUNCH_ON(p.first, add, x.p, 4);
    if (with_event) {
        EXPECT(cudaEventRecord(p.event, p.first) == cudaSuccess);
        EXPECT(cudaStreamWaitEvent(p.second, p.event) == cudaSuccess);
    }
    LAUNCH_ON(p.second, twice, x.p, y.p);
    EXPECT(cudaStreamSynchronize(p.second) == cudaSuccess);
    return y.read()[0] == 14;
}

static void test_missing_event()
{
    int lost = 0;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        cusim_seed(seed);
        EXPECT(handed_over(true));
        lost += !handed_over(false);
    }
    EXPECT(lost > 0);
}

// Pinned memory is read when the copy is executed, pageable memory at the call.
static void test_copy_from_host()
{
    on_device<int> x(64), y(64);
    int *pinned = nullptr;
    EXPECT(cudaMallocHost(&pinned, 256) == cudaSuccess);
    std::vector<int> pageable(64, 5);
    for (int i = 0; i < 64; i++) pinned[i] = 5;
    EXPECT(cudaMemcpyAsync(x.p, pinned, 256, cudaMemcpyHostToDevice, stream) == cudaSuccess);
    EXPECT(cudaMemcpyAsync(y.p, pageable.data(), 256, cudaMemcpyHostToDevice, stream) == 0);
    pinned[0] = pageable[0] = 6; // too early
    EXPECT(x.read()[0] == 6 && y.read()[0] == 5);
    EXPECT(cudaMemcpyAsync(pinned, y.p, 256, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    EXPECT(pinned[0] == 6); // not yet
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess && pinned[0] == 5);
    EXPECT(cudaFreeHost(pinned) == cudaSuccess);
}

static void test_queries()
{
    on_device<int> x(std::vector<int>(64, 0));
    pair p;
    LAUNCH_ON(p.first, add, x.p, 1);
    LAUNCH_ON(p.first, add, x.p, 1);
    EXPECT(cudaEventRecord(p.event, p.first) == cudaSuccess);
    EXPECT(cudaEventQuery(p.event) == cudaErrorNotReady);
    EXPECT(cudaEventSynchronize(p.event) == cudaSuccess);
    EXPECT(cudaEventQuery(p.event) == cudaSuccess && cudaStreamQuery(p.first) == cudaSuccess);
    EXPECT(x.read()[5] == 2);
}

// The recording does nothing; every launch does all of it, with the data of then.
static void test_graph()
{
    on_device<int> x(std::vector<int>(64, 1)), y(std::vector<int>(64, 0));
    pair p;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamCaptureStatus status;
    EXPECT(cudaStreamBeginCapture(p.first, cudaStreamCaptureModeGlobal) == cudaSuccess);
    LAUNCH_ON(p.first, add, x.p, 10);
    EXPECT(cudaEventRecord(p.event, p.first) == cudaSuccess);
    EXPECT(cudaStreamWaitEvent(p.second, p.event) == cudaSuccess); // drawn into the recording
    LAUNCH_ON(p.second, twice, x.p, y.p);
    EXPECT(cudaEventRecord(p.event, p.second) == cudaSuccess);
    EXPECT(cudaStreamWaitEvent(p.first, p.event) == cudaSuccess);
    EXPECT(cudaStreamIsCapturing(p.second, &status) == 0 &&
           status == cudaStreamCaptureStatusActive);
    EXPECT(cudaStreamEndCapture(p.first, &graph) == cudaSuccess && graph != nullptr);
    EXPECT(cudaStreamIsCapturing(p.second, &status) == 0 && status == cudaStreamCaptureStatusNone);
    EXPECT(x.read()[0] == 1 && y.read()[0] == 0);
    EXPECT(cudaGraphInstantiate(&exec, graph) == cudaSuccess);
    EXPECT(cudaGraphDestroy(graph) == cudaSuccess);
    for (int turn = 1; turn <= 3; turn++) {
        EXPECT(cudaGraphLaunch(exec, p.first) == cudaSuccess);
        EXPECT(cudaStreamSynchronize(p.first) == cudaSuccess);
        EXPECT(x.read()[63] == 1 + 10 * turn && y.read()[63] == 2 + 20 * turn);
    }
    EXPECT(cudaGraphExecDestroy(exec) == cudaSuccess);
}

// Whatever would wait for a stream that is being recorded is refused and spoils the recording.
static void test_no_waiting_while_capturing()
{
    cudaStream_t s;
    cudaGraph_t graph = nullptr;
    void *block = nullptr;
    EXPECT(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
    for (int what = 0; what < 4; what++) {
        EXPECT(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal) == cudaSuccess);
        cudaError_t error = what == 0   ? cudaStreamSynchronize(s)
                            : what == 1 ? cudaDeviceSynchronize()
                            : what == 2 ? cudaMalloc(&block, 16)
                                        : cudaStreamQuery(s);
        EXPECT(error == cudaErrorStreamCaptureUnsupported);
        EXPECT(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
    }
    EXPECT(cudaStreamEndCapture(s, &graph) == cudaErrorIllegalState);
    EXPECT(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) ==
           cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
    EXPECT(cudaStreamDestroy(s) == cudaSuccess);
}

// A recording may not depend on what is outside of it.
static void test_capture_is_closed()
{
    on_device<int> x(std::vector<int>(64, 0));
    pair p;
    cudaGraph_t graph = nullptr;
    LAUNCH_ON(p.second, add, x.p, 1);
    EXPECT(cudaEventRecord(p.event, p.second) == cudaSuccess);
    EXPECT(cudaStreamBeginCapture(p.first, cudaStreamCaptureModeGlobal) == cudaSuccess);
    EXPECT(cudaStreamWaitEvent(p.first, p.event) == cudaErrorStreamCaptureIsolation);
    EXPECT(cudaStreamEndCapture(p.first, &graph) == cudaErrorStreamCaptureInvalidated);
    cudaGetLastError();
}

// The legacy stream comes before and after everything in streams that block with it.
static void test_legacy_stream()
{
    on_device<int> x(std::vector<int>(64, 1)), y(64);
    cudaStream_t blocking;
    EXPECT(cudaStreamCreate(&blocking) == cudaSuccess);
    LAUNCH_ON(blocking, add, x.p, 1);
    LAUNCH_ON(nullptr, add, x.p, 5);
    LAUNCH_ON(blocking, twice, x.p, y.p);
    EXPECT(cudaStreamSynchronize(blocking) == cudaSuccess);
    EXPECT(y.read()[0] == 14);
    EXPECT(cudaStreamDestroy(blocking) == cudaSuccess);
}

static void test_callbacks()
{
    int order[3] = { 0, 0, 0 };
    auto call = [](void *p) { *static_cast<int *>(p) += 1; };
    auto ask = [](void *p) { *static_cast<int *>(p) = int(cudaDeviceSynchronize()); };
    EXPECT(cudaLaunchHostFunc(stream, call, order) == cudaSuccess);
    EXPECT(cudaLaunchHostFunc(stream, ask, order + 1) == cudaSuccess);
    EXPECT(order[0] == 0);
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
    EXPECT(order[0] == 1 && order[1] == int(cudaErrorNotPermitted));
    cudaGetLastError();
}

int main()
{
    begin_tests();
    PASS(test_missing_event());
    for (uint64_t seed = 0; seed < 8; seed++) {
        cusim_seed(seed);
        PASS(test_copy_from_host());
        PASS(test_queries());
        PASS(test_graph());
        PASS(test_no_waiting_while_capturing());
        PASS(test_capture_is_closed());
        PASS(test_legacy_stream());
        PASS(test_callbacks());
    }
    return end_tests();
}
