// Launches, the device's description, errors and the seed.
#include <cstdlib>
#include <cstring>
#include <map>
#include <unistd.h>

#include "runtime.h"

namespace cusim
{

namespace
{

std::map<const void *, size_t> allowed_shared; // by cudaFuncSetAttribute
thread_local cudaError_t last_error = cudaSuccess;

struct schedule {
    uint64_t seed, state;
    schedule()
    {
        const char *text = getenv("CUSIM_SEED");
        seed = state = text ? strtoull(text, nullptr, 0) : 0;
    }
};

schedule &the_schedule()
{
    static schedule s;
    return s;
}

cudaError_t check(const launch_config &c)
{
    uint64_t threads = uint64_t(c.block.x) * c.block.y * c.block.z;
    bool block_fits = threads >= 1 && threads <= 1024 && c.block.x <= 1024 && c.block.y <= 1024 &&
                      c.block.z <= 64;
    bool grid_fits = c.grid.x >= 1 && c.grid.y >= 1 && c.grid.z >= 1 && c.grid.x <= 0x7fffffff &&
                     c.grid.y <= 65535 && c.grid.z <= 65535;
    if (!block_fits || !grid_fits) return cudaErrorInvalidConfiguration;
    auto found = allowed_shared.find(c.kernel);
    size_t allowed = found == allowed_shared.end() ? shared_default : found->second;
    return c.shared <= allowed ? cudaSuccess : cudaErrorInvalidValue;
}

} // namespace

void entry_gate::lock()
{
    mutex.lock();
    depth++;
}

void entry_gate::unlock()
{
    depth--;
    mutex.unlock();
}

void entry_gate::pause()
{
    const int held = depth;
    for (int i = 0; i < held; i++) unlock();
    usleep(200);
    for (int i = 0; i < held; i++) lock();
}

entry_gate &entry_mutex()
{
    static entry_gate gate;
    return gate;
}

cudaError_t note(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

bool shuffled()
{
    return the_schedule().seed != 0;
}

uint64_t random_below(uint64_t n) // SplitMix64
{
    uint64_t z = the_schedule().state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return shuffled() ? (z ^ z >> 31) % n : 0;
}

cudaError_t launch(const launch_config &config, cudaStream_t stream, std::function<void()> body)
{
    entry_lock lock(entry_mutex());
    cudaError_t error = check(config);
    if (error != cudaSuccess) return note(error);
    auto run = [config, body = std::move(body)] {
        run_grid(config, body);
        memory_check(config.name);
    };
    return note(stream_queue(stream, { config.name, std::move(run), false }));
}

} // namespace cusim

using namespace cusim;

void cusim_seed(uint64_t seed)
{
    entry_lock lock(entry_mutex());
    the_schedule().seed = the_schedule().state = seed;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define CUSIM_X(name, value, text)                                                                 \
    case name:                                                                                     \
        return text;
        CUSIM_ERRORS(CUSIM_X)
#undef CUSIM_X
    }
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define CUSIM_X(name, value, text)                                                                 \
    case name:                                                                                     \
        return #name;
        CUSIM_ERRORS(CUSIM_X)
#undef CUSIM_X
    }
    return "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    return cudaDriverGetVersion(version);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return note(device ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    if (device != 0) return note(cudaErrorInvalidDevice);
    size_t free_bytes = 0;
    cudaDeviceProp p = {};
    cudaMemGetInfo(&free_bytes, &p.totalGlobalMem);
    memcpy(p.name, "cusim", sizeof "cusim");
    p.sharedMemPerBlock = shared_default;
    p.sharedMemPerBlockOptin = shared_limit;
    p.sharedMemPerMultiprocessor = shared_limit + 1024;
    p.reservedSharedMemPerBlock = 1024;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.maxThreadsPerBlock = p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 0x7fffffff;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.totalConstMem = 65536;
    p.major = 8;
    p.multiProcessorCount = n_multiprocessors;
    p.maxThreadsPerMultiProcessor = 2048;
    p.maxBlocksPerMultiProcessor = 32;
    p.concurrentKernels = p.asyncEngineCount = p.unifiedAddressing = 1;
    p.memoryBusWidth = 5120;
    p.l2CacheSize = 40 << 20;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = int(p.sharedMemPerBlock);
        break;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        break;
    case cudaDevAttrMaxRegistersPerBlock:
        *value = p.regsPerBlock;
        break;
    case cudaDevAttrClockRate:
        *value = 1410000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 1215000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        break;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = int(p.sharedMemPerMultiprocessor);
        break;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = p.regsPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = int(p.sharedMemPerBlockOptin);
        break;
    default:
        return note(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    entry_lock lock(entry_mutex());
    if (kernel == nullptr) return note(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || size_t(value) > shared_limit) return note(cudaErrorInvalidValue);
    allowed_shared[kernel] = size_t(value);
    return cudaSuccess;
}

// Registers are not known here: threads and dynamic shared memory alone decide.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n_blocks, const void *,
                                                          int block_threads, size_t shared)
{
    if (block_threads <= 0 || block_threads > 1024) return note(cudaErrorInvalidValue);
    int by_threads = 2048 / ((block_threads + 31) / 32 * 32);
    int by_shared = int((shared_limit + 1024) / (shared + 1024));
    *n_blocks = by_threads < by_shared ? by_threads : by_shared;
    if (*n_blocks > 32) *n_blocks = 32;
    return cudaSuccess;
}
