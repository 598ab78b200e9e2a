/* Bump allocation from a list of blocks. */
#include "engine/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"

enum { BLOCK_BYTES = 64 * 1024, ALIGN = 16 };

typedef struct nn_arena_block {
    struct nn_arena_block *next;
    size_t used, size;
    _Alignas(ALIGN) unsigned char bytes[];
} block;

void *nn_arena_alloc(nn_arena *arena, int64_t count, size_t size)
{
    size_t want;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &want) || want > SIZE_MAX / 2) {
        (void)nn_fail(NN_MEMORY, "an arena object of %lld x %zu bytes cannot exist",
                      (long long)count, size);
        return NULL;
    }
    want = (want + ALIGN - 1) / ALIGN * ALIGN;
    block *b = arena->blocks;
    if (!b || b->size - b->used < want) {
        size_t room = want > BLOCK_BYTES ? want : BLOCK_BYTES;
        b = nn_alloc(1, sizeof(block) + room);
        if (!b) return NULL;
        b->size = room;
        b->next = arena->blocks;
        arena->blocks = b;
    }
    void *out = b->bytes + b->used;
    b->used += want;
    return out;
}

char *nn_arena_strdup(nn_arena *arena, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = nn_arena_alloc(arena, (int64_t)n, 1);
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *nn_arena_format(nn_arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : nn_arena_alloc(arena, (int64_t)n + 1, 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

void nn_arena_free(nn_arena *arena)
{
    while (arena->blocks) {
        block *next = arena->blocks->next;
        nn_free(arena->blocks);
        arena->blocks = next;
    }
}
