/* The face of all communicators: calls are checked, numbered and remembered; failures stick. */
#include "engine/dist/comm.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/dist/internal.h"

static const char *const names[] = { "barrier", "broadcast",      "all_reduce",
                                     "reduce",  "reduce_scatter", "all_gather" };

nn_status nn_comm_make(const nn_comm_impl *impl, const nn_comm_place *place,
                       const nn_comm_options *options, nn_comm **out)
{
    nn_comm *c = nn_alloc(1, sizeof(*c));
    NN_NEED(c);
    *c = (nn_comm){ .impl = impl, .place = *place, .options = *options };
    *out = c;
    return NN_OK;
}

const nn_comm_place *nn_comm_place_of(const nn_comm *c)
{
    return &c->place;
}

const char *nn_comm_name(const nn_comm *c)
{
    return c->impl->name;
}

void nn_comm_step(nn_comm *c, int64_t step)
{
    c->step = step;
}

double nn_comm_busy(nn_comm *c)
{
    return 1e-9 * (double)atomic_load(&c->busy_ns);
}

/* -- calls ------------------------------------------------------------------------------------- */

static bool sums(nn_collective kind)
{
    return kind == NN_COMM_ALL_REDUCE || kind == NN_COMM_REDUCE || kind == NN_COMM_REDUCE_SCATTER;
}

static bool has_root(nn_collective kind)
{
    return kind == NN_COMM_BROADCAST || kind == NN_COMM_REDUCE;
}

nn_comm_header nn_comm_header_of(const nn_comm *c, int64_t number)
{
    const nn_comm_call *call = nn_comm_call_at(c, number);
    return (nn_comm_header){ .number = number,
                             .step = c->steps[number % NN_COMM_DEPTH],
                             .n = call->n,
                             .kind = (int32_t)call->kind,
                             .dtype = (int32_t)call->dtype,
                             .root = call->root };
}

bool nn_comm_same_call(const nn_comm_header *a, const nn_comm_header *b)
{
    return a->number == b->number && a->n == b->n && a->kind == b->kind && a->dtype == b->dtype &&
           a->root == b->root;
}

bool nn_comm_must_compare(const nn_comm *c, int64_t number)
{
    return c->options.check || number < NN_COMM_CHECKED;
}

int64_t nn_comm_src_bytes(const nn_comm *c, const nn_comm_call *call)
{
    const int64_t parts = call->kind == NN_COMM_REDUCE_SCATTER ? c->place.n_ranks : 1;
    return parts * call->n * nn_dtype_bytes(call->dtype);
}

int64_t nn_comm_dst_bytes(const nn_comm *c, const nn_comm_call *call)
{
    const int64_t parts = call->kind == NN_COMM_ALL_GATHER ? c->place.n_ranks : 1;
    return parts * call->n * nn_dtype_bytes(call->dtype);
}

/* "all_reduce of 10 f32 (collective 7, step 2)" */
static void describe(const nn_comm_header *h, char out[NN_COMM_TEXT])
{
    const bool known = h->kind >= 0 && h->kind < NN_COUNT(names);
    char what[48] = "", root[24] = "";
    if (h->kind != NN_COMM_BARRIER)
        snprintf(what, sizeof(what), " of %" PRId64 " %s", h->n, nn_dtype_name((nn_dtype)h->dtype));
    if (has_root((nn_collective)h->kind))
        snprintf(root, sizeof(root), " %s rank %d", h->kind == NN_COMM_REDUCE ? "to" : "from",
                 (int)h->root);
    snprintf(out, NN_COMM_TEXT, "%s%s%s (collective %" PRId64 ", step %" PRId64 ")",
             known ? names[h->kind] : "unknown collective", what, root, h->number, h->step);
}

/* Before the collective begins, so that it is never under way without a name. */
static void note(nn_comm *c, int64_t number)
{
    const nn_comm_header h = nn_comm_header_of(c, number);
    describe(&h, c->texts[number % NN_COMM_DEPTH]);
    atomic_store(&c->n_described, number + 1);
}

const char *nn_comm_now(const nn_comm *c, bool *under_way)
{
    const int64_t finished = atomic_load(&c->n_finished);
    *under_way = finished < atomic_load(&c->n_described);
    if (!*under_way && c->over) {
        const char *other = nn_comm_now(c->over, under_way);
        if (*under_way) return other;
    }
    if (*under_way) return c->texts[finished % NN_COMM_DEPTH];
    return finished ? c->texts[(finished - 1) % NN_COMM_DEPTH] : "";
}

/* -- failures ---------------------------------------------------------------------------------- */

nn_status nn_comm_fail(const nn_comm *c, int64_t number, const char *fmt, ...)
{
    char words[512], call[NN_COMM_TEXT];
    const nn_comm_header h = nn_comm_header_of(c, number);
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    describe(&h, call);
    return nn_fail(NN_DEVICE, "rank %d of %d on %s: %s: %s", c->place.rank, c->place.n_ranks,
                   c->place.host, call, words);
}

nn_status nn_comm_late(const nn_comm *c, int64_t number, const char *missing)
{
    return nn_comm_fail(c, number,
                        "not done within %g s%s%s; a rank has died, hangs, or is slower than "
                        "--comm-timeout allows",
                        c->options.timeout_seconds, missing[0] ? ", waiting for rank " : "",
                        missing);
}

