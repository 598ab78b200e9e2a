// Every two bytes of shared and of device memory have a cell that knows the last write and the last
// reads. Barriers and __syncwarp order accesses; nothing else does: not the order in which fibers
// happen to run, not shuffles. Blocks of a launch are ordered by a hand-over alone: a __threadfence
// behind the access and an atomic of that block, then an atomic of this one. (Which variable it was
// is not asked.) Two writes of the same value are no race.
#include "race.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "block.h"

namespace cusim
{

namespace
{

// One access. Moments count the starts of blocks and the barriers, from 1; clocks what a lane has
// passed of __syncwarp.
struct access {
    uint32_t moment; // 0: none
    location at;
    uint32_t clock : 21, thread : 10, atomic : 1;
};

struct cell {
    uint32_t
        born; // the moment in which its block or grid began; the rest is stale if it is another
    access writer, readers[2];
    unsigned char defined; // a bit for each byte; of shared memory
    bool copying;          // an asynchronous copy is under way: writer started it
};

constexpr size_t grain = 2;
constexpr location is_place = 1u << 31;

struct memory {
    const char *name, *base;
    size_t bytes;
    cell *cells;
};

memory shared = { "shared", nullptr, 0, nullptr }, device = { "device", nullptr, 0, nullptr };
uint32_t now, grid_began, block_began;

// A block of the grid, with what hands over: the moments of its threads' fences, and of its first
// and last atomic. 0: none.
struct past {
    uint32_t began;
    uint3 index;
    std::vector<uint32_t> fence;
    uint32_t last_fence, told_fence; // the latter before its last atomic
    uint32_t first_atomic, last_atomic;
    unsigned first_by, last_by; // the threads of the atomics
};

std::vector<past> begun;
uint32_t known[32][32][32]; // [warp][lane][other]: the clock of other that lane knows to be past
std::vector<place> places;

// A write whose bytes are not there yet, and what it would race with if it changes them.
struct {
    bool waits;
    char *p;
    size_t bytes;
    unsigned char before[64];
    access self, other;
    bool other_wrote;
    const memory *in;
} last_write;

cell *reserve(size_t bytes)
{
    void *p = mmap(nullptr, bytes / grain * sizeof(cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail("no address space for the race detector");
    return static_cast<cell *>(p);
}

const memory *memory_of(const void *p)
{
    const char *at = static_cast<const char *>(p);
    if (size_t(at - shared.base) < shared.bytes) return &shared;
    if (size_t(at - device.base) < device.bytes) return &device;
    return nullptr;
}

cell &fresh(const memory *m, const char *p)
{
    cell &c = m->cells[size_t(p - m->base) / grain];
    uint32_t born = m == &shared ? block_began : grid_began;
    if (c.born != born) c = {};
    c.born = born;
    return c;
}

// The last one that began before.
const past &past_of(uint32_t moment)
{
    size_t i = begun.size() - 1;
    while (i > 0 && begun[i].began > moment) i--;
    return begun[i];
}

bool handed_over(const access &a, const access &self)
{
    const past &from = past_of(a.moment), &to = begun.back();
    bool fenced = from.fence[a.thread] >= a.moment || from.told_fence > a.moment;
    bool told =
        from.last_atomic > a.moment || (from.last_atomic == a.moment && from.last_by == a.thread);
    bool heard = to.first_atomic && (to.first_atomic < now || to.first_by == self.thread);
    return fenced && told && heard;
}

bool ordered(const access &a, const access &self)
{
    if (a.moment == 0 || (a.atomic && self.atomic)) return true;
    if (a.moment < block_began) return handed_over(a, self);
    if (a.moment < now || a.thread == self.thread) return true;
    unsigned warp = a.thread / 32;
    return warp == self.thread / 32 && known[warp][self.thread % 32][a.thread % 32] >= a.clock;
}

void note_atomic(past &b, unsigned thread)
{
    if (!b.first_atomic) b.first_atomic = now, b.first_by = thread;
    b.last_atomic = now;
    b.told_fence = b.last_fence;
    b.last_by = thread;
}

access access_of(unsigned thread, location at, bool atomic)
{
    uint32_t clock = known[thread / 32][thread % 32][thread % 32];
    return { now, at, clock & 0x1fffff, thread & 1023, atomic };
}

// file:line, through inlined calls, of functions that are not cusim's own.
std::string lines_of(location at)
{
    char command[128], line[512], here[512] = "";
    snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%x 2>/dev/null",
             int(getpid()), unsigned(at - 1));
    FILE *pipe = popen(command, "r");
    std::string out;
    if (getcwd(here, sizeof here - 1)) strcat(here, "/");
    while (pipe && fgets(line, sizeof line, pipe)) {
        std::string one(line, strcspn(line, " \n"));
        if (one.find("/cusim/include/") != std::string::npos) continue;
        if (one.compare(0, strlen(here), here) == 0) one = one.substr(strlen(here));
        out += (out.empty() ? "" : " in ") + one;
    }
    if (pipe) pclose(pipe);
    return out;
}

std::string where(location at)
{
    if (at & is_place) {
        const place &p = places[at & ~is_place];
        return std::string(p.file) + ":" + std::to_string(p.line);
    }
    std::string lines = lines_of(at);
    char offset[32];
    snprintf(offset, sizeof offset, "program + 0x%x", unsigned(at));
    return lines.empty() ? offset : lines;
}

std::string who(const access &a)
{
    char text[128];
    const uint3 &t = block.warps[a.thread / 32].threads[a.thread % 32].index;
    uint3 b = past_of(a.moment).index;
    snprintf(text, sizeof text, "thread (%u, %u, %u) of block (%u, %u, %u)", t.x, t.y, t.z, b.x,
             b.y, b.z);
    return text;
}

[[noreturn]] void report(const char *what, const memory *m, const char *p, const access &self,
                         const access &other, const char *other_did)
{
    size_t start = m == &shared ? shared_start(p) : 0;
    fail("race: %s %s %s memory (byte %zu%s), at %s\n  %s %s it, at %s\n  and nothing orders them",
         who(self).c_str(), what, m->name, size_t(p - m->base) - start,
         m == &shared ? " of its array" : "", where(self.at).c_str(), who(other).c_str(), other_did,
         where(other.at).c_str());
}

void expect_no_copy(const cell &c, const char *what, const memory *m, const char *p,
                    const access &self)
{
    if (c.copying)
        report(what, m, p, self, c.writer, "has not waited for its asynchronous copy to");
}

const char *did(const access &a, const char *plain)
{
    return a.atomic ? "has changed (atomically)" : plain;
}

void keep_reader(cell &c, const access &self)
{
    access &latest = c.readers[0], &older = c.readers[1];
    bool same_thread = latest.thread == self.thread && latest.moment >= block_began;
    bool same_warp = latest.thread / 32 == self.thread / 32 && latest.moment >= block_began;
    bool older_elsewhere = older.moment == now && older.thread / 32 != self.thread / 32;
    // Of one warp two lanes are kept, of several warps a lane of two.
    if (!same_thread && !(same_warp && older_elsewhere)) older = latest;
    latest = self;
}

void read(const memory *m, const char *p, unsigned bits, const access &self)
{
    cell &c = fresh(m, p);
    expect_no_copy(c, "reads", m, p, self);
    if (m == &shared && (c.defined & bits) != bits)
        fail("%s reads shared memory (byte %zu of its array) that nobody has written, at %s",
             who(self).c_str(), size_t(p - m->base) - shared_start(p), where(self.at).c_str());
    if (!ordered(c.writer, self))
        report("reads", m, p, self, c.writer, did(c.writer, "has written"));
    keep_reader(c, self);
}

// The access that the write conflicts with, NULL if there is none.
const access *conflict(const cell &c, const access &self)
{
    if (!ordered(c.writer, self)) return &c.writer;
    for (const access &reader : c.readers)
        if (!ordered(reader, self)) return &reader;
    return nullptr;
}

void write(const memory *m, char *p, unsigned bits, const access &self)
{
    cell &c = fresh(m, p);
    expect_no_copy(c, "writes", m, p, self);
    const access *other = conflict(c, self);
    if (other && !last_write.other.moment) {
        last_write.other = *other;
        last_write.other_wrote = other == &c.writer;
    }
    c.writer = self;
    c.defined |= bits;
}

void announce(const memory *m, const char *p, size_t bytes, const access &self)
{
    if (bytes > sizeof last_write.before) fail("a write of %zu bytes at once", bytes);
    last_write = { false, const_cast<char *>(p), bytes, {}, self, {}, false, m };
    memcpy(last_write.before, p, bytes);
}

template <class F> void for_cells(const char *p, size_t bytes, F f)
{
    for (const char *at = p; at < p + bytes;) {
        size_t in = reinterpret_cast<uintptr_t>(at) % grain;
        size_t n = std::min(grain - in, size_t(p + bytes - at));
        f(const_cast<char *>(at), unsigned((1u << n) - 1) << in);
        at += n;
    }
}

} // namespace

void race_begin_grid()
{
    if (!shared.base) {
        shared_region(&shared.base, &shared.bytes);
        memory_region(&device.base, &device.bytes);
        shared.cells = reserve(shared.bytes);
        if (device.base) device.cells = reserve(device.bytes);
    }
    grid_began = now + 1;
    begun.clear();
}

void race_begin_block()
{
    block_began = ++now;
    begun.push_back(
        { now, blockIdx, std::vector<uint32_t>(size_t(block.n_warps) * 32), 0, 0, 0, 0, 0, 0 });
    memset(known, 0, sizeof known[0] * block.n_warps);
    for (unsigned w = 0; w < block.n_warps; w++)
        for (unsigned l = 0; l < 32; l++) known[w][l][l] = 1;
}

void race_fence(unsigned thread)
{
    begun.back().fence[thread] = begun.back().last_fence = now;
}

void race_barrier()
{
    now++;
}

void race_syncwarp(unsigned warp, unsigned mask)
{
    uint32_t joint[32] = {};
    for (unsigned l = 0; l < 32; l++)
        for (unsigned other = 0; (mask >> l & 1) && other < 32; other++)
            joint[other] = std::max(joint[other], known[warp][l][other]);
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        memcpy(known[warp][l], joint, sizeof joint);
        known[warp][l][l]++;
    }
}

void race_settle()
{
    if (!last_write.waits) return;
    last_write.waits = false;
    if (memcmp(last_write.p, last_write.before, last_write.bytes) == 0) return;
    report("writes", last_write.in, last_write.p, last_write.self, last_write.other,
           did(last_write.other, last_write.other_wrote ? "has written" : "has read"));
}

void race_touch(unsigned thread, const void *p, size_t bytes, race_kind kind, location at)
{
    const memory *m = memory_of(p);
    if (!m) return;
    race_settle();
    access self = access_of(thread, at, kind == race_kind::atomic);
    const char *start = static_cast<const char *>(p);
    if (kind != race_kind::write)
        for_cells(start, bytes, [&](char *one, unsigned bits) { read(m, one, bits, self); });
    if (kind == race_kind::read) return;
    if (self.atomic) note_atomic(begun.back(), thread);
    announce(m, start, bytes, self);
    for_cells(start, bytes, [&](char *one, unsigned bits) { write(m, one, bits, self); });
    last_write.waits = last_write.other.moment != 0;
}

void race_copying(unsigned thread, const void *p, size_t bytes, location at)
{
    race_settle();
    access self = access_of(thread, at, false);
    for_cells(static_cast<const char *>(p), bytes, [&](char *one, unsigned) {
        cell &c = fresh(&shared, one);
        expect_no_copy(c, "copies to", &shared, one, self);
        const access *other = conflict(c, self);
        if (other)
            report("copies to", &shared, one, self, *other,
                   did(*other, other == &c.writer ? "has written" : "has read"));
        c.writer = self;
        c.copying = true;
    });
}

void race_copied(unsigned thread, const void *p, size_t bytes, location at)
{
    access self = access_of(thread, at, false);
    for_cells(static_cast<const char *>(p), bytes, [&](char *one, unsigned bits) {
        cell &c = fresh(&shared, one);
        c.writer = self;
        c.copying = false;
        c.defined |= bits;
    });
}

location race_place(place at)
{
    for (size_t i = 0; i < places.size(); i++)
        if (places[i].line == at.line && places[i].file == at.file) return location(i) | is_place;
    places.push_back(at);
    return location(places.size() - 1) | is_place;
}

} // namespace cusim
