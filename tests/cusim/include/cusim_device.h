/* Everything that device code may use without a further include. */
#ifndef CUSIM_DEVICE_H
#define CUSIM_DEVICE_H

#include <cassert>
#include <cstdio>

#include "cusim_core.h"
#include "cusim_math.h"
#include "cusim_warp.h"

[[noreturn]] inline void __trap(CUSIM_HERE)
{
    cusim::fail_at(here, "__trap");
}

/* In race builds atomic accesses and fences are told to the detector as such. */
#ifdef CUSIM_RACE
#define CUSIM_UNHOOKED __attribute__((no_sanitize("thread")))
#define CUSIM_TELL(p)  cusim::race_atomic(p, sizeof *(p))
#define CUSIM_FENCE()  cusim::race_threadfence()
namespace cusim
{
void race_atomic(const void *p, size_t bytes);
void race_threadfence();
} // namespace cusim
#else
#define CUSIM_UNHOOKED
#define CUSIM_TELL(p) (void)0
#define CUSIM_FENCE() (void)0
#endif

inline void __threadfence_block() {}
inline void __threadfence()
{
    CUSIM_FENCE();
}
inline void __threadfence_system()
{
    CUSIM_FENCE();
}

/* Fibers change only at barriers and collectives: between two of them all is atomic. */
template <class T> CUSIM_UNHOOKED inline T cusim_exchange(T *p, T v)
{
    CUSIM_TELL(p);
    T old = *p;
    *p = v;
    return old;
}

#define CUSIM_ATOMIC(name, T, expression)                                                          \
    CUSIM_UNHOOKED inline T name(T *p, T v)                                                        \
    {                                                                                              \
        return cusim_exchange(p, static_cast<T>(expression));                                      \
    }

#define CUSIM_ATOMICS(T)                                                                           \
    CUSIM_ATOMIC(atomicAdd, T, *p + v)                                                             \
    CUSIM_ATOMIC(atomicMax, T, *p > v ? *p : v)                                                    \
    CUSIM_ATOMIC(atomicMin, T, *p < v ? *p : v)                                                    \
    CUSIM_ATOMIC(atomicExch, T, v)                                                                 \
    CUSIM_ATOMIC(atomicAnd, T, *p &v)                                                              \
    CUSIM_ATOMIC(atomicOr, T, *p | v)                                                              \
    CUSIM_ATOMIC(atomicXor, T, *p ^ v)                                                             \
    CUSIM_UNHOOKED inline T atomicCAS(T *p, T expected, T v)                                       \
    {                                                                                              \
        return cusim_exchange(p, *p == expected ? v : *p);                                         \
    }

CUSIM_ATOMICS(int)
CUSIM_ATOMICS(unsigned)
CUSIM_ATOMICS(unsigned long long)
CUSIM_ATOMIC(atomicSub, int, *p - v)
CUSIM_ATOMIC(atomicSub, unsigned, *p - v)
CUSIM_ATOMIC(atomicAdd, float, *p + v)
CUSIM_ATOMIC(atomicAdd, double, *p + v)
CUSIM_ATOMIC(atomicExch, float, v)

CUSIM_UNHOOKED inline unsigned atomicInc(unsigned *p, unsigned limit)
{
    return cusim_exchange(p, *p >= limit ? 0u : *p + 1);
}

#endif
