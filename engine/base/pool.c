/* The compute team, on GNU OpenMP's or on our own threads. */
#include "engine/base/pool.h"

#include <pthread.h>
#include <sched.h>

#include "engine/base/alloc.h"

typedef struct job {
    nn_pool_fn *fn;
    void *ctx;
    int64_t n, grain;
    int parts;
} job;

static void run_part(const job *j, int part)
{
    int64_t grains = (j->n + j->grain - 1) / j->grain;
    int64_t begin = grains * part / j->parts * j->grain;
    int64_t end = nn_min(grains * (part + 1) / j->parts * j->grain, j->n);
    if (begin < end) j->fn(j->ctx, part, begin, end);
}

int nn_pool_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

#ifdef NN_OPENMP
/* libgomp's entry points, called by name: the team is oneDNN's, whichever compiler builds this
 * file. */
extern void GOMP_parallel(void (*fn)(void *), void *data, unsigned n_threads, unsigned flags);
extern int omp_get_thread_num(void);
extern void omp_set_num_threads(int n);

struct nn_pool {
    int n_threads;
};

static void member(void *data)
{
    run_part(data, omp_get_thread_num());
}

static void run_team(nn_pool *pool, job *j)
{
    GOMP_parallel(member, j, (unsigned)pool->n_threads, 0);
}

static nn_status start_team(nn_pool *pool)
{
    omp_set_num_threads(pool->n_threads);
    return NN_OK;
}

static void stop_team(nn_pool *pool)
{
    (void)pool;
}
#else
struct nn_pool {
    int n_threads; /* the calling thread is number 0 */
    pthread_t *threads;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    const job *todo;
    uint64_t round;
    int busy;
    bool quit;
};

typedef struct seat {
    nn_pool *pool;
    int number;
} seat;

static void *member(void *data)
{
    seat s = *(seat *)data;
    nn_free(data);
    nn_pool *pool = s.pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->quit) pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->quit) break;
        seen = pool->round;
        const job *j = pool->todo;
        pthread_mutex_unlock(&pool->lock);
        run_part(j, s.number);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void run_team(nn_pool *pool, job *j)
{
    pthread_mutex_lock(&pool->lock);
    pool->todo = j;
    pool->busy = pool->n_threads - 1;
    pool->round++;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    run_part(j, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy) pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static nn_status start_team(nn_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->threads = nn_alloc(pool->n_threads, sizeof(pthread_t));
    NN_NEED(pool->threads);
    for (int i = 1; i < pool->n_threads; i++) {
        seat *s = nn_alloc(1, sizeof(*s));
        NN_NEED(s);
        *s = (seat){ pool, i };
        if (pthread_create(&pool->threads[i], NULL, member, s) != 0) {
            nn_free(s);
            return nn_fail(NN_DEVICE, "thread %d of %d could not be started", i, pool->n_threads);
        }
        pool->started++;
    }
    return NN_OK;
}

static void stop_team(nn_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++) pthread_join(pool->threads[i], NULL);
    nn_free(pool->threads);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
}
#endif

nn_status nn_pool_create(int n_threads, nn_pool **out)
{
    nn_pool *pool = nn_alloc(1, sizeof(*pool));
    NN_NEED(pool);
    pool->n_threads = n_threads > 0 ? n_threads : nn_pool_processors();
    nn_status status = start_team(pool);
    if (status != NN_OK) {
        nn_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return NN_OK;
}

void nn_pool_destroy(nn_pool *pool)
{
    if (!pool) return;
    stop_team(pool);
    nn_free(pool);
}

int nn_pool_threads(const nn_pool *pool)
{
    return pool ? pool->n_threads : 1;
}

void nn_pool_for(nn_pool *pool, int64_t n, int64_t grain, nn_pool_fn *fn, void *ctx)
{
    if (n <= 0) return;
    job j = { fn, ctx, n, grain, nn_pool_threads(pool) };
    if (j.parts == 1 || n <= grain)
        fn(ctx, 0, 0, n);
    else
        run_team(pool, &j);
}
