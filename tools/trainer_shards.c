/* An optimizer whose state is cut over the ranks (ZeRO-1): every rank sums the gradients of its
 * part of the parameters, updates that part, and gets the others' values.
 *
 * Rank r of N has the elements r P .. (r + 1) P - 1 of the flat buffers, the last one also the
 * rest; P is a multiple of 16. */
#include "engine/base/clock.h"
#include "tools/trainer.h"

static int64_t part_elems(const trainer *t)
{
    return t->params->n_elems / t->set.ranks.n / 16 * 16;
}

static bool is_last(const trainer *t)
{
    return t->set.ranks.rank == t->set.ranks.n - 1;
}

void trainer_shards_part(const trainer *t, int rank, int64_t *first, int64_t *n)
{
    *n = part_elems(t);
    *first = *n * rank;
    if (rank == t->set.ranks.n - 1) *n = t->params->n_elems - *first;
}

/* All parts of a flat buffer, of which this rank has `part`. */
static nn_status gather_parts(const trainer *t, const float *part, float *all)
{
    const int64_t n = part_elems(t), rest = n * t->set.ranks.n, n_rest = t->params->n_elems - rest;
    const nn_comm_call call = { NN_COMM_ALL_GATHER, NN_F32, 0, n, part, all };
    int64_t ticket;
    NN_TRY(nn_comm_start(t->wire, &call, &ticket));
    NN_TRY(nn_comm_wait(t->wire, ticket));
    if (is_last(t) && n_rest && part + n != all + rest)
        NN_TRY(nn_device_convert(t->device, n_rest, NN_F32, part + n, NN_F32, all + rest));
    return nn_comm_broadcast(t->wire, NN_F32, n_rest, all + rest, t->set.ranks.n - 1);
}

/* -- checkpoints: the room is that of the gradients, which nobody needs between two updates ---- */

static nn_status gather(void *ctx, const float *part)
{
    const trainer *t = ctx;
    return gather_parts(t, part, t->peers.room);
}

static nn_status receive(const trainer *t, float *part)
{
    const nn_optimizer *o = t->optimizer;
    float *room = t->peers.room;
    NN_TRY(nn_comm_broadcast(t->wire, NN_F32, t->params->n_elems, room, 0));
    return nn_device_convert(t->device, o->n, NN_F32, room + o->first, NN_F32, part);
}

/* On the first rank, which has read a part of a checkpoint and tells the others so. */
static nn_status scatter(void *ctx, float *part)
{
    const trainer *t = ctx;
    bool more = true;
    NN_TRY(trainer_ranks_tell(&t->set.ranks, &more, sizeof(more)));
    return receive(t, part);
}

nn_status trainer_shards_follow(const trainer *t, bool saves)
{
    const nn_optimizer *o = t->optimizer;
    float *const parts[] = { o->m, o->v, o->ema };
    bool more = true;
    for (int i = 0; saves && i < NN_COUNT(parts); i++)
        if (parts[i]) NN_TRY(gather_parts(t, parts[i], t->peers.room));
    for (int i = 0; !saves; i++) {
        NN_TRY(trainer_ranks_tell(&t->set.ranks, &more, sizeof(more)));
        if (!more) break;
        NN_TRY(receive(t, parts[i % NN_COUNT(parts)]));
    }
    return NN_OK;
}

nn_status trainer_shards_end(const trainer *t)
{
    bool more = false;
    return trainer_ranks_tell(&t->set.ranks, &more, sizeof(more));
}

/* -- the optimizer ----------------------------------------------------------------------------- */

nn_status trainer_shards_open(trainer *t, const nn_adamw_options *options)
{
    int64_t first, n;
    trainer_shards_part(t, t->set.ranks.rank, &first, &n);
    NN_TRY(nn_optimizer_create_part(t->params, options, first, n, &t->optimizer));
    t->peers = (nn_optimizer_peers){ t->params->grads, gather, scatter, t };
    t->optimizer->peers = &t->peers;
    return NN_OK;
}

bool trainer_shards_possible(const trainer *t)
{
    return t->set.ranks.n > 1 && part_elems(t) > 0;
}

nn_status trainer_shards_values(trainer *t)
{
    nn_params *p = t->params;
    const double began = nn_clock_seconds(), busy = nn_comm_busy(t->wire);
    nn_params_touch(p);
    const nn_status status = gather_parts(t, p->values + t->optimizer->first, p->values);
    t->exchange.waited += nn_clock_seconds() - began;
    t->exchange.total += nn_comm_busy(t->wire) - busy;
    return status;
}

nn_status trainer_swap_average(trainer *t)
{
    if (!t->optimizer->ema) return NN_OK;
    NN_TRY(nn_optimizer_swap_ema(t->optimizer));
    return t->sharded ? trainer_shards_values(t) : NN_OK;
}
