// The device's memory: a region of its own, closed while host code runs, filled with NaN bytes
// before its first use and after its last, with guards around every allocation.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime.h"

namespace cusim
{

namespace
{

constexpr size_t guard = 256, alignment = 256, page = 4096;
constexpr size_t default_mib = 8192; // of addresses: what is not allocated costs nothing

struct region {
    char *base = nullptr;
    size_t bytes = 0;
    size_t opened = 0; // from the base: what has ever been allocated
    bool open = false;
    const char *who = nullptr; // may touch it now
};

region device;
std::map<size_t, size_t> blocks; // offset of the memory handed out: its bytes
std::map<const char *, size_t> pinned;
struct sigaction before; // the handlers that were there

size_t rounded(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}
size_t span(size_t bytes)
{
    return rounded(bytes, alignment) + guard;
} // with the guard behind

void put(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) abort();
}

void put_kernel(const char *what)
{
    put("cusim: kernel ");
    put(running_kernel() ? running_kernel() : device.who ? device.who : "?");
    put(what);
}

void explain_fault(int number, siginfo_t *info, void *)
{
    const char *at = static_cast<const char *>(info->si_addr);
    if (at >= device.base && at < device.base + device.bytes) {
        if (device.open)
            put_kernel(" touched device memory that is not allocated\n");
        else
            put("cusim: host code touched device memory\n");
        abort();
    }
    if (is_stack_guard(at)) {
        put_kernel(" used more stack than cusim has\n");
        abort();
    }
    if (running_kernel()) put_kernel(" made a wrong memory access (misaligned, host or null?)\n");
    sigaction(number, &before, nullptr); // the instruction is repeated and meets that handler
}

void catch_faults()
{
    static char stack[64 * 1024];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    stack_t present = {};
    if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE))
        sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before);
}

void prepare()
{
    if (device.base) return;
    const char *mib = getenv("CUSIM_MEMORY");
    long wanted = mib ? strtol(mib, nullptr, 10) : 0;
    device.bytes = (wanted > 0 ? size_t(wanted) : default_mib) << 20;
    void *base =
        mmap(nullptr, device.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) fail("no address space of %zu bytes for the device", device.bytes);
    device.base = static_cast<char *>(base);
    catch_faults();
}

size_t in_use()
{
    size_t sum = 0;
    for (const auto &b : blocks) sum += span(b.second);
    return sum;
}

void protect(bool open)
{
    if (device.opened == 0) return;
    if (mprotect(device.base, device.opened, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        fail("the device's memory cannot be %s", open ? "opened" : "closed");
}

// The first gap that is wide enough; `bytes` of the region if there is none.
size_t find_gap(size_t bytes)
{
    size_t at = guard;
    for (const auto &b : blocks) {
        if (b.first - at >= span(bytes)) return at;
        at = b.first + span(b.second);
    }
    return at + span(bytes) <= device.bytes ? at : device.bytes;
}

void check_block(const char *who, size_t at, size_t bytes)
{
    size_t behind = span(bytes) - bytes;
    if (!red_zone_intact(device.base + at - guard, guard))
        fail("%s: written before the start of an allocation of %zu bytes", who, bytes);
    if (!red_zone_intact(device.base + at + bytes, behind))
        fail("%s: written behind the end of an allocation of %zu bytes", who, bytes);
}

// Accessible or not: what AddressSanitizer watches is written by instructions that it does not see.
CUSIM_UNCHECKED void fill(void *p, size_t bytes, unsigned char byte)
{
    if (!CUSIM_ASAN) {
        memset(p, byte, bytes);
        return;
    }
    volatile unsigned char *at = static_cast<volatile unsigned char *>(p);
    const uint64_t word = byte * (~uint64_t(0) / 255);
    size_t i = 0;
    for (; i < bytes && (reinterpret_cast<uintptr_t>(at + i) & 7); i++) at[i] = byte;
    for (; i + 8 <= bytes; i += 8) *reinterpret_cast<volatile uint64_t *>(at + i) = word;
    for (; i < bytes; i++) at[i] = byte;
}

// What is opened belongs to no allocation at first.
void open_up_to(size_t end)
{
    if (end <= device.opened) return;
#if CUSIM_ASAN
    __asan_poison_memory_region(device.base + device.opened, end - device.opened);
#endif
    device.opened = end;
}

cudaError_t allocate(void **out, size_t bytes)
{
    prepare();
    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes > device.bytes) return cudaErrorMemoryAllocation;
    size_t at = find_gap(bytes);
    if (at == device.bytes) return cudaErrorMemoryAllocation;
    open_up_to(rounded(at + span(bytes), page));
    blocks[at] = bytes;
    memory_open("cudaMalloc");
    char *p = device.base + at;
    memory_allow(p, bytes);
    memory_undefine(p, bytes);
    red_zone_guard(p - guard, guard);
    red_zone_guard(p + bytes, span(bytes) - bytes);
    memory_close();
    *out = p;
    return cudaSuccess;
}

cudaError_t release(void *block)
{
    char *p = static_cast<char *>(block);
    if (p == nullptr) return cudaSuccess;
    auto found = blocks.find(size_t(p - device.base));
    if (p < device.base || found == blocks.end()) return cudaErrorInvalidValue;
    memory_open("cudaFree");
    check_block("cudaFree", found->first, found->second);
    red_zone_guard(p, found->second);
    memory_close();
    blocks.erase(found);
    return cudaSuccess;
}

} // namespace

