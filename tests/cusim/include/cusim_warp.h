/* Barriers, shuffles and votes. */
#ifndef CUSIM_WARP_H
#define CUSIM_WARP_H

#include <cstring>

#include "cusim_core.h"

inline void __syncthreads(CUSIM_HERE)
{
    cusim::barrier(cusim::barrier_kind::plain, 0, here);
}

inline int __syncthreads_or(int value, CUSIM_HERE)
{
    return cusim::barrier(cusim::barrier_kind::any, value, here);
}

inline int __syncthreads_and(int value, CUSIM_HERE)
{
    return cusim::barrier(cusim::barrier_kind::all, value, here);
}

inline int __syncthreads_count(int value, CUSIM_HERE)
{
    return cusim::barrier(cusim::barrier_kind::count, value, here);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, CUSIM_HERE)
{
    cusim::collective("__syncwarp", nullptr, mask, nullptr, here);
}

namespace cusim
{

enum class shuffle_kind { index, up, down, butterfly };

struct shuffle_slot {
    uint64_t value, result;
    int operand, width;
};

/* The lane whose value the lane gets: the one pointed at if it is in the lane's segment of width,
 * else its own. */
template <shuffle_kind kind> inline int shuffle_source(int lane, int operand, int width)
{
    int first = lane & ~(width - 1), source = lane;
    switch (kind) {
    case shuffle_kind::index:
        return first + (operand & (width - 1));
    case shuffle_kind::up:
        source = lane - operand;
        break;
    case shuffle_kind::down:
        source = lane + operand;
        break;
    case shuffle_kind::butterfly:
        source = lane ^ operand;
        return source < first + width ? source : lane;
    }
    return source >= first && source < first + width ? source : lane;
}

/* What comes from a lane outside the mask is undefined: all bits set. */
template <shuffle_kind kind> void shuffle_execute(unsigned mask, void *const slots[32])
{
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        shuffle_slot *own = static_cast<shuffle_slot *>(slots[lane]);
        int source = shuffle_source<kind>(lane, own->operand, own->width);
        bool defined = source >= 0 && source < 32 && (mask >> source & 1);
        own->result =
            defined ? static_cast<const shuffle_slot *>(slots[source])->value : ~uint64_t(0);
    }
}

template <shuffle_kind kind, class T>
inline T shuffle(const char *name, unsigned mask, T value, int operand, int width, place at)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "32 or 64 bits");
    if (width <= 0 || width > 32 || (width & (width - 1)))
        fail_at(at, "%s with a width of %d; it must be a power of two up to 32", name, width);
    shuffle_slot slot = { 0, 0, operand, width };
    std::memcpy(&slot.value, &value, sizeof value);
    collective(name, shuffle_execute<kind>, mask, &slot, at);
    std::memcpy(&value, &slot.result, sizeof value);
    return value;
}

struct vote_slot {
    unsigned value, result;
};

inline void vote_execute(unsigned mask, void *const slots[32])
{
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++)
        if ((mask >> lane & 1) && static_cast<vote_slot *>(slots[lane])->value)
            ballot |= 1u << lane;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) static_cast<vote_slot *>(slots[lane])->result = ballot;
}

inline unsigned vote(const char *name, unsigned mask, bool value, place at)
{
    vote_slot slot = { value, 0 };
    collective(name, vote_execute, mask, &slot, at);
    return slot.result;
}

} // namespace cusim

template <class T> inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, CUSIM_HERE)
{
    return cusim::shuffle<cusim::shuffle_kind::index>("__shfl_sync", mask, v, source, width, here);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUSIM_HERE)
{
    return cusim::shuffle<cusim::shuffle_kind::up>("__shfl_up_sync", mask, v, int(delta), width,
                                                   here);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUSIM_HERE)
{
    return cusim::shuffle<cusim::shuffle_kind::down>("__shfl_down_sync", mask, v, int(delta), width,
                                                     here);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, CUSIM_HERE)
{
    return cusim::shuffle<cusim::shuffle_kind::butterfly>("__shfl_xor_sync", mask, v, lanes, width,
                                                          here);
}

inline unsigned __ballot_sync(unsigned mask, int value, CUSIM_HERE)
{
    return cusim::vote("__ballot_sync", mask, value != 0, here);
}

inline int __any_sync(unsigned mask, int value, CUSIM_HERE)
{
    return cusim::vote("__any_sync", mask, value != 0, here) != 0;
}

inline int __all_sync(unsigned mask, int value, CUSIM_HERE)
{
    return cusim::vote("__all_sync", mask, value != 0, here) == mask;
}

#endif
