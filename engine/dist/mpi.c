/* Ranks with host memory over MPI: a thread that does one collective after the other, of messages
 * between pairs of ranks.
 */
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/dist/internal.h"

enum {
    MESSAGE = 1 << 26, /* bytes of one message at most */
    TAGS = 32000,      /* collectives are told apart by number modulo this; */
    HEADER_TAG = TAGS, /* their headers are not, so that they always meet */
    SPINS = 200,       /* questions in a row before the thread sleeps between them */
    NAP_NANOSECONDS = 20000,
    MOST_TEXT = 1024
};

typedef struct wire {
    MPI_Comm comm;
    bool began; /* MPI was started here */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running, quit, failed;
    int64_t n_started, n_done;
    char why[MOST_TEXT];
    /* of the thread */
    nn_comm_pairs pairs;
    nn_comm_header *headers; /* [N + 1]: everyone's, and the own one as it is sent */
    MPI_Request *requests;   /* [2 N] */
    int *peers;              /* [2 N]: who each request waits for */
    int n_requests, tag;
    int64_t number;
    double until; /* on the clock; 0 = for ever */
} wire;

/* -- messages ---------------------------------------------------------------------------------- */

static nn_status check(const nn_comm *c, const wire *w, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    if (code == MPI_SUCCESS) return NN_OK;
    MPI_Error_string(code, text, &length);
    return nn_comm_fail(c, w->number, "%s", text);
}

static nn_status send(nn_comm *c, int peer, const char *src, int64_t bytes)
{
    wire *w = c->state;
    if (!bytes) return NN_OK;
    w->peers[w->n_requests] = peer;
    return check(
        c, w,
        MPI_Isend(src, (int)bytes, MPI_BYTE, peer, w->tag, w->comm, &w->requests[w->n_requests++]));
}

static nn_status receive(nn_comm *c, int peer, char *dst, int64_t bytes)
{
    wire *w = c->state;
    if (!bytes) return NN_OK;
    w->peers[w->n_requests] = peer;
    return check(
        c, w,
        MPI_Irecv(dst, (int)bytes, MPI_BYTE, peer, w->tag, w->comm, &w->requests[w->n_requests++]));
}

static bool is_named(const wire *w, int before, int peer)
{
    for (int i = 0; i < before; i++)
        if (w->peers[i] == peer) return true;
    return false;
}

