/* The ranks are threads of one process: the last one to start a collective does it for all. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/dist/internal.h"

enum { MOST_TEXT = 1024 };

typedef struct board {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_ranks, n_open;
    nn_comm **ranks;    /* NULL: has left */
    int64_t *n_started; /* by rank */
    int64_t n_done;     /* collectives */
    const void **parts; /* room for the sources of a sum */
    bool failed;
    char why[MOST_TEXT];
} board;

/* -- the collectives --------------------------------------------------------------------------- */

static void sum_parts(board *b, int64_t number, int64_t first, nn_comm_call *out)
{
    const nn_comm_call *call = nn_comm_call_at(b->ranks[0], number);
    const int64_t skip = first * nn_dtype_bytes(call->dtype);
    for (int r = 0; r < b->n_ranks; r++)
        b->parts[r] = (const char *)nn_comm_call_at(b->ranks[r], number)->src + skip;
    nn_comm_sum(call->dtype, b->n_ranks, b->parts, call->n, out->dst);
}

static void move(void *dst, const void *src, int64_t bytes)
{
    if (dst != src && bytes) memcpy(dst, src, (size_t)bytes);
}

static void all_reduce(board *b, int64_t number)
{
    nn_comm_call first = *nn_comm_call_at(b->ranks[0], number);
    const int64_t bytes = nn_comm_dst_bytes(b->ranks[0], &first);
    sum_parts(b, number, 0, &first);
    for (int r = 1; r < b->n_ranks; r++)
        move(nn_comm_call_at(b->ranks[r], number)->dst, first.dst, bytes);
}

static void reduce(board *b, int64_t number)
{
    nn_comm_call root =
        *nn_comm_call_at(b->ranks[nn_comm_call_at(b->ranks[0], number)->root], number);
    sum_parts(b, number, 0, &root);
}

/* A part is written where only its own rank's part of a source can lie. */
static void reduce_scatter(board *b, int64_t number)
{
    for (int r = 0; r < b->n_ranks; r++) {
        nn_comm_call call = *nn_comm_call_at(b->ranks[r], number);
        sum_parts(b, number, r * call.n, &call);
    }
}

static void all_gather(board *b, int64_t number)
{
    const int64_t bytes = nn_comm_src_bytes(b->ranks[0], nn_comm_call_at(b->ranks[0], number));
    for (int to = 0; to < b->n_ranks; to++)
        for (int from = 0; from < b->n_ranks; from++)
            move((char *)nn_comm_call_at(b->ranks[to], number)->dst + from * bytes,
                 nn_comm_call_at(b->ranks[from], number)->src, bytes);
}

static void broadcast(board *b, int64_t number)
{
    const nn_comm_call *root =
        nn_comm_call_at(b->ranks[nn_comm_call_at(b->ranks[0], number)->root], number);
    for (int r = 0; r < b->n_ranks; r++)
        move(nn_comm_call_at(b->ranks[r], number)->dst, root->src,
             nn_comm_src_bytes(b->ranks[r], root));
}

/* -- the board; its lock is held --------------------------------------------------------------- */

/* Keep this thread's message for all ranks. */
static nn_status give_up(board *b, nn_status status)
{
    if (status == NN_OK || b->failed) return status;
    b->failed = true;
    snprintf(b->why, sizeof(b->why), "%s", nn_error_message());
    pthread_cond_broadcast(&b->changed);
    return status;
}

static nn_status compare(const board *b, int64_t number)
{
    const nn_comm_header first = nn_comm_header_of(b->ranks[0], number);
    for (int r = 1; r < b->n_ranks; r++) {
        const nn_comm_header other = nn_comm_header_of(b->ranks[r], number);
        if (!nn_comm_same_call(&first, &other))
            return nn_comm_mismatch(b->ranks[0], number, r, &other);
    }
    return NN_OK;
}

static nn_status perform(board *b, int64_t number)
{
    const double began = nn_clock_seconds();
    NN_TRY(compare(b, number));
    switch (nn_comm_call_at(b->ranks[0], number)->kind) {
    case NN_COMM_BARRIER:
        break;
    case NN_COMM_BROADCAST:
        broadcast(b, number);
        break;
    case NN_COMM_ALL_REDUCE:
        all_reduce(b, number);
        break;
    case NN_COMM_REDUCE:
        reduce(b, number);
        break;
    case NN_COMM_REDUCE_SCATTER:
        reduce_scatter(b, number);
        break;
    case NN_COMM_ALL_GATHER:
        all_gather(b, number);
        break;
    }
    for (int r = 0; r < b->n_ranks; r++) nn_comm_took(b->ranks[r], nn_clock_seconds() - began);
    b->n_done++;
    pthread_cond_broadcast(&b->changed);
    return NN_OK;
}

static bool all_started(const board *b, int64_t number)
{
    for (int r = 0; r < b->n_ranks; r++)
        if (b->n_started[r] <= number || !b->ranks[r]) return false;
    return true;
}

