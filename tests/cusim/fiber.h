// Stacks that can be switched between: the threads of a block.
#ifndef CUSIM_FIBER_H
#define CUSIM_FIBER_H

#include <cstddef>

namespace cusim
{

struct fiber {
    void *sp = nullptr;     // where it was left
    char *bottom = nullptr; // of its stack; below lies one page that may not be touched
    size_t bytes = 0;
    void *fake_stack = nullptr; // AddressSanitizer's
};

// A fiber that executes main when first switched to; main never returns. Owner: the process.
fiber *fiber_new(void (*main)());

// Leaves `from`, which is the running one, and goes on with `to`.
void fiber_switch(fiber *from, fiber *to);

// The first thing a new fiber does.
void fiber_entered();

// Describes the stack of the operating system's thread that runs.
void fiber_adopt(fiber *f);

bool fiber_guards(const void *p);

} // namespace cusim

#endif
