/* The ranks of a training: how they meet, what each does of an update, and that all were given the
 * same. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"
#include "engine/base/pool.h"
#include "tools/trainer.h"

/* -- sharing an update ------------------------------------------------------------------------- */

/* "1, 2, 4 or 8" */
static nn_status list_divisors(int64_t n, nn_text *out)
{
    for (int64_t d = 1; d <= n / 2; d++)
        if (n % d == 0) NN_TRY(nn_text_add(out, d == 1 ? "%" PRId64 : ", %" PRId64, d));
    return nn_text_add(out, n == 1 ? "%" PRId64 : " or %" PRId64, n);
}

static nn_status refuse_batch(const trainer_settings *set)
{
    nn_text divisors = { 0 };
    nn_status status = list_divisors(set->global_batch, &divisors);
    if (status == NN_OK)
        status = nn_fail(NN_ARGUMENT,
                         "--global-batch-size %" PRId64 " is no multiple of --train-batch-size "
                         "%" PRId64 "; its divisors are %s",
                         set->global_batch, set->batch, divisors.text);
    nn_text_free(&divisors);
    return status;
}

static nn_status refuse_ranks(const trainer_settings *set)
{
    nn_text divisors = { 0 };
    nn_status status = list_divisors(set->batch * set->accumulate, &divisors);
    if (status == NN_OK)
        status = nn_fail(NN_ARGUMENT,
                         "%d ranks cannot share an update of %" PRId64
                         " samples (--train-batch-size %" PRId64
                         " x --gradient-accumulation-steps %" PRId64
                         ") evenly: start %s ranks, or make it a multiple of %d",
                         set->ranks.n, set->batch * set->accumulate, set->batch, set->accumulate,
                         divisors.text, set->ranks.n);
    nn_text_free(&divisors);
    return status;
}

nn_status trainer_share(trainer_settings *set)
{
    trainer_ranks *r = &set->ranks;
    if (!r->n) r->n = 1;
    if (set->global_batch) {
        if (set->global_batch % set->batch) return refuse_batch(set);
        set->accumulate = set->global_batch / set->batch;
    }
    const int64_t all = set->batch * set->accumulate, own = all / r->n;
    if (all % r->n) return refuse_ranks(set);
    r->batch = set->batch;
    if (r->most || set->accumulate % r->n) {
        r->batch = nn_min(r->most ? r->most : set->batch, own);
        while (own % r->batch) r->batch--;
    }
    r->passes = own / r->batch;
    return NN_OK;
}

/* -- meeting ----------------------------------------------------------------------------------- */

static nn_status meet(trainer_settings *set)
{
    const nn_comm_options options = { .timeout_seconds = set->comm_timeout,
                                      .deterministic = set->on.deterministic };
    trainer_ranks *r = &set->ranks;
    NN_TRY(nn_comm_open(&options, &r->comm));
    const nn_comm_place *place = nn_comm_place_of(r->comm);
    r->rank = place->rank;
    r->n = place->n_ranks;
    if (r->n > 1 && set->on.threads == 0)
        set->on.threads = nn_max(nn_pool_processors() / place->n_local, 1);
#ifdef NN_NCCL
    if (r->n > 1 && !strcmp(set->on.name, "cuda")) NN_TRY(nn_comm_choose_gpu(place));
#endif
    return NN_OK;
}

nn_status trainer_ranks_open(trainer_settings *set)
{
    trainer_ranks *r = &set->ranks;
    *r = (trainer_ranks){ 0 };
    nn_status status = meet(set);
    if (status == NN_OK) status = trainer_share(set);
    if (status != NN_OK && r->n > 1) trainer_ranks_fail(r, NULL);
    if (status == NN_OK && r->n > 1)
        nn_log(NN_LOG_INFO,
               "%d ranks: an update is %" PRId64 " passes of %" PRId64 " samples on each", r->n,
               r->passes, r->batch);
    return status;
}

void trainer_ranks_close(trainer_ranks *ranks)
{
    nn_comm_close(ranks->comm);
    ranks->comm = NULL;
}

