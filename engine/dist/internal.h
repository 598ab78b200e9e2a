/* What the implementations of a communicator share. */
#ifndef ENGINE_DIST_INTERNAL_H
#define ENGINE_DIST_INTERNAL_H

#include <stdatomic.h>

#include "engine/dist/comm.h"

enum { NN_COMM_TEXT = 128 }; /* bytes of a collective's description */

typedef struct nn_comm_impl {
    const char *name;
    /* Begin collective `number`, which is in c->calls; do not wait for peers. */
    nn_status (*start)(nn_comm *c, int64_t number);
    /* Until it and all before it are done, or too late by c->options. */
    nn_status (*wait)(nn_comm *c, int64_t number);
    void (*abort)(nn_comm *c);
    void (*close)(nn_comm *c); /* frees c->state, which may be NULL */
} nn_comm_impl;

/* A call as the ranks compare it. */
typedef struct nn_comm_header {
    int64_t number, step, n;
    int32_t kind, dtype, root, unused;
} nn_comm_header;

struct nn_comm {
    const nn_comm_impl *impl;
    nn_comm_place place;
    nn_comm_options options;
    int64_t step;
    int64_t n_started, n_done;         /* collectives; n_done as this rank has seen it */
    nn_comm_call calls[NN_COMM_DEPTH]; /* by number */
    int64_t steps[NN_COMM_DEPTH];      /* in which they were started */
    /* What a signal handler reads: */
    char texts[NN_COMM_DEPTH][NN_COMM_TEXT];
    _Atomic int64_t n_described, n_finished;
    const nn_comm *over; /* another one that it uses, or NULL */
    _Atomic int64_t busy_ns;
    nn_status broken; /* the first failure; NN_OK = none */
    char *why;
    void *state;
};

/* A communicator without state. Owner: nn_comm_close. */
nn_status nn_comm_make(const nn_comm_impl *impl, const nn_comm_place *place,
                       const nn_comm_options *options, nn_comm **out) NN_CHECKED;

static inline const nn_comm_call *nn_comm_call_at(const nn_comm *c, int64_t number)
{
    return &c->calls[number % NN_COMM_DEPTH];
}

nn_comm_header nn_comm_header_of(const nn_comm *c, int64_t number);
bool nn_comm_same_call(const nn_comm_header *a, const nn_comm_header *b);
bool nn_comm_must_compare(const nn_comm *c, int64_t number);

/* This collective and all before it are done. Called by the thread that does them, if there is one,
 * before the rank's own thread learns of it. */
static inline void nn_comm_finished(nn_comm *c, int64_t number)
{
    if (atomic_load(&c->n_finished) <= number) atomic_store(&c->n_finished, number + 1);
}

static inline void nn_comm_took(nn_comm *c, double seconds)
{
    atomic_fetch_add(&c->busy_ns, (int64_t)(1e9 * seconds));
}

/* Bytes that a rank's src and dst have. */
int64_t nn_comm_src_bytes(const nn_comm *c, const nn_comm_call *call);
int64_t nn_comm_dst_bytes(const nn_comm *c, const nn_comm_call *call);

/* -- what goes wrong; each records the error and returns NN_DEVICE -- */

/* Collective `number` of this rank: "rank 1 of 4 on node3: all_reduce of 10 f32 (collective 7, step
 * 2): " and the words. */
nn_status nn_comm_fail(const nn_comm *c, int64_t number, const char *fmt, ...) NN_PRINTF(3, 4);

/* Not done in time. missing: the ranks that are not heard of, "" = unknown. */
nn_status nn_comm_late(const nn_comm *c, int64_t number, const char *missing);

/* Rank `peer` has started another call. */
nn_status nn_comm_mismatch(const nn_comm *c, int64_t number, int peer,
                           const nn_comm_header *theirs);

/* -- sums -- */

/* Messages between pairs of ranks, in rounds; `end` returns when those of the round are through, or
 * has what follows wait for them. */
typedef struct nn_comm_pairs {
    nn_status (*begin)(nn_comm *c); /* NULL = nothing to do */
    nn_status (*send)(nn_comm *c, int peer, const char *src, int64_t bytes);
    nn_status (*receive)(nn_comm *c, int peer, char *dst, int64_t bytes);
    nn_status (*end)(nn_comm *c);
    /* As nn_comm_sum, of one source for each rank. */
    nn_status (*add)(nn_comm *c, nn_dtype dtype, const void *const src[], int64_t n, void *dst);
    char *room;         /* [N, piece] elements of 4 bytes: what peers sent */
    int64_t piece;      /* elements that one rank adds at a time: nn_comm_piece */
    const void **parts; /* [N] */
} nn_comm_pairs;

int64_t nn_comm_piece(int n_ranks);

/* all_reduce, reduce or reduce_scatter; the same bits whatever arrives first. */
nn_status nn_comm_sum_in_order(nn_comm *c, const nn_comm_pairs *pairs,
                               const nn_comm_call *call) NN_CHECKED;

/* dst[i] = src[0][i] + src[1][i] + ... in f32, each addition rounded to f32; bf16 (dtype) is
 * rounded once at the end. dst may be any of the sources. */
void nn_comm_sum(nn_dtype dtype, int n_sources, const void *const src[], int64_t n, void *dst);

#endif
