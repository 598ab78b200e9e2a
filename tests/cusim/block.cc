// Executes grids: one fiber per thread, one block after another. A thread runs until it meets a
// barrier or a collective of its warp; then another thread of the warp goes on, and only when none
// can, another warp. Which one is the seed's choice.
#include "block.h"

#include <vector>

#include "fiber.h"
#include "race.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cusim
{

block_state block;

namespace
{

// A fiber that is not running a thread waits in its main loop for the next one.
std::vector<fiber *> idle;
fiber system_fiber;

unsigned choose(unsigned mask)
{
    if (!shuffled()) return unsigned(__builtin_ctz(mask));
    unsigned turn = unsigned(random_below(32));
    unsigned turned = mask >> turn | mask << ((32 - turn) & 31);
    unsigned bit =
        turn & 1 ? unsigned(__builtin_ctz(turned)) : 31 - unsigned(__builtin_clz(turned));
    return (bit + turn) & 31;
}

// The next thread to run, NULL when all have left.
thread *next_thread(warp *preferred)
{
    warp *w = preferred;
    if (w->ready == 0) {
        unsigned warps = 0;
        for (unsigned i = 0; i < block.n_warps; i++)
            if (block.warps[i].ready) warps |= 1u << i;
        if (warps == 0) {
            if (block.n_exited == block.n_threads) return nullptr;
            report_deadlock();
        }
        w = &block.warps[choose(warps)];
    }
    unsigned bit = choose(w->ready);
    w->ready &= ~(1u << bit);
    return &w->threads[bit];
}

void make_current(thread *t)
{
    block.current = t;
    threadIdx = t->index;
}

void thread_main();

fiber *idle_fiber()
{
    if (idle.empty()) return fiber_new(thread_main);
    fiber *f = idle.back();
    idle.pop_back();
    return f;
}

void switch_to(fiber *from, thread *next)
{
    if (next->on == nullptr) next->on = idle_fiber();
    make_current(next);
    fiber_switch(from, next->on);
}

void leave()
{
    if (with_races) race_settle();
    thread *t = block.current;
    t->w->exited |= 1u << t->lane;
    block.n_exited++;
    copies_drop(current_thread());
    for (int i = 0; i < t->w->n_meetings; i++) {
        const meeting &m = t->w->meetings[i];
        if (m.mask >> t->lane & 1)
            fail("thread left while lanes 0x%08x of its warp wait for it at %s, %s:%d", m.arrived,
                 m.name, m.at.file, m.at.line);
    }
    barrier_complete_if_all();
}

// What a fiber executes: the thread that is current when it is switched to, and as long as the
// next one is not under way elsewhere also that one.
void thread_main()
{
    fiber_entered();
    for (;;) {
        fiber *self = block.current->on;
        (*block.body)();
        leave();
        thread *next = next_thread(block.current->w);
        if (next != nullptr && next->on == nullptr) {
            next->on = self;
            make_current(next);
            continue;
        }
        idle.push_back(self);
        if (next == nullptr)
            fiber_switch(self, &system_fiber);
        else
            switch_to(self, next);
    }
}

void begin_block(const launch_config &config)
{
    block.n_exited = 0;
    block.barrier = barrier_state();
    for (unsigned i = 0; i < block.n_warps; i++) {
        warp &w = block.warps[i];
        unsigned n = block.n_threads - i * 32 < 32 ? block.n_threads - i * 32 : 32;
        w.present = w.ready = n == 32 ? 0xffffffffu : (1u << n) - 1;
        w.exited = w.at_barrier = 0;
        w.n_meetings = 0;
        for (unsigned lane = 0; lane < n; lane++) {
            unsigned linear = i * 32 + lane;
            thread &t = w.threads[lane];
            t.w = &w;
            t.lane = lane;
            t.on = nullptr;
            t.waits_at = nullptr;
            t.index = { linear % config.block.x, linear / config.block.x % config.block.y,
                        linear / (config.block.x * config.block.y) };
        }
    }
}

void run_block(const launch_config &config)
{
    begin_block(config);
    shared_begin_block();
    if (with_races) race_begin_block();
    thread *first = next_thread(&block.warps[0]);
    first->on = idle_fiber();
    make_current(first);
    fiber_switch(&system_fiber, first->on);
    block.current = nullptr;
    shared_end_block();
}

uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

} // namespace

void yield()
{
    fiber *self = block.current->on;
    thread *next = next_thread(block.current->w);
    switch_to(self, next); // the caller waits, so there is a next one or a deadlock
}

// Blocks in the order i -> step i + first modulo their number, a permutation.
void run_grid(const launch_config &config, const std::function<void()> &body)
{
    uint64_t n_blocks = uint64_t(config.grid.x) * config.grid.y * config.grid.z;
    uint64_t first = 0, step = 1;
    if (shuffled() && n_blocks > 1) {
        first = random_below(n_blocks);
        do {
            step = 1 + random_below(n_blocks);
        } while (common_divisor(step, n_blocks) != 1);
    }
    fiber_adopt(&system_fiber);
    gridDim = config.grid;
    blockDim = config.block;
    block.kernel = config.name;
    block.body = &body;
    block.n_threads = config.block.x * config.block.y * config.block.z;
    block.n_warps = (block.n_threads + 31) / 32;
    shared_begin_grid(config);
    if (with_races) race_begin_grid();
    for (uint64_t i = 0; i < n_blocks; i++) {
        uint64_t b = (i * step + first) % n_blocks;
        blockIdx = { unsigned(b % config.grid.x), unsigned(b / config.grid.x % config.grid.y),
                     unsigned(b / config.grid.x / config.grid.y) };
        run_block(config);
    }
    block.kernel = nullptr;
}

const char *running_kernel()
{
    return block.kernel;
}

bool is_stack_guard(const void *p)
{
    return fiber_guards(p);
}

unsigned lane()
{
    return block.current->lane;
}

unsigned current_thread()
{
    return unsigned(block.current->w - block.warps) * 32 + block.current->lane;
}

} // namespace cusim
