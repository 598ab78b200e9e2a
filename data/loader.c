/* Reader threads around a ring of slots.
 *
 * Invariants, under `lock`:
 *  1. Tickets are claimed in order 0, 1, 2, ...; ticket t is decoded into place t % n_places.
 *  2. taken <= claimed <= taken + n_places: a place is claimed again only after it was given back.
 *  3. The consumer takes ticket `taken`, whoever decoded it and whenever.
 * With `keep`, tickets are the samples themselves, all claimed while the loader opens. */
#include "data/loader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

typedef struct place {
    nn_loader_item item;
    nn_status status;
    bool done;         /* decoded, or failed with status */
    bool full;         /* the slot holds something to release */
    char message[512]; /* of a failure: errors belong to threads */
} place;

struct nn_loader {
    const nn_shards *shards;
    nn_shard_report *report;
    nn_loader_config config;
    int64_t n, start; /* samples; number in the stream of the first item of rank 0 */
    int64_t *order, order_epoch;
    _Atomic bool *broken; /* per sample */
    place *places;
    unsigned char *slots;
    int64_t n_places, claimed, taken;
    bool holding, quit; /* holding: the consumer has the item of ticket `taken` */
    pthread_mutex_t lock;
    pthread_cond_t room, ready;
    pthread_t *threads;
    int n_threads;
};

static void *slot_of(nn_loader *l, const place *p)
{
    return l->slots + (size_t)(p - l->places) * l->config.slot_bytes;
}

static nn_loader_item locate(nn_loader *l, int64_t ticket)
{
    nn_loader_item item = { 0 };
    const int64_t block = l->config.block, row = ticket / block * l->config.n_ranks;
    int64_t at = l->start + (row + l->config.rank) * block + ticket % block;
    item.epoch = at / l->n;
    item.position = at % l->n;
    if (item.epoch != l->order_epoch && !l->config.in_order) {
        nn_rng rng = nn_rng_make(l->config.seed, "order", (uint64_t)item.epoch);
        nn_rng_permute(&rng, l->order, l->n);
        l->order_epoch = item.epoch;
    }
    item.number = l->config.in_order ? item.position : l->order[item.position];
    return item;
}

static bool is_the_samples_fault(nn_status status)
{
    return status == NN_FORMAT || status == NN_UNSUPPORTED || status == NN_NOT_FOUND;
}

/* Decode one sample into the place; a sample's own fault marks it broken and is no error. */
static nn_status decode(nn_loader *l, place *p, int64_t number)
{
    const nn_sample *sample = nn_shards_at(l->shards, number);
    void *slot = slot_of(l, p);
    memset(slot, 0, l->config.slot_bytes);
    nn_status status = l->config.decode(l->config.ctx, sample, slot);
    if (status == NN_OK) {
        p->item.sample = sample;
        p->item.slot = slot;
        p->item.number = number;
        p->full = true;
        return NN_OK;
    }
    if (!is_the_samples_fault(status)) return status;
    pthread_mutex_lock(&l->lock);
    status = NN_OK;
    if (!atomic_exchange(&l->broken[number], true))
        status = nn_shard_report_add(l->report, NN_SHARD_CONTENT, sample->shard, sample->key,
                                     nn_error_message());
    pthread_mutex_unlock(&l->lock);
    return status;
}

static nn_status none_left(const nn_loader *l)
{
    return nn_fail(NN_FORMAT, "none of the %lld samples can be decoded", (long long)l->n);
}

/* The sample of the place's item, or the next one that can be decoded. */
static nn_status fill(nn_loader *l, place *p)
{
    int64_t wanted = p->item.number;
    for (int64_t i = 0; i < l->n; i++) {
        int64_t number = (wanted + i) % l->n;
        if (atomic_load(&l->broken[number])) continue;
        NN_TRY(decode(l, p, number));
        if (p->full) return NN_OK;
    }
    return none_left(l);
}

static bool may_claim(const nn_loader *l)
{
    return l->config.keep ? l->claimed < l->n : l->claimed - l->taken < l->n_places;
}

static void *reader(void *arg)
{
    nn_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->quit && !may_claim(l) && !l->config.keep) pthread_cond_wait(&l->room, &l->lock);
        if (l->quit || !may_claim(l)) break;
        int64_t ticket = l->claimed++;
        place *p = &l->places[ticket % l->n_places];
        p->item = l->config.keep ? (nn_loader_item){ .number = ticket } : locate(l, ticket);
        pthread_mutex_unlock(&l->lock);
        p->status = l->config.keep ? decode(l, p, ticket) : fill(l, p);
        if (p->status != NN_OK) snprintf(p->message, sizeof(p->message), "%s", nn_error_message());
        pthread_mutex_lock(&l->lock);
        p->done = true;
        if (l->config.keep && p->status != NN_OK) l->quit = true;
        pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static nn_status start_threads(nn_loader *l)
{
    int n = l->config.threads;
    l->threads = nn_alloc(n, sizeof(pthread_t));
    NN_NEED(l->threads);
    for (; l->n_threads < n; l->n_threads++)
        if (pthread_create(&l->threads[l->n_threads], NULL, reader, l) != 0)
            return nn_fail(NN_DEVICE, "reader thread %d of %d could not be started",
                           l->n_threads + 1, n);
    return NN_OK;
}

