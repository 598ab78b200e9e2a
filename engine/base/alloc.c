/* Heap memory: counted, and breakable on demand. */
#include "engine/base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE = 1 << 20 }; /* cleared by giving its pages back */

static _Atomic int64_t n_calls;
static _Atomic int64_t fail_at; /* value of n_calls that fails; 0 = never */

static bool may_allocate(int64_t count, size_t size, size_t *bytes)
{
    int64_t call = atomic_fetch_add(&n_calls, 1) + 1;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, bytes)) {
        (void)nn_fail(NN_MEMORY, "a block of %lld x %zu bytes cannot exist", (long long)count,
                      size);
        return false;
    }
    if (call == atomic_load(&fail_at)) {
        (void)nn_fail(NN_MEMORY, "out of memory for %zu bytes (made to fail)", *bytes);
        return false;
    }
    return true;
}

static void *checked(void *block, size_t bytes)
{
    if (!block) (void)nn_fail(NN_MEMORY, "out of memory for %zu bytes", bytes);
    return block;
}

void *nn_alloc(int64_t count, size_t size)
{
    size_t bytes;
    if (!may_allocate(count, size, &bytes)) return NULL;
    return checked(calloc(bytes ? bytes : 1, 1), bytes);
}

/* The whole pages in n bytes at block. */
static char *pages_of(const void *block, size_t n, size_t *bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)block + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)block + n) / page * page;
    *bytes = end > begin ? end - begin : 0;
    return (char *)block + (begin - (uintptr_t)block);
}

void nn_give_back(void *block, int64_t n)
{
    size_t bytes;
    char *pages = pages_of(block, (size_t)n, &bytes);
    if (bytes) (void)madvise(pages, bytes, MADV_DONTNEED);
}

void nn_take(void *block, int64_t n)
{
#ifdef MADV_POPULATE_WRITE
    size_t bytes;
    char *pages = pages_of(block, (size_t)n, &bytes);
    if (bytes) (void)madvise(pages, bytes, MADV_POPULATE_WRITE);
#else
    (void)block;
    (void)n;
#endif
}

/* Pages that were given back are zero; a system that does not take them gets them written. */
static void clear(char *block, size_t n)
{
    size_t bytes = 0;
    char *pages = n >= LARGE ? pages_of(block, n, &bytes) : block;
    if (bytes && madvise(pages, bytes, MADV_DONTNEED) != 0) bytes = 0;
    const size_t before = bytes ? (size_t)(pages - block) : n;
    memset(block, 0, before);
    if (bytes) memset(pages + bytes, 0, n - before - bytes);
}

void *nn_alloc_aligned(int64_t bytes)
{
    size_t n;
    if (!may_allocate(bytes, 1, &n)) return NULL;
    n = (n + 63) / 64 * 64;
    void *block = checked(aligned_alloc(64, n ? n : 64), n);
    if (block) clear(block, n);
    return block;
}

void *nn_realloc(void *old, int64_t count, size_t size)
{
    size_t bytes;
    if (!may_allocate(count, size, &bytes)) return NULL;
    return checked(realloc(old, bytes ? bytes : 1), bytes);
}

char *nn_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = nn_alloc((int64_t)n, 1);
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *nn_format(const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : nn_alloc((int64_t)n + 1, 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

void nn_free(void *block)
{
    free(block);
}

nn_status nn_grow(void *items, int64_t *capacity, int64_t used, size_t size)
{
    if (used < *capacity) return NN_OK;
    int64_t room = *capacity ? 2 * *capacity : 16;
    void *old;
    memcpy(&old, items, sizeof(old)); /* items is the address of a pointer of any type */
    void *grown = nn_realloc(old, room, size);
    NN_NEED(grown);
    memcpy(items, &grown, sizeof(grown));
    *capacity = room;
    return NN_OK;
}

int64_t nn_alloc_count(void)
{
    return atomic_load(&n_calls);
}

void nn_alloc_fail_at(int64_t k)
{
    atomic_store(&fail_at, k ? atomic_load(&n_calls) + k : 0);
}

bool nn_alloc_failed(void)
{
    int64_t at = atomic_load(&fail_at);
    return at && atomic_load(&n_calls) >= at;
}