/* "1, 3": who has not started a collective; only_left: and never will. */
static void who_is_missing(const board *b, int64_t number, bool only_left, char out[64])
{
    size_t used = 0;
    out[0] = 0;
    for (int r = 0; r < b->n_ranks && used < 48; r++)
        if (b->n_started[r] <= number && (!only_left || !b->ranks[r]))
            used += (size_t)snprintf(out + used, 64 - used, "%s%d", used ? ", " : "", r);
}

static nn_status check_alive(const nn_comm *c, board *b, int64_t number)
{
    char left[64];
    if (b->failed) return nn_comm_fail(c, number, "another rank has failed: %s", b->why);
    who_is_missing(b, number, true, left);
    if (left[0]) return give_up(b, nn_comm_fail(c, number, "rank %s has left the job", left));
    return NN_OK;
}

static struct timespec deadline(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)seconds;
    t.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static nn_status until_done(nn_comm *c, board *b, int64_t number)
{
    const struct timespec end = deadline(c->options.timeout_seconds);
    while (b->n_done <= number) {
        int code = 0;
        NN_TRY(check_alive(c, b, b->n_done));
        if (c->options.timeout_seconds > 0)
            code = pthread_cond_timedwait(&b->changed, &b->lock, &end);
        else
            pthread_cond_wait(&b->changed, &b->lock);
        if (code != ETIMEDOUT || b->n_done > number || b->failed) continue;
        char missing[64];
        who_is_missing(b, b->n_done, false, missing);
        return give_up(b, nn_comm_late(c, b->n_done, missing));
    }
    return NN_OK;
}

/* -- the communicator -------------------------------------------------------------------------- */

static nn_status start(nn_comm *c, int64_t number)
{
    board *b = c->state;
    pthread_mutex_lock(&b->lock);
    nn_status status = NN_OK;
    if (b->failed) status = nn_comm_fail(c, number, "another rank has failed: %s", b->why);
    if (status == NN_OK) {
        b->n_started[c->place.rank] = number + 1;
        if (all_started(b, b->n_done)) status = give_up(b, perform(b, b->n_done));
    }
    pthread_mutex_unlock(&b->lock);
    return status;
}

static nn_status wait(nn_comm *c, int64_t number)
{
    board *b = c->state;
    pthread_mutex_lock(&b->lock);
    nn_status status = until_done(c, b, number);
    pthread_mutex_unlock(&b->lock);
    return status;
}

static void abort_all(nn_comm *c)
{
    board *b = c->state;
    pthread_mutex_lock(&b->lock);
    (void)give_up(b, nn_fail(NN_DEVICE, "%s", c->why ? c->why : "a rank has given up"));
    pthread_mutex_unlock(&b->lock);
}

static void free_board(board *b)
{
    if (!b) return;
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
    nn_free(b->ranks);
    nn_free(b->n_started);
    nn_free(b->parts);
    nn_free(b);
}

static void leave(nn_comm *c)
{
    board *b = c->state;
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->ranks[c->place.rank] = NULL;
    const bool last = --b->n_open == 0;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (last) free_board(b);
}

static const nn_comm_impl impl = { "threads", start, wait, abort_all, leave };

static void init_board(board *b, int n_ranks)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    b->n_ranks = n_ranks;
}

static nn_status make_ranks(board *b, const nn_comm_options *options, nn_comm *out[])
{
    nn_comm_place place;
    nn_comm_place_from_environment(&place);
    place.n_ranks = place.n_local = b->n_ranks;
    b->ranks = nn_alloc(b->n_ranks, sizeof(nn_comm *));
    b->n_started = nn_alloc(b->n_ranks, sizeof(int64_t));
    b->parts = nn_alloc(b->n_ranks, sizeof(void *));
    if (!b->ranks || !b->n_started || !b->parts) return NN_MEMORY;
    for (int r = 0; r < b->n_ranks; r++) {
        place.rank = place.local_rank = r;
        NN_TRY(nn_comm_make(&impl, &place, options, &out[r]));
        b->ranks[r] = out[r];
    }
    return NN_OK;
}

nn_status nn_comm_open_threads(int n_ranks, const nn_comm_options *options, nn_comm *out[])
{
    if (n_ranks < 1) return nn_fail(NN_ARGUMENT, "%d ranks: at least one is wanted", n_ranks);
    board *b = nn_alloc(1, sizeof(*b));
    NN_NEED(b);
    for (int r = 0; r < n_ranks; r++) out[r] = NULL;
    init_board(b, n_ranks);
    const nn_status status = make_ranks(b, options, out);
    for (int r = 0; r < n_ranks && status != NN_OK; r++) {
        nn_comm_close(out[r]); /* it has no state yet */
        out[r] = NULL;
    }
    if (status != NN_OK) {
        free_board(b);
        return status;
    }
    b->n_open = n_ranks;
    for (int r = 0; r < n_ranks; r++) out[r]->state = b;
    return NN_OK;
}