/* The time is up: name those whose messages have not come. */
static nn_status too_late(const nn_comm *c, wire *w)
{
    char missing[64] = "";
    size_t used = 0;
    int n = 0;
    for (int i = 0; i < w->n_requests; i++) {
        int done = 0;
        if (MPI_Test(&w->requests[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done &&
            !is_named(w, n, w->peers[i]))
            w->peers[n++] = w->peers[i];
    }
    for (int i = 0; i < n && used < 48; i++)
        used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%d", i ? ", " : "",
                                 w->peers[i]);
    return nn_comm_late(c, w->number, missing);
}

/* Until all messages are through. */
static nn_status settle(nn_comm *c)
{
    wire *w = c->state;
    const struct timespec nap = { 0, NAP_NANOSECONDS };
    for (int64_t asked = 0;; asked++) {
        int done = 0;
        NN_TRY(check(c, w, MPI_Testall(w->n_requests, w->requests, &done, MPI_STATUSES_IGNORE)));
        if (done) break;
        if (asked < SPINS) continue;
        if (w->until > 0 && nn_clock_seconds() > w->until) return too_late(c, w);
        nanosleep(&nap, NULL);
    }
    w->n_requests = 0;
    return NN_OK;
}

/* -- the collectives --------------------------------------------------------------------------- */

/* Everyone's header to everyone: also a barrier. */
static nn_status compare(nn_comm *c, wire *w)
{
    const int n = c->place.n_ranks, me = c->place.rank;
    nn_comm_header *own = &w->headers[n];
    *own = nn_comm_header_of(c, w->number);
    w->tag = HEADER_TAG;
    for (int p = 0; p < n; p++) {
        if (p == me) continue;
        NN_TRY(receive(c, p, (char *)&w->headers[p], sizeof(*own)));
        NN_TRY(send(c, p, (const char *)own, sizeof(*own)));
    }
    NN_TRY(settle(c));
    for (int p = 0; p < n; p++)
        if (p != me && !nn_comm_same_call(own, &w->headers[p]))
            return nn_comm_mismatch(c, w->number, p, &w->headers[p]);
    return NN_OK;
}

static nn_status add(nn_comm *c, nn_dtype dtype, const void *const src[], int64_t n, void *dst)
{
    nn_comm_sum(dtype, c->place.n_ranks, src, n, dst);
    return NN_OK;
}

static nn_status all_gather(nn_comm *c, const nn_comm_call *call)
{
    const int me = c->place.rank;
    const int64_t bytes = nn_comm_src_bytes(c, call);
    char *own = (char *)call->dst + me * bytes;
    if (own != call->src && bytes) memcpy(own, call->src, (size_t)bytes);
    for (int64_t at = 0; at < bytes; at += MESSAGE) {
        const int64_t m = nn_min(MESSAGE, bytes - at);
        for (int p = 0; p < c->place.n_ranks; p++) {
            if (p == me) continue;
            NN_TRY(receive(c, p, (char *)call->dst + p * bytes + at, m));
            NN_TRY(send(c, p, own + at, m));
        }
        NN_TRY(settle(c));
    }
    return NN_OK;
}

static nn_status broadcast(nn_comm *c, wire *w, const nn_comm_call *call)
{
    const int64_t bytes = nn_comm_dst_bytes(c, call);
    for (int64_t at = 0; at < bytes; at += MESSAGE) {
        w->peers[0] = call->root;
        w->n_requests = 1;
        NN_TRY(check(c, w,
                     MPI_Ibcast((char *)call->dst + at, (int)nn_min(MESSAGE, bytes - at), MPI_BYTE,
                                call->root, w->comm, &w->requests[0])));
        NN_TRY(settle(c));
    }
    return NN_OK;
}

static nn_status perform(nn_comm *c, wire *w, int64_t number)
{
    const nn_comm_call *call = nn_comm_call_at(c, number);
    const double limit = c->options.timeout_seconds;
    w->number = number;
    w->until = limit > 0 ? nn_clock_seconds() + limit : 0;
    if (call->kind == NN_COMM_BARRIER || nn_comm_must_compare(c, number)) NN_TRY(compare(c, w));
    w->tag = (int)(number % TAGS);
    switch (call->kind) {
    case NN_COMM_BROADCAST:
        return broadcast(c, w, call);
    case NN_COMM_ALL_REDUCE:
    case NN_COMM_REDUCE:
    case NN_COMM_REDUCE_SCATTER:
        return nn_comm_sum_in_order(c, &w->pairs, call);
    case NN_COMM_ALL_GATHER:
        return all_gather(c, call);
    default:
        return NN_OK;
    }
}

/* -- the thread -------------------------------------------------------------------------------- */

static void *work(void *ctx)
{
    nn_comm *c = ctx;
    wire *w = c->state;
    pthread_mutex_lock(&w->lock);
    while (!w->failed) {
        while (w->n_done == w->n_started && !w->quit) pthread_cond_wait(&w->changed, &w->lock);
        if (w->n_done == w->n_started) break;
        pthread_mutex_unlock(&w->lock);
        const double began = nn_clock_seconds();
        const nn_status status = perform(c, w, w->n_done);
        nn_comm_took(c, nn_clock_seconds() - began);
        if (status == NN_OK) nn_comm_finished(c, w->n_done);
        pthread_mutex_lock(&w->lock);
        if (status == NN_OK) {
            w->n_done++;
        } else {
            w->failed = true;
            snprintf(w->why, sizeof(w->why), "%s", nn_error_message());
        }
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static nn_status start(nn_comm *c, int64_t number)
{
    wire *w = c->state;
    pthread_mutex_lock(&w->lock);
    w->n_started = number + 1;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NN_OK;
}

/* The thread keeps the time. */
static nn_status wait(nn_comm *c, int64_t number)
{
    wire *w = c->state;
    pthread_mutex_lock(&w->lock);
    while (w->n_done <= number && !w->failed) pthread_cond_wait(&w->changed, &w->lock);
    const bool done = w->n_done > number;
    pthread_mutex_unlock(&w->lock);
    return done ? NN_OK : nn_fail(NN_DEVICE, "%s", w->why);
}

static void abort_job(nn_comm *c)
{
    wire *w = c->state;
    MPI_Abort(w->comm, 1);
}

/* -- opening and closing ----------------------------------------------------------------------- */

static void stop_thread(wire *w)
{
    if (!w->running) return;
    pthread_mutex_lock(&w->lock);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
}

/* After a failure messages are under way that will not end: MPI is left as it is. */
static void leave(nn_comm *c)
{
    wire *w = c->state;
    if (!w) return;
    stop_thread(w);
    if (!w->failed) {
        if (w->comm != MPI_COMM_NULL) MPI_Comm_free(&w->comm);
        if (w->began) MPI_Finalize();
    }
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    nn_free(w->pairs.room);
    nn_free(w->pairs.parts);
    nn_free(w->headers);
    nn_free(w->requests);
    nn_free(w->peers);
    nn_free(w);
}

static const nn_comm_impl impl = { "mpi", start, wait, abort_job, leave };

static nn_status begin_mpi(bool *began)
{
    int is_begun = 0, level = MPI_THREAD_SINGLE;
    if (MPI_Initialized(&is_begun) != MPI_SUCCESS) return nn_fail(NN_DEVICE, "MPI is not usable");
    if (!is_begun && MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
        return nn_fail(NN_DEVICE, "MPI cannot be started");
    *began = !is_begun;
    MPI_Query_thread(&level);
    if (level < MPI_THREAD_SERIALIZED)
        return nn_fail(NN_UNSUPPORTED, "this MPI was started for one thread only");
    return NN_OK;
}

static void find_place(MPI_Comm comm, nn_comm_place *out)
{
    char host[MPI_MAX_PROCESSOR_NAME] = "unknown";
    MPI_Comm local;
    int length;
    *out = (nn_comm_place){ .n_ranks = 1, .n_local = 1 };
    MPI_Comm_rank(comm, &out->rank);
    MPI_Comm_size(comm, &out->n_ranks);
    MPI_Get_processor_name(host, &length);
    snprintf(out->host, sizeof(out->host), "%.*s", NN_COMM_HOST - 1, host);
    MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, out->rank, MPI_INFO_NULL, &local);
    MPI_Comm_rank(local, &out->local_rank);
    MPI_Comm_size(local, &out->n_local);
    MPI_Comm_free(&local);
}

static nn_status reserve(wire *w, int n)
{
    nn_comm_pairs *p = &w->pairs;
    *p = (nn_comm_pairs){ .send = send, .receive = receive, .end = settle, .add = add };
    p->piece = nn_comm_piece(n);
    p->room = nn_alloc_aligned(n * p->piece * (int64_t)sizeof(float));
    p->parts = nn_alloc(n, sizeof(*p->parts));
    w->headers = nn_alloc(n + 1, sizeof(*w->headers));
    w->requests = nn_alloc(2 * n, sizeof(MPI_Request));
    w->peers = nn_alloc(2 * n, sizeof(int));
    return p->room && p->parts && w->headers && w->requests && w->peers ? NN_OK : NN_MEMORY;
}

static nn_status connect(nn_comm *c)
{
    wire *w = c->state;
    if (MPI_Comm_dup(MPI_COMM_WORLD, &w->comm) != MPI_SUCCESS)
        return nn_fail(NN_DEVICE, "MPI: the ranks cannot be reached");
    MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN);
    find_place(w->comm, &c->place);
    NN_TRY(reserve(w, c->place.n_ranks));
    if (pthread_create(&w->thread, NULL, work, c) != 0)
        return nn_fail(NN_DEVICE, "the thread of MPI could not be started");
    w->running = true;
    return NN_OK;
}

nn_status nn_comm_open_mpi(const nn_comm_options *options, nn_comm **out)
{
    const nn_comm_place nowhere = { .n_ranks = 1, .n_local = 1 };
    nn_comm *c;
    bool began = false;
    NN_TRY(begin_mpi(&began));
    NN_TRY(nn_comm_make(&impl, &nowhere, options, &c));
    wire *w = nn_alloc(1, sizeof(*w));
    nn_status status = w ? NN_OK : NN_MEMORY;
    if (w) {
        w->comm = MPI_COMM_NULL;
        w->began = began;
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->changed, NULL);
        c->state = w;
        status = connect(c);
    }
    if (status != NN_OK) {
        nn_comm_close(c);
        return status;
    }
    *out = c;
    return NN_OK;
}

/* -- MPI's own -- */

nn_status nn_comm_mpi_own(const nn_comm_call *call)
{
    const int n = (int)call->n, bytes = (int)(call->n * nn_dtype_bytes(call->dtype));
    int code = MPI_SUCCESS;
    switch (call->kind) {
    case NN_COMM_BARRIER:
        code = MPI_Barrier(MPI_COMM_WORLD);
        break;
    case NN_COMM_BROADCAST:
        code = MPI_Bcast(call->dst, bytes, MPI_BYTE, call->root, MPI_COMM_WORLD);
        break;
    case NN_COMM_ALL_REDUCE:
        code = MPI_Allreduce(call->src, call->dst, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    case NN_COMM_REDUCE:
        code = MPI_Reduce(call->src, call->dst, n, MPI_FLOAT, MPI_SUM, call->root, MPI_COMM_WORLD);
        break;
    case NN_COMM_REDUCE_SCATTER:
        code =
            MPI_Reduce_scatter_block(call->src, call->dst, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        break;
    case NN_COMM_ALL_GATHER:
        code =
            MPI_Allgather(call->src, bytes, MPI_BYTE, call->dst, bytes, MPI_BYTE, MPI_COMM_WORLD);
        break;
    }
    return code == MPI_SUCCESS ? NN_OK : nn_fail(NN_DEVICE, "a collective of MPI has failed");
}