void trainer_ranks_fail(const trainer_ranks *ranks, nn_comm *wire)
{
    const nn_comm_place *place = nn_comm_place_of(ranks->comm);
    const char *message = nn_error_message();
    if (nn_starts_with(message, "rank "))
        fprintf(stderr, "error: %s\n", message);
    else
        fprintf(stderr, "error: rank %d of %d on %s: %s\n", place->rank, place->n_ranks,
                place->host, message);
    fflush(stderr);
    nn_comm_abort(wire ? wire : ranks->comm);
}

nn_status trainer_ranks_tell(const trainer_ranks *ranks, void *bytes, int64_t n)
{
    int32_t *words;
    const int64_t n_words = (n + 3) / 4;
    if (ranks->n <= 1) return NN_OK;
    NN_NEED(words = nn_alloc(n_words, sizeof(*words)));
    memcpy(words, bytes, (size_t)n);
    const nn_status status = nn_comm_broadcast(ranks->comm, NN_I32, n_words, words, 0);
    if (status == NN_OK) memcpy(bytes, words, (size_t)n);
    nn_free(words);
    return status;
}

nn_status trainer_ranks_wire(const trainer *t, nn_comm **out)
{
    *out = t->set.ranks.comm;
    if (t->device->backend->host_memory) return NN_OK;
#ifdef NN_NCCL
    const nn_comm_options options = { .timeout_seconds = t->set.comm_timeout,
                                      .deterministic = t->device->deterministic,
                                      .precise = true };
    return nn_comm_open_nccl(t->set.ranks.comm, t->device, &options, out);
#else
    return nn_fail(NN_UNSUPPORTED,
                   "several ranks on the %s device need NCCL: build with make CUDA=1 MPI=1",
                   t->device->backend->name);
#endif
}

/* -- agreeing ---------------------------------------------------------------------------------- */

/* Paths and threads may differ between the ranks; nothing else may. */
static bool may_differ(const nn_option *option)
{
    return option->incidental && (option->text || !strcmp(option->name, "threads"));
}

static nn_status describe(const trainer *t, nn_text *out)
{
    for (const nn_option *o = t->options; o && o->name; o++) {
        if (may_differ(o)) continue;
        NN_TRY(nn_text_add(out, "--%s=", o->name));
        NN_TRY(nn_option_show(o, out));
        NN_TRY(nn_text_add(out, "\n"));
    }
    NN_TRY(nn_text_add(out, "device=%s\n", t->device->backend->name));
    NN_TRY(nn_text_add(out, "parameters=%" PRId64 "\n", t->params->n_elems));
    NN_TRY(nn_text_add(out, "hash of the start=%016" PRIx64 "\n", t->start));
    NN_TRY(nn_text_add(out, "samples=%" PRId64 "\n", t->n_samples));
    return nn_text_add(out, "hash of the samples' names=%016" PRIx64 "\n", t->data);
}

static nn_status compare(const trainer *t, const char *first, const char *own)
{
    nn_text found = { 0 };
    const nn_comm_place *place = nn_comm_place_of(t->set.ranks.comm);
    if (strcmp(first, own) == 0) return NN_OK;
    nn_status status = trainer_differences(first, own, " is ", " on rank 0 and here ", &found);
    if (status == NN_OK)
        status = nn_fail(NN_ARGUMENT, "rank %d of %d on %s was not given what rank 0 was: %s",
                         place->rank, place->n_ranks, place->host, found.text);
    nn_text_free(&found);
    return status;
}

/* The first rank's text. Owner: nn_free. */
static nn_status hear(const trainer_ranks *r, const nn_text *own, char **first)
{
    int64_t n = own->length;
    NN_TRY(trainer_ranks_tell(r, &n, sizeof(n)));
    NN_NEED(*first = nn_alloc(n + 1, 1));
    memcpy(*first, own->text, (size_t)nn_min(n, own->length));
    return trainer_ranks_tell(r, *first, n);
}

nn_status trainer_ranks_compare(const trainer *t)
{
    nn_text own = { 0 };
    char *first = NULL;
    if (t->set.ranks.n <= 1) return NN_OK;
    nn_status status = describe(t, &own);
    if (status == NN_OK) status = hear(&t->set.ranks, &own, &first);
    if (status == NN_OK) status = compare(t, first, own.text);
    nn_free(first);
    nn_text_free(&own);
    return status;
}
