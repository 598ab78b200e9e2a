// The state of the block that is being executed.
#ifndef CUSIM_BLOCK_H
#define CUSIM_BLOCK_H

#include "runtime.h"

namespace cusim
{

struct fiber;
struct warp;

struct thread {
    fiber *on; // NULL: not started
    warp *w;
    uint3 index;
    unsigned lane;
    const char *waits_at; // the name of a collective or barrier, NULL: runs or may run
    place at;
};

// Lanes that wait for the others of their mask.
struct meeting {
    unsigned mask, arrived;
    const char *name;
    collective_fn execute;
    place at;
};

struct warp {
    unsigned present, ready, exited, at_barrier; // a bit for each lane
    int n_meetings;
    meeting meetings[32];
    void *slots[32];
    thread threads[32];
};

struct barrier_state {
    unsigned n_arrived = 0, n_true = 0;
    barrier_kind kind = barrier_kind::plain;
    place at = { nullptr, 0 };
    int result = 0;
};

struct block_state {
    const char *kernel; // NULL: none runs
    const std::function<void()> *body;
    unsigned n_threads, n_warps, n_exited;
    thread *current;
    barrier_state barrier;
    warp warps[32];
};

extern block_state block;

void yield(); // the running thread, which waits, gives way
void barrier_complete_if_all();
[[noreturn]] void report_deadlock();

} // namespace cusim

#endif
