// Where the threads of a block meet: barriers and warp collectives, and what is said when they
// cannot.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"
#include "race.h"

namespace cusim
{

namespace
{

const char *barrier_name(barrier_kind kind)
{
    switch (kind) {
    case barrier_kind::plain:
        return "__syncthreads";
    case barrier_kind::any:
        return "__syncthreads_or";
    case barrier_kind::all:
        return "__syncthreads_and";
    case barrier_kind::count:
        return "__syncthreads_count";
    }
    return "?";
}

// Nearly always it is the same literal.
bool same_text(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

bool same_place(place a, place b)
{
    return a.line == b.line && same_text(a.file, b.file);
}

void wait_at(const char *name, place at)
{
    thread *self = block.current;
    self->waits_at = name;
    self->at = at;
    yield();
    self->waits_at = nullptr;
}

void say_where()
{
    if (block.kernel == nullptr) return;
    fprintf(stderr, "  kernel %s, block (%u, %u, %u)", block.kernel, blockIdx.x, blockIdx.y,
            blockIdx.z);
    if (block.current)
        fprintf(stderr, ", thread (%u, %u, %u)", threadIdx.x, threadIdx.y, threadIdx.z);
    fprintf(stderr, "\n");
}

// Aborts if the meeting cannot come to its end.
void check_meeting(const char *name, unsigned mask, place at)
{
    const warp *w = block.current->w;
    unsigned self = 1u << block.current->lane;
    if (!(mask & self))
        fail_at(at, "%s with the mask 0x%08x, without the calling lane", name, mask);
    if (mask & ~w->present)
        fail_at(at, "%s with the mask 0x%08x in a warp with the lanes 0x%08x", name, mask,
                w->present);
    if (mask & w->exited)
        fail_at(at, "%s with the mask 0x%08x, of which the lanes 0x%08x have left", name, mask,
                mask & w->exited);
    for (int i = 0; i < w->n_meetings; i++) {
        const meeting &m = w->meetings[i];
        if (m.mask != mask && (m.mask & self) && (m.arrived & mask))
            fail_at(at,
                    "%s with the mask 0x%08x, but the lanes 0x%08x wait at %s, %s:%d with the "
                    "mask 0x%08x",
                    name, mask, m.arrived, m.name, m.at.file, m.at.line, m.mask);
    }
}

meeting *find_meeting(warp *w, unsigned mask)
{
    for (int i = 0; i < w->n_meetings; i++)
        if (w->meetings[i].mask == mask) return &w->meetings[i];
    return nullptr;
}

void join(warp *w, meeting *m, const char *name, collective_fn execute, unsigned bit, place at)
{
    if (m->execute != execute || !same_text(m->name, name) || !same_place(m->at, at))
        fail_at(at, "%s, but the lanes 0x%08x of the same mask wait at %s, %s:%d", name, m->arrived,
                m->name, m->at.file, m->at.line);
    m->arrived |= bit;
    if (m->arrived != m->mask) return wait_at(name, at);
    unsigned mask = m->mask;
    *m = w->meetings[--w->n_meetings];
    if (execute) execute(mask, w->slots);
    if (with_races && !execute) race_syncwarp(unsigned(w - block.warps), mask);
    w->ready |= mask & ~bit;
}

} // namespace

void collective(const char *name, collective_fn execute, unsigned mask, void *slot, place at)
{
    warp *w = block.current->w;
    unsigned self = block.current->lane, bit = 1u << self;
    if (with_races) race_settle();
    check_meeting(name, mask, at);
    w->slots[self] = slot;
    meeting *m = find_meeting(w, mask);
    if (m == nullptr) {
        m = &w->meetings[w->n_meetings++];
        *m = { mask, 0, name, execute, at };
    }
    join(w, m, name, execute, bit, at);
    w->slots[self] = nullptr;
}

void barrier_complete_if_all()
{
    barrier_state &b = block.barrier;
    if (b.n_arrived == 0 || b.n_arrived + block.n_exited != block.n_threads) return;
    switch (b.kind) {
    case barrier_kind::plain:
        b.result = 0;
        break;
    case barrier_kind::any:
        b.result = b.n_true > 0;
        break;
    case barrier_kind::all:
        b.result = b.n_true == b.n_arrived;
        break;
    case barrier_kind::count:
        b.result = int(b.n_true);
        break;
    }
    if (with_races) race_barrier();
    b.n_arrived = b.n_true = 0;
    for (unsigned i = 0; i < block.n_warps; i++) {
        block.warps[i].ready |= block.warps[i].at_barrier;
        block.warps[i].at_barrier = 0;
    }
}

int barrier(barrier_kind kind, int value, place at)
{
    barrier_state &b = block.barrier;
    thread *self = block.current;
    if (with_races) race_settle();
    if (b.n_arrived == 0) {
        b.kind = kind;
        b.at = at;
    } else if (b.kind != kind || !same_place(b.at, at)) {
        fail_at(at, "%s, but %u threads of the block wait at %s, %s:%d", barrier_name(kind),
                b.n_arrived, barrier_name(b.kind), b.at.file, b.at.line);
    }
    b.n_arrived++;
    b.n_true += value != 0;
    self->w->at_barrier |= 1u << self->lane;
    barrier_complete_if_all();
    if (self->w->at_barrier >> self->lane & 1)
        wait_at(barrier_name(kind), at);
    else
        self->w->ready &= ~(1u << self->lane); // the last one goes on at once
    return b.result;
}

void report_deadlock()
{
    fprintf(stderr, "cusim: deadlock: nobody can go on\n");
    block.current = nullptr;
    say_where();
    static bool told[32][32];
    memset(told, 0, sizeof told);
    for (unsigned i = 0; i < block.n_threads; i++) {
        const thread &t = block.warps[i / 32].threads[i % 32];
        if (t.waits_at == nullptr || told[i / 32][i % 32]) continue;
        unsigned n = 0;
        for (unsigned j = i; j < block.n_threads; j++) {
            const thread &u = block.warps[j / 32].threads[j % 32];
            bool same = u.waits_at && same_text(u.waits_at, t.waits_at) && same_place(u.at, t.at);
            if (!same) continue;
            told[j / 32][j % 32] = true;
            n++;
        }
        fprintf(stderr, "  %u threads, the first (%u, %u, %u), wait at %s, %s:%d\n", n, t.index.x,
                t.index.y, t.index.z, t.waits_at, t.at.file, t.at.line);
    }
    abort();
}

void fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "cusim: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    say_where();
    abort();
}

void fail_at(place at, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "cusim: %s:%d: ", at.file, at.line);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    say_where();
    abort();
}

} // namespace cusim
