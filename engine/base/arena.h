/* A bump allocator: many small objects, one lifetime. Pointers stay valid until the arena is freed.
 */
#ifndef ENGINE_BASE_ARENA_H
#define ENGINE_BASE_ARENA_H

#include "engine/base/status.h"

typedef struct nn_arena {
    struct nn_arena_block *blocks; /* newest first */
} nn_arena;

/* A zeroed arena {0} is empty and ready. Returns zeroed memory aligned to 16 bytes, or NULL (error
 * recorded). */
void *nn_arena_alloc(nn_arena *arena, int64_t count, size_t size);
char *nn_arena_strdup(nn_arena *arena, const char *text);
char *nn_arena_format(nn_arena *arena, const char *fmt, ...) NN_PRINTF(2, 3);
void nn_arena_free(nn_arena *arena); /* leaves it empty and ready */

#endif
