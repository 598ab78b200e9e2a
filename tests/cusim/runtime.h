// What the parts of the runtime know of each other.
#ifndef CUSIM_RUNTIME_H
#define CUSIM_RUNTIME_H

#include <functional>
#include <mutex>

#include <cuda_runtime.h>

#if defined(__SANITIZE_ADDRESS__)
#define CUSIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUSIM_ASAN 1
#endif
#endif
#ifndef CUSIM_ASAN
#define CUSIM_ASAN 0
#endif

#if CUSIM_ASAN
#include <sanitizer/asan_interface.h>
#define CUSIM_UNCHECKED __attribute__((no_sanitize("address")))
#else
#define CUSIM_UNCHECKED
#endif

namespace cusim
{

// The simulated device: the limits of compute capability 8.0 with few multiprocessors, so that
// kernels which size their grid by them stay small.
constexpr size_t shared_default = 48 * 1024;
constexpr size_t shared_limit = 163 * 1024;
constexpr int n_multiprocessors = 4;
constexpr unsigned char poison = 0xFF; // of guards; a NaN in every floating-point type

// Every entry of the API holds it, some more than once.
class entry_gate
{
    std::recursive_mutex mutex;
    int depth = 0;

  public:
    void lock();
    void unlock();
    void pause(); // lets the other threads in for a moment
};
using entry_lock = std::lock_guard<entry_gate>;
entry_gate &entry_mutex();

// Keeps a failure for cudaGetLastError and returns it.
cudaError_t note(cudaError_t error);

// Random numbers of the schedule; always 0 with seed 0.
bool shuffled();
uint64_t random_below(uint64_t n);

// memory.cc
void memory_open(const char *who);  // the device's memory may be touched
void memory_close();                // only by the host: a touch is reported
void memory_check(const char *who); // aborts if the bytes around an allocation were written
bool memory_is_device(const void *p, size_t bytes);
void memory_region(const char **base, size_t *bytes);
bool memory_is_pinned(const void *p);
void red_zone_guard(void *p, size_t bytes); // fills; inaccessible where the build can see it
bool red_zone_intact(const void *p, size_t bytes);
void memory_allow(void *p, size_t bytes);    // for builds with AddressSanitizer
unsigned char undefined_byte();              // of what nobody has written: CUSIM_POISON or poison
void memory_undefine(void *p, size_t bytes); // fills with it, accessible or not

// block.cc
void run_grid(const launch_config &config, const std::function<void()> &body);
const char *running_kernel();       // NULL: none
bool is_stack_guard(const void *p); // below a thread's stack
void copies_drop(unsigned thread);  // ptx.cc: forgets what the thread has not waited for

// shared.cc
void shared_begin_grid(const launch_config &config);
void shared_begin_block();
void shared_end_block();
void shared_region(const char **base, size_t *bytes); // all that it can ever be
size_t shared_start(const void *p);                   // where its array starts, from the base
bool shared_contains(const void *p, size_t bytes);

// stream.cc
struct work {
    const char *name;
    std::function<void()> run;
    bool on_host; // a callback: the device's memory stays closed
};
cudaError_t stream_queue(cudaStream_t stream, work w);
cudaError_t stream_finish(cudaStream_t stream); // executes all of it and what it depends on
cudaError_t stream_finish_all();
bool stream_capturing(cudaStream_t stream); // a graph is being recorded from it
bool any_capturing();
void capture_break(); // what is being recorded becomes invalid
bool in_host_function();

// launch.cc
unsigned current_thread(); // linear index in the block

} // namespace cusim

#endif
