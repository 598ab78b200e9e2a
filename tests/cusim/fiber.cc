// Fibers for x86-64 System V: the callee-saved registers are pushed, the stack pointers exchanged.
#include "fiber.h"

#include <cstdint>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>
#include <vector>

#include "runtime.h"

#if !defined(__x86_64__)
#error "cusim switches stacks with x86-64 instructions"
#endif

#if CUSIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void cusim_switch(void **from, void *to);

asm(R"(
.text
.globl cusim_switch
.type cusim_switch, @function
cusim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cusim_switch, .-cusim_switch
)");

namespace cusim
{

namespace
{
constexpr size_t page = 4096;
constexpr size_t stack_bytes = CUSIM_ASAN ? 512 * 1024 : 64 * 1024;
constexpr int n_saved = 6;          // registers
constexpr size_t colours = 21;      // stacks start at different offsets, else all would use the
constexpr size_t colour_step = 192; // same sets of the cache
std::vector<fiber *> &all = *new std::vector<fiber *>; // never destroyed
} // namespace

fiber *fiber_new(void (*main)())
{
    void *block = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED || mprotect(block, page, PROT_NONE) != 0)
        fail("no memory for the stack of thread %zu", all.size());
    fiber *f = new fiber;
    f->bottom = static_cast<char *>(block) + page;
    f->bytes = stack_bytes;
    char *top = f->bottom + f->bytes - all.size() % colours * colour_step;
    void **sp = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(63));
    *--sp = nullptr; // the return address of main: where unwinding ends
    *--sp = reinterpret_cast<void *>(main);
    for (int i = 0; i < n_saved; i++) *--sp = nullptr;
    f->sp = sp;
    all.push_back(f);
    return f;
}

void fiber_switch(fiber *from, fiber *to)
{
#if CUSIM_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
#endif
    cusim_switch(&from->sp, to->sp);
#if CUSIM_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered()
{
#if CUSIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void fiber_adopt([[maybe_unused]] fiber *f)
{
#if CUSIM_ASAN
    pthread_attr_t attributes;
    void *bottom = nullptr;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) fail("no attributes of the thread");
    pthread_attr_getstack(&attributes, &bottom, &f->bytes);
    pthread_attr_destroy(&attributes);
    f->bottom = static_cast<char *>(bottom);
#endif
}

bool fiber_guards(const void *p)
{
    const char *at = static_cast<const char *>(p);
    for (const fiber *f : all)
        if (at >= f->bottom - page && at < f->bottom) return true;
    return false;
}

} // namespace cusim
