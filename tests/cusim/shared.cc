// The shared memory of the block that runs: undefined at its start, guarded on all sides.
#include <cstring>

#include "block.h"

namespace cusim
{

namespace
{

constexpr size_t guard = 128, alignment = 128;
constexpr size_t arena_bytes = 2 * shared_limit;
constexpr int max_arrays = 64;

struct array {
    const void *key;
    const char *name;
    size_t at, bytes;
};

alignas(1024) char arena[arena_bytes];
array arrays[max_arrays]; // [0]: the dynamic one
int n_arrays;
size_t used;     // bytes of the arena, guards included
size_t n_static; // bytes of static arrays
const launch_config *config;

size_t rounded(size_t bytes)
{
    return (bytes + alignment - 1) / alignment * alignment;
}

// Each array is followed by a guard of at least that many bytes.
void *add(const void *key, const char *name, size_t bytes)
{
    if (n_arrays == max_arrays || used + rounded(bytes) + guard > arena_bytes)
        fail("no place for %zu more bytes of shared memory (%s)", bytes, name);
    size_t end = used + bytes, next = used + rounded(bytes) + guard;
    arrays[n_arrays++] = { key, name, used, bytes };
    char *out = arena + used;
    memory_allow(out, bytes);
    memory_undefine(out, bytes);
    red_zone_guard(arena + end, next - end);
    used = next;
    return out;
}

size_t guard_after(const array &a)
{
    return rounded(a.bytes) + guard - a.bytes;
}

} // namespace

void shared_begin_grid(const launch_config &c)
{
    config = &c;
    n_arrays = 0;
    n_static = 0;
    red_zone_guard(arena, guard);
    used = guard;
    add(nullptr, "dynamic shared memory", c.shared);
}

void shared_begin_block()
{
    for (int i = 0; i < n_arrays; i++) memory_undefine(arena + arrays[i].at, arrays[i].bytes);
}

void shared_end_block()
{
    if (!red_zone_intact(arena, guard)) fail("written before the start of shared memory");
    for (int i = 0; i < n_arrays; i++)
        if (!red_zone_intact(arena + arrays[i].at + arrays[i].bytes, guard_after(arrays[i])))
            fail("written behind the %zu bytes of %s in shared memory", arrays[i].bytes,
                 arrays[i].name);
}

void *shared_array(const void *key, const char *name, size_t bytes, size_t align)
{
    for (int i = 1; i < n_arrays; i++)
        if (arrays[i].key == key) return arena + arrays[i].at;
    if (align > alignment) fail("%s wants an alignment of %zu bytes", name, align);
    n_static += bytes;
    if (n_static > shared_default)
        fail("%zu bytes of static shared memory; at most %zu are allowed", n_static,
             shared_default);
    if (n_static + config->shared > shared_limit)
        fail("%zu bytes of static and %zu of dynamic shared memory; the device has %zu", n_static,
             config->shared, shared_limit);
    return add(key, name, bytes);
}

void shared_region(const char **base, size_t *bytes)
{
    *base = arena;
    *bytes = arena_bytes;
}

size_t shared_start(const void *p)
{
    size_t at = size_t(static_cast<const char *>(p) - arena), start = 0;
    for (int i = 0; i < n_arrays; i++)
        if (arrays[i].at <= at) start = arrays[i].at;
    return start;
}

void *shared_dynamic()
{
    return arena + arrays[0].at;
}

bool shared_contains(const void *p, size_t bytes)
{
    const char *at = static_cast<const char *>(p);
    if (at < arena || at >= arena + used) return false;
    for (int i = 0; i < n_arrays; i++)
        if (at >= arena + arrays[i].at && at + bytes <= arena + arrays[i].at + arrays[i].bytes)
            return true;
    return false;
}

} // namespace cusim
