/* The only place that calls malloc. Counts calls, so that tests can prove that a step allocates
 * nothing, and can be told to fail at the k-th call, so that tests can prove that every caller
 * survives it. */
#ifndef ENGINE_BASE_ALLOC_H
#define ENGINE_BASE_ALLOC_H

#include "engine/base/status.h"

/* count * size zeroed bytes; NULL (with the error recorded) when the product overflows or memory is
 * short. A request for 0 bytes yields a pointer that can be freed. Owner: the caller, through
 * nn_free. */
void *nn_alloc(int64_t count, size_t size);

/* Zeroed memory aligned to 64 bytes, for tensors. Freed with nn_free as well. Pages of large blocks
 * are taken from the system when they are first written. */
void *nn_alloc_aligned(int64_t bytes);

/* Give the whole pages of n bytes of heap memory back to the system; they stay allocated and read
 * as zero until they are written again. What shares a page with other memory is left as it is. */
void nn_give_back(void *block, int64_t n);

/* Take the whole pages of n bytes of heap memory from the system at once, which is cheaper than one
 * by one when they are first written. Their values stay. */
void nn_take(void *block, int64_t n);

/* Resize to count * size bytes; the added bytes are not cleared. On failure NULL, and the old block
 * stays. */
void *nn_realloc(void *old, int64_t count, size_t size);

/* Copy of a string. */
char *nn_strdup(const char *text);

/* printf into a new string; NULL when memory is short. */
char *nn_format(const char *fmt, ...) NN_PRINTF(1, 2);

void nn_free(void *block); /* nn_free(NULL) is legal */

/* Grow an array that doubles: *items has room for *capacity elements of `size`; makes room for one
 * more. */
nn_status nn_grow(void *items, int64_t *capacity, int64_t used, size_t size) NN_CHECKED;

/* Number of allocations since start, of all threads. */
int64_t nn_alloc_count(void);

/* Fail the k-th allocation from now on (1 = the next); 0 switches it off. Tests only. */
void nn_alloc_fail_at(int64_t k);
bool nn_alloc_failed(void); /* whether that allocation has come since */

#endif