static void stop_threads(nn_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->quit = l->quit || !l->config.keep; /* a corpus that is kept is read to its end */
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++) pthread_join(l->threads[i], NULL);
    l->n_threads = 0;
}

static void release(nn_loader *l, place *p)
{
    if (p->full && l->config.release) l->config.release(l->config.ctx, slot_of(l, p));
    p->full = p->done = false;
}

static nn_status read_all(nn_loader *l)
{
    NN_TRY(start_threads(l));
    stop_threads(l);
    for (int64_t i = 0; i < l->n; i++)
        if (l->places[i].status != NN_OK)
            return nn_fail(l->places[i].status, "%s", l->places[i].message);
    for (int64_t i = 0; i < l->n; i++)
        if (!l->broken[i]) return NN_OK;
    return none_left(l);
}

static nn_status check_config(const nn_loader *l, int64_t epoch, int64_t position)
{
    const nn_loader_config *c = &l->config;
    if (l->n < 1)
        return nn_fail(NN_ARGUMENT, "the corpus has no usable sample; recap-data check says why");
    if (epoch < 0 || position < 0 || position >= l->n || epoch > INT64_MAX / 4 / l->n)
        return nn_fail(NN_ARGUMENT,
                       "epoch %lld, position %lld is no place in a corpus of %lld samples; was it "
                       "changed since the checkpoint?",
                       (long long)epoch, (long long)position, (long long)l->n);
    if (c->rank < 0 || c->rank >= c->n_ranks || c->threads < 1 || c->threads > 256 ||
        c->queue < 1 || c->block < 1)
        return nn_fail(NN_ARGUMENT,
                       "loader: rank %d of %d, blocks of %lld, %d threads, queue of %lld", c->rank,
                       c->n_ranks, (long long)c->block, c->threads, (long long)c->queue);
    return NN_OK;
}

static nn_status open_loader(nn_loader *l, int64_t epoch, int64_t position)
{
    nn_loader_config *c = &l->config;
    if (!c->threads) c->threads = 2;
    if (!c->queue) c->queue = 4 * (int64_t)c->threads;
    if (!c->n_ranks) c->n_ranks = 1;
    if (!c->block) c->block = 1;
    NN_TRY(check_config(l, epoch, position));
    l->start = epoch * l->n + position;
    l->n_places = c->keep ? l->n : c->queue;
    NN_NEED(l->order = nn_alloc(l->n, sizeof(*l->order)));
    NN_NEED(l->broken = nn_alloc(l->n, sizeof(*l->broken)));
    NN_NEED(l->places = nn_alloc(l->n_places, sizeof(*l->places)));
    NN_NEED(l->slots = nn_alloc(l->n_places, c->slot_bytes));
    return c->keep ? read_all(l) : start_threads(l);
}

nn_status nn_loader_open(const nn_shards *shards, const nn_loader_config *config, int64_t epoch,
                         int64_t position, nn_shard_report *report, nn_loader **out)
{
    nn_loader *l = nn_alloc(1, sizeof(*l));
    NN_NEED(l);
    *l = (nn_loader){ .shards = shards,
                      .report = report,
                      .config = *config,
                      .n = nn_shards_count(shards),
                      .order_epoch = -1 };
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    nn_status status = open_loader(l, epoch, position);
    if (status != NN_OK) {
        nn_loader_close(l);
        return status;
    }
    *out = l;
    return NN_OK;
}

void nn_loader_close(nn_loader *l)
{
    if (!l) return;
    stop_threads(l);
    for (int64_t i = 0; l->slots && i < l->n_places; i++) release(l, &l->places[i]);
    nn_free(l->threads);
    nn_free(l->slots);
    nn_free(l->places);
    nn_free(l->broken);
    nn_free(l->order);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    nn_free(l);
}

static nn_loader_item next_kept(nn_loader *l)
{
    nn_loader_item item = locate(l, l->taken++);
    while (l->broken[item.number]) item.number = (item.number + 1) % l->n;
    const place *p = &l->places[item.number];
    item.sample = p->item.sample;
    item.slot = p->item.slot;
    return item;
}

nn_status nn_loader_next(nn_loader *l, nn_loader_item *item)
{
    if (l->config.keep) {
        *item = next_kept(l);
        return NN_OK;
    }
    pthread_mutex_lock(&l->lock);
    if (l->holding) {
        release(l, &l->places[l->taken % l->n_places]);
        l->taken++;
        pthread_cond_signal(&l->room);
    }
    place *p = &l->places[l->taken % l->n_places];
    while (!p->done) pthread_cond_wait(&l->ready, &l->lock);
    l->holding = p->status == NN_OK;
    pthread_mutex_unlock(&l->lock);
    if (p->status != NN_OK) return nn_fail(p->status, "%s", p->message);
    *item = p->item;
    return NN_OK;
}

void nn_loader_tell(const nn_loader *l, int64_t *epoch, int64_t *position)
{
    int64_t at = l->start + (l->taken + l->holding) * l->config.n_ranks;
    *epoch = at / l->n;
    *position = at % l->n;
}