nn_status nn_comm_mismatch(const nn_comm *c, int64_t number, int peer, const nn_comm_header *theirs)
{
    char call[NN_COMM_TEXT];
    describe(theirs, call);
    return nn_comm_fail(c, number,
                        "rank %d calls %s instead; all ranks must make the same calls in the same "
                        "order",
                        peer, call);
}

/* Keep the first failure, whose message is this thread's. Without memory for it the status does. */
static nn_status stick(nn_comm *c, nn_status status)
{
    if (status == NN_OK || c->broken != NN_OK) return status;
    const char *message = nn_error_message();
    c->broken = status;
    c->why = nn_alloc((int64_t)strlen(message) + 1, 1);
    if (c->why) memcpy(c->why, message, strlen(message) + 1);
    return status;
}

static nn_status again(const nn_comm *c)
{
    return nn_fail(c->broken, "%s", c->why ? c->why : "the communicator has failed before");
}

/* -- collectives ------------------------------------------------------------------------------- */

static nn_status check_call(const nn_comm *c, const nn_comm_call *call)
{
    const bool float_sum = call->dtype == NN_F32 || call->dtype == NN_BF16;
    if (call->kind < NN_COMM_BARRIER || call->kind > NN_COMM_ALL_GATHER)
        return nn_fail(NN_ARGUMENT, "there is no collective %d", (int)call->kind);
    if (call->kind == NN_COMM_BARRIER) return NN_OK;
    if (call->n < 0 || (call->n > 0 && (!call->dst || !call->src)))
        return nn_fail(NN_ARGUMENT, "%s of %" PRId64 " elements: no such buffer", names[call->kind],
                       call->n);
    if (call->dtype == NN_NONE || (sums(call->kind) && !float_sum))
        return nn_fail(NN_ARGUMENT, "%s of %s: f32 and bf16 can be summed", names[call->kind],
                       nn_dtype_name(call->dtype));
    if (has_root(call->kind) && (call->root < 0 || call->root >= c->place.n_ranks))
        return nn_fail(NN_ARGUMENT, "%s with rank %d as root: there are %d ranks",
                       names[call->kind], call->root, c->place.n_ranks);
    return NN_OK;
}

nn_status nn_comm_start(nn_comm *c, const nn_comm_call *call, int64_t *ticket)
{
    const int64_t number = c->n_started;
    if (c->broken != NN_OK) return again(c);
    NN_TRY(check_call(c, call));
    if (number - c->n_done >= NN_COMM_DEPTH)
        return nn_fail(NN_ARGUMENT, "%d collectives are started already; wait for one of them",
                       NN_COMM_DEPTH);
    c->calls[number % NN_COMM_DEPTH] = *call;
    c->steps[number % NN_COMM_DEPTH] = c->step;
    c->n_started++;
    *ticket = number;
    note(c, number);
    return stick(c, c->impl->start(c, number));
}

nn_status nn_comm_wait(nn_comm *c, int64_t ticket)
{
    if (ticket < c->n_done) return NN_OK;
    if (c->broken != NN_OK) return again(c);
    if (ticket >= c->n_started)
        return nn_fail(NN_ARGUMENT, "collective %" PRId64 " was never started", ticket);
    NN_TRY(stick(c, c->impl->wait(c, ticket)));
    c->n_done = ticket + 1;
    nn_comm_finished(c, ticket);
    return NN_OK;
}

void nn_comm_abort(nn_comm *c)
{
    if (c->broken == NN_OK)
        (void)stick(c, nn_fail(NN_DEVICE, "rank %d of %d on %s has given up at step %" PRId64,
                               c->place.rank, c->place.n_ranks, c->place.host, c->step));
    c->impl->abort(c);
}

void nn_comm_close(nn_comm *c)
{
    if (!c) return;
    if (c->state && c->broken == NN_OK && c->n_started > c->n_done)
        (void)stick(c, c->impl->wait(c, c->n_started - 1));
    c->impl->close(c);
    nn_free(c->why);
    nn_free(c);
}

static nn_status now(nn_comm *c, nn_comm_call call)
{
    int64_t ticket;
    NN_TRY(nn_comm_start(c, &call, &ticket));
    return nn_comm_wait(c, ticket);
}

nn_status nn_comm_barrier(nn_comm *c)
{
    return now(c, (nn_comm_call){ .kind = NN_COMM_BARRIER });
}

nn_status nn_comm_broadcast(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer, int root)
{
    return now(c, (nn_comm_call){ NN_COMM_BROADCAST, dtype, root, n, buffer, buffer });
}

nn_status nn_comm_all_reduce(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer)
{
    return now(c, (nn_comm_call){ NN_COMM_ALL_REDUCE, dtype, 0, n, buffer, buffer });
}

nn_status nn_comm_reduce(nn_comm *c, nn_dtype dtype, int64_t n, void *buffer, int root)
{
    return now(c, (nn_comm_call){ NN_COMM_REDUCE, dtype, root, n, buffer, buffer });
}

nn_status nn_comm_reduce_scatter(nn_comm *c, nn_dtype dtype, int64_t n, const void *src, void *dst)
{
    return now(c, (nn_comm_call){ NN_COMM_REDUCE_SCATTER, dtype, 0, n, src, dst });
}

nn_status nn_comm_all_gather(nn_comm *c, nn_dtype dtype, int64_t n, const void *src, void *dst)
{
    return now(c, (nn_comm_call){ NN_COMM_ALL_GATHER, dtype, 0, n, src, dst });
}
