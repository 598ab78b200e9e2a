// What code compiled with -fsanitize=thread calls at its accesses to memory, in the place of that
// sanitizer's own library.
#include "race.h"

#ifdef CUSIM_RACE

#include "block.h"

extern "C" char __executable_start;

using namespace cusim;

namespace
{

void touch(const void *p, size_t bytes, race_kind kind, const void *from)
{
    if (block.kernel == nullptr || block.current == nullptr) return;
    auto at = location(static_cast<const char *>(from) - &__executable_start);
    race_touch(current_thread(), p, bytes, kind, at);
}

} // namespace

void cusim::race_atomic(const void *p, size_t bytes)
{
    touch(p, bytes, race_kind::atomic, __builtin_return_address(0));
}

void cusim::race_threadfence()
{
    if (block.kernel != nullptr && block.current != nullptr) race_fence(current_thread());
}

#define HOOK(name, bytes, kind)                                                                    \
    extern "C" void name(void *p)                                                                  \
    {                                                                                              \
        touch(p, bytes, race_kind::kind, __builtin_return_address(0));                             \
    }
HOOK(__tsan_read1, 1, read)
HOOK(__tsan_read2, 2, read)
HOOK(__tsan_read4, 4, read)
HOOK(__tsan_read8, 8, read)
HOOK(__tsan_read16, 16, read)
HOOK(__tsan_write1, 1, write)
HOOK(__tsan_write2, 2, write)
HOOK(__tsan_write4, 4, write)
HOOK(__tsan_write8, 8, write)
HOOK(__tsan_write16, 16, write)
HOOK(__tsan_unaligned_read2, 2, read)
HOOK(__tsan_unaligned_read4, 4, read)
HOOK(__tsan_unaligned_read8, 8, read)
HOOK(__tsan_unaligned_read16, 16, read)
HOOK(__tsan_unaligned_write2, 2, write)
HOOK(__tsan_unaligned_write4, 4, write)
HOOK(__tsan_unaligned_write8, 8, write)
HOOK(__tsan_unaligned_write16, 16, write)
HOOK(__tsan_vptr_read, 8, read)

extern "C" void __tsan_vptr_update(void *, void *) {}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}

extern "C" void __tsan_read_range(void *p, size_t bytes)
{
    touch(p, bytes, race_kind::read, __builtin_return_address(0));
}

extern "C" void __tsan_write_range(void *p, size_t bytes)
{
    touch(p, bytes, race_kind::write, __builtin_return_address(0));
}

// Counters of the C++ library in host code.
extern "C" int __tsan_atomic32_fetch_add(volatile int *p, int v, int)
{
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}

#endif
