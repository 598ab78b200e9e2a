/* Sums in the order of the ranks, out of messages between pairs of ranks.
 *
 * A sum of N ranks is cut into N parts. Each rank is sent its part of everyone, adds them in the
 * order of the ranks, and sends the result to whoever wants it: as many bytes as a ring moves, in
 * two rounds, and the same bits always. A small sum takes one round: whoever wants it adds all of
 * it. Buffers pass through in blocks, so that what it needs is reserved once. */
#include "engine/dist/internal.h"

enum {
    ROOM = 1 << 20, /* elements that peers' parts of a sum pass through */
    LEAST_PIECE = 1 << 12,
    SMALL = 1 << 10
};

int64_t nn_comm_piece(int n_ranks)
{
    return nn_max(ROOM / n_ranks, LEAST_PIECE);
}

/* Where part p of n elements begins. */
static int64_t part_begin(int64_t n, int n_parts, int p)
{
    return nn_min((n + n_parts - 1) / n_parts * p, n);
}

static nn_status begin_round(nn_comm *c, const nn_comm_pairs *pairs)
{
    return pairs->begin ? pairs->begin(c) : NN_OK;
}

static char *row(const nn_comm_pairs *pairs, int rank, nn_dtype dtype)
{
    return pairs->room + rank * pairs->piece * nn_dtype_bytes(dtype);
}

/* Sum `n` elements of mine and of each peer, which lie in its row of the room. */
static nn_status add_up(nn_comm *c, const nn_comm_pairs *pairs, nn_dtype dtype, const char *mine,
                        int64_t n, char *dst)
{
    if (!n) return NN_OK;
    for (int p = 0; p < c->place.n_ranks; p++)
        pairs->parts[p] = p == c->place.rank ? mine : row(pairs, p, dtype);
    return pairs->add(c, dtype, pairs->parts, n, dst);
}

static bool wants(const nn_comm_call *call, int rank)
{
    return call->kind == NN_COMM_ALL_REDUCE || call->root == rank;
}

static nn_status reduce_small(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call)
{
    const int me = c->place.rank;
    const int64_t bytes = call->n * nn_dtype_bytes(call->dtype);
    NN_TRY(begin_round(c, pairs));
    for (int p = 0; p < c->place.n_ranks; p++) {
        if (p == me) continue;
        if (wants(call, me)) NN_TRY(pairs->receive(c, p, row(pairs, p, call->dtype), bytes));
        if (wants(call, p)) NN_TRY(pairs->send(c, p, call->src, bytes));
    }
    NN_TRY(pairs->end(c));
    return wants(call, me) ? add_up(c, pairs, call->dtype, call->src, call->n, call->dst) : NN_OK;
}

/* dst + (my part) becomes the sum of that part. */
static nn_status add_my_part(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call,
                             const char *src, char *dst, int64_t m)
{
    const int n = c->place.n_ranks, me = c->place.rank;
    const int64_t size = nn_dtype_bytes(call->dtype);
    const int64_t begin = part_begin(m, n, me), mine = part_begin(m, n, me + 1) - begin;
    NN_TRY(begin_round(c, pairs));
    for (int p = 0; p < n; p++) {
        const int64_t first = part_begin(m, n, p), elems = part_begin(m, n, p + 1) - first;
        if (p == me) continue;
        NN_TRY(pairs->receive(c, p, row(pairs, p, call->dtype), mine * size));
        NN_TRY(pairs->send(c, p, src + first * size, elems * size));
    }
    NN_TRY(pairs->end(c));
    return add_up(c, pairs, call->dtype, src + begin * size, mine, dst + begin * size);
}

/* The sums of all parts to whoever wants them. */
static nn_status collect_parts(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call,
                               char *dst, int64_t m)
{
    const int n = c->place.n_ranks, me = c->place.rank;
    const int64_t size = nn_dtype_bytes(call->dtype);
    const int64_t begin = part_begin(m, n, me), mine = part_begin(m, n, me + 1) - begin;
    NN_TRY(begin_round(c, pairs));
    for (int p = 0; p < n; p++) {
        const int64_t first = part_begin(m, n, p), elems = part_begin(m, n, p + 1) - first;
        if (p == me) continue;
        if (wants(call, me)) NN_TRY(pairs->receive(c, p, dst + first * size, elems * size));
        if (wants(call, p)) NN_TRY(pairs->send(c, p, dst + begin * size, mine * size));
    }
    return pairs->end(c);
}

static nn_status reduce(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call)
{
    const int64_t block = pairs->piece * c->place.n_ranks, size = nn_dtype_bytes(call->dtype);
    for (int64_t at = 0; at < call->n; at += block) {
        const int64_t m = nn_min(block, call->n - at);
        char *dst = (char *)call->dst + at * size;
        NN_TRY(add_my_part(c, pairs, call, (const char *)call->src + at * size, dst, m));
        NN_TRY(collect_parts(c, pairs, call, dst, m));
    }
    return NN_OK;
}

static nn_status reduce_scatter(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call)
{
    const int me = c->place.rank;
    const int64_t size = nn_dtype_bytes(call->dtype);
    for (int64_t at = 0; at < call->n; at += pairs->piece) {
        const int64_t m = nn_min(pairs->piece, call->n - at);
        const char *src = (const char *)call->src + at * size;
        NN_TRY(begin_round(c, pairs));
        for (int p = 0; p < c->place.n_ranks; p++) {
            if (p == me) continue;
            NN_TRY(pairs->receive(c, p, row(pairs, p, call->dtype), m * size));
            NN_TRY(pairs->send(c, p, src + p * call->n * size, m * size));
        }
        NN_TRY(pairs->end(c));
        NN_TRY(add_up(c, pairs, call->dtype, src + me * call->n * size, m,
                      (char *)call->dst + at * size));
    }
    return NN_OK;
}

nn_status nn_comm_sum_in_order(nn_comm *c, const nn_comm_pairs *pairs, const nn_comm_call *call)
{
    if (call->kind == NN_COMM_REDUCE_SCATTER) return reduce_scatter(c, pairs, call);
    return call->n <= SMALL ? reduce_small(c, pairs, call) : reduce(c, pairs, call);
}
