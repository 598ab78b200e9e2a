// The race detector: which accesses to shared and device memory nothing orders.
#ifndef CUSIM_RACE_H
#define CUSIM_RACE_H

#include "runtime.h"

namespace cusim
{

#ifdef CUSIM_RACE
constexpr bool with_races = true;
#else
constexpr bool with_races = false;
#endif

// Where an access was made: an address in the program, or a place in the source.
typedef uint32_t location;

enum class race_kind { read, write, atomic };

void race_begin_grid();
void race_begin_block();
void race_barrier();                              // all threads of the block have met
void race_syncwarp(unsigned warp, unsigned mask); // and these lanes
void race_fence(unsigned thread);                 // a __threadfence

// The thread touches [p, p + bytes); what is neither shared nor device memory is let pass. A write
// is to be announced before it is made.
void race_touch(unsigned thread, const void *p, size_t bytes, race_kind kind, location at);

// An asynchronous copy to shared memory was started: until race_copied nobody may touch it.
void race_copying(unsigned thread, const void *p, size_t bytes, location at);
void race_copied(unsigned thread, const void *p, size_t bytes, location at);

// To be called before another thread runs: judges the last write by what it has changed.
void race_settle();

location race_place(place at);

} // namespace cusim

#endif