void memory_open(const char *who)
{
    device.who = who;
    if (device.open) return;
    device.open = true;
    protect(true);
}

void memory_close()
{
    if (!device.open) return;
    protect(false);
    device.open = false;
}

void memory_check(const char *who)
{
    for (const auto &b : blocks) check_block(who, b.first, b.second);
}

bool memory_is_device(const void *p, size_t bytes)
{
    const char *at = static_cast<const char *>(p);
    if (device.base == nullptr || at < device.base || at >= device.base + device.bytes)
        return false;
    size_t offset = size_t(at - device.base);
    auto next = blocks.upper_bound(offset);
    if (next == blocks.begin()) return false;
    --next;
    return offset + bytes <= next->first + next->second;
}

void memory_region(const char **base, size_t *bytes)
{
    *base = device.base;
    *bytes = device.bytes;
}

bool memory_is_pinned(const void *p)
{
    auto next = pinned.upper_bound(static_cast<const char *>(p));
    if (next == pinned.begin()) return false;
    --next;
    return static_cast<const char *>(p) < next->first + next->second;
}

unsigned char undefined_byte()
{
    static const char *const text = getenv("CUSIM_POISON");
    static const unsigned char byte = text ? (unsigned char)strtoul(text, nullptr, 0) : poison;
    return byte;
}

void memory_undefine(void *p, size_t bytes)
{
    fill(p, bytes, undefined_byte());
}

CUSIM_UNCHECKED bool red_zone_intact(const void *p, size_t bytes)
{
    const volatile unsigned char *at = static_cast<const volatile unsigned char *>(p);
    uint64_t all = ~uint64_t(0);
    size_t i = 0;
    for (; i < bytes && (reinterpret_cast<uintptr_t>(at + i) & 7); i++)
        if (at[i] != poison) return false;
    for (; i + 8 <= bytes; i += 8) all &= *reinterpret_cast<const volatile uint64_t *>(at + i);
    for (; i < bytes; i++)
        if (at[i] != poison) return false;
    return all == ~uint64_t(0);
}

void red_zone_guard(void *p, size_t bytes)
{
    fill(p, bytes, poison);
#if CUSIM_ASAN
    __asan_poison_memory_region(p, bytes);
#endif
}

void memory_allow([[maybe_unused]] void *p, [[maybe_unused]] size_t bytes)
{
#if CUSIM_ASAN
    __asan_unpoison_memory_region(p, bytes);
#endif
}

void need_shared(const void *p, size_t bytes, size_t align, const char *what, place at)
{
    if (reinterpret_cast<uintptr_t>(p) % align)
        fail_at(at, "%s: a shared address that is not a multiple of %zu", what, align);
    if (!shared_contains(p, bytes)) fail_at(at, "%s: %zu bytes outside shared memory", what, bytes);
}

void need_device(const void *p, size_t bytes, size_t align, const char *what, place at)
{
    if (reinterpret_cast<uintptr_t>(p) % align)
        fail_at(at, "%s: a device address that is not a multiple of %zu", what, align);
    if (!memory_is_device(p, bytes))
        fail_at(at, "%s: %zu bytes outside device memory", what, bytes);
}

} // namespace cusim

using namespace cusim;

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    entry_lock lock(entry_mutex());
    if (out == nullptr) return note(cudaErrorInvalidValue);
    if (in_host_function()) return note(cudaErrorNotPermitted);
    if (any_capturing()) {
        capture_break();
        return note(cudaErrorStreamCaptureUnsupported);
    }
    return note(allocate(out, bytes));
}

cudaError_t cudaFree(void *block)
{
    entry_lock lock(entry_mutex());
    cudaError_t finished = stream_finish_all();
    return note(finished != cudaSuccess ? finished : release(block));
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    entry_lock lock(entry_mutex());
    if (out == nullptr) return note(cudaErrorInvalidValue);
    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (posix_memalign(out, alignment, bytes) != 0) return note(cudaErrorMemoryAllocation);
    memset(*out, undefined_byte(), bytes);
    pinned[static_cast<const char *>(*out)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    return cudaMallocHost(out, bytes);
}

cudaError_t cudaFreeHost(void *block)
{
    entry_lock lock(entry_mutex());
    cudaError_t finished = stream_finish_all();
    if (finished != cudaSuccess || block == nullptr) return note(finished);
    if (pinned.erase(static_cast<const char *>(block)) == 0) return note(cudaErrorInvalidValue);
    free(block);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    entry_lock lock(entry_mutex());
    if (!free_bytes || !total_bytes) return note(cudaErrorInvalidValue);
    prepare();
    *total_bytes = device.bytes;
    *free_bytes = device.bytes - guard - in_use();
    return cudaSuccess;
}
