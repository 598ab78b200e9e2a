/* The one team of threads that computes.
 *
 * Work is cut by index alone, so that a result never depends on timing. The team belongs to the
 * same runtime as the CPU library's (GNU OpenMP) where that is linked in, so that cores are never
 * asked for twice; elsewhere it is plain threads. */
#ifndef ENGINE_BASE_POOL_H
#define ENGINE_BASE_POOL_H

#include "engine/base/status.h"

typedef struct nn_pool nn_pool;

/* Does the items [begin, end) as the member `thread` of the team. */
typedef void nn_pool_fn(void *ctx, int thread, int64_t begin, int64_t end);

/* How many processors this process may use. */
int nn_pool_processors(void);

/* n_threads <= 0: the processors this process may use. Owner: the caller. */
nn_status nn_pool_create(int n_threads, nn_pool **out) NN_CHECKED;
void nn_pool_destroy(nn_pool *pool);

int nn_pool_threads(const nn_pool *pool); /* 1 for NULL */

/* Cut 0 .. n-1 into one contiguous part per thread (parts are multiples of grain) and wait for all.
 * pool NULL, or fewer than two grains: in the calling thread. Not reentrant. */
void nn_pool_for(nn_pool *pool, int64_t n, int64_t grain, nn_pool_fn *fn, void *ctx);

#endif
