/* Gradients of several ranks, summed in buckets while backward goes on.
 *
 * A bucket is a piece of the flat buffer of gradients. The plan knows after which of its steps a
 * bucket is complete; it is cut there, and between its parts the sum of what is complete is
 * started, in this order on all ranks. Where an optimizer is cut over the ranks, each bucket
 * belongs to one of them, which alone gets the last sum of an update. */
#include <stdlib.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "tools/trainer.h"

static int earlier(const void *a, const void *b)
{
    const trainer_bucket *x = a, *y = b;
    if (x->after != y->after) return x->after < y->after ? -1 : 1;
    return x->first < y->first ? -1 : 1;
}

/* The pieces of what one rank owns, or of all; those that no step writes are left out. */
static nn_status add_buckets(trainer *t, const nn_plan *pass, int64_t first, int64_t last,
                             int owner)
{
    trainer_buckets *b = &t->buckets;
    const float *grads = t->params->grads;
    const int64_t most = nn_max((int64_t)(t->set.bucket_mb * 1e6) / (int64_t)sizeof(float), 16);
    const int64_t n_pieces = (last - first + most - 1) / most;
    const int64_t size = n_pieces ? ((last - first) / n_pieces + 15) / 16 * 16 : 0;
    for (int64_t at = first; at < last; at += size) {
        const int64_t end = nn_min(at + size, last);
        const int64_t after = nn_plan_written(pass, grads + at, grads + end);
        if (!after) continue;
        NN_TRY(nn_grow(&b->items, &b->capacity, b->n, sizeof(*b->items)));
        b->items[b->n++] = (trainer_bucket){ at, end - at, after, owner };
    }
    return NN_OK;
}

static nn_status reserve(trainer *t)
{
    trainer_buckets *b = &t->buckets;
    NN_NEED(b->tickets = nn_alloc(nn_max(b->n, 1), sizeof(*b->tickets)));
    if (!t->set.comm_dtype) return NN_OK;
    if (t->device->deterministic)
        return nn_fail(NN_ARGUMENT,
                       "--comm-dtype bf16 rounds what ranks send each other, so that the "
                       "result depends on their number: leave out --deterministic");
    const int64_t bytes = t->params->n_elems * nn_dtype_bytes(NN_BF16);
    NN_NEED(b->half = t->device->backend->alloc(t->device, bytes));
    return NN_OK;
}

static nn_status cut(const trainer_buckets *b, nn_plan *pass)
{
    int64_t *at = nn_alloc(b->n + 1, sizeof(*at)), n = 0;
    NN_NEED(at);
    for (int64_t i = 0; i < b->n; i++)
        if (b->items[i].after < nn_plan_n_steps(pass) && (!n || at[n - 1] < b->items[i].after))
            at[n++] = b->items[i].after;
    const nn_status status = nn_plan_cut(pass, n, at);
    nn_free(at);
    return status;
}

nn_status trainer_buckets_open(trainer *t, nn_plan *pass)
{
    trainer_buckets *b = &t->buckets;
    const int n_owners = t->sharded ? t->set.ranks.n : 1;
    *b = (trainer_buckets){ 0 };
    for (int r = 0; r < n_owners; r++) {
        int64_t first = 0, n = t->params->n_elems;
        if (t->sharded) trainer_shards_part(t, r, &first, &n);
        NN_TRY(add_buckets(t, pass, first, first + n, r));
    }
    if (b->n) qsort(b->items, (size_t)b->n, sizeof(*b->items), earlier);
    NN_TRY(reserve(t));
    return cut(b, pass);
}

void trainer_buckets_close(trainer *t)
{
    if (t->buckets.half) t->device->backend->free(t->device, t->buckets.half);
    nn_free(t->buckets.items);
    nn_free(t->buckets.tickets);
    t->buckets = (trainer_buckets){ 0 };
}

/* The last sum of an update is for all ranks, or the owner; those before it are for the first rank,
 * which adds to it in the next round. */
static nn_status start_sum(trainer *t, int64_t i, bool last)
{
    trainer_buckets *b = &t->buckets;
    const trainer_bucket *bucket = &b->items[i];
    float *grads = t->params->grads + bucket->first;
    nn_comm_call call = { NN_COMM_REDUCE, NN_F32, 0, bucket->n, grads, grads };
    if (last && t->sharded) call.root = bucket->owner;
    if (last && !t->sharded) call.kind = NN_COMM_ALL_REDUCE;
    if (b->half) {
        call.dtype = NN_BF16;
        call.src = call.dst = b->half + bucket->first;
        NN_TRY(nn_device_convert(t->device, bucket->n, NN_F32, grads, NN_BF16, call.dst));
    }
    if (i >= NN_COMM_DEPTH) NN_TRY(nn_comm_wait(t->wire, b->tickets[i - NN_COMM_DEPTH]));
    return nn_comm_start(t->wire, &call, &b->tickets[i]);
}

static nn_status end_sum(trainer *t, int64_t i)
{
    const trainer_buckets *b = &t->buckets;
    const trainer_bucket *bucket = &b->items[i];
    const double began = nn_clock_seconds();
    NN_TRY(nn_comm_wait(t->wire, b->tickets[i]));
    t->exchange.waited += nn_clock_seconds() - began;
    if (!b->half || (t->sharded && bucket->owner != t->set.ranks.rank)) return NN_OK;
    return nn_device_convert(t->device, bucket->n, NN_BF16, b->half + bucket->first, NN_F32,
                             t->params->grads + bucket->first);
}

nn_status trainer_buckets_run(trainer *t, nn_plan *pass, uint64_t seed, bool last)
{
    const trainer_buckets *b = &t->buckets;
    const double busy = nn_comm_busy(t->wire);
    int64_t done = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->items[i].after > done) {
            NN_TRY(nn_plan_enqueue(pass, seed, done, b->items[i].after));
            done = b->items[i].after;
        }
        NN_TRY(start_sum(t, i, last));
    }
    NN_TRY(nn_plan_enqueue(pass, seed, done, nn_plan_n_steps(pass)));
    NN_TRY(t->device->backend->sync(t->device));
    for (int64_t i = 0; i < b->n; i++) NN_TRY(end_sum(t, i));
    t->exchange.total += nn_comm_busy(t->wire) - busy;
    return NN_OK;
}
