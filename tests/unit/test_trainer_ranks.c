/* One training on several ranks, which are threads, on every device of this build: on cuda the
 * gradients go over NCCL. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "tests/unit/engine_check.h"
#include "tests/unit/scratch.h"
#include "tools/cli_internal.h"
#include "tools/trainer.h"

enum { IN = 24, OUT = 5, WIDTH = 33, MOST = 4, STEPS = 6, ROOM = 4096 };

/* What all ranks of a training are given. */
typedef struct training {
    const char *device, *directory;
    bool shard, foreground;
    double clip, bucket_mb; /* 0: as it comes */
    bool half, insists;     /* gradients are sent as bf16, and yet the device is deterministic */
    int64_t batch, steps;
    uint64_t start[MOST];
} training;

typedef struct rank {
    const training *what;
    nn_comm *comm;
    nn_device *device;
    int number, n;
    nn_tensor *x, *y; /* inputs */
    double loss;
    float values[ROOM]; /* what came out */
    nn_status status;
    char message[512];
} rank;

static const nn_option options[] = { { 0 } };

static nn_tensor *build(void *ctx, nn_graph *g, nn_params *params)
{
    rank *r = ctx;
    const int64_t n = r->what->batch;
    const nn_scope s = nn_root(g, params, "");
    r->x = nn_input(g, "x", NN_F32, NN_DIMS(n, IN));
    r->y = nn_input(g, "y", NN_F32, NN_DIMS(n, OUT));
    nn_tensor *first = nn_param_at(s, "first", NN_NORMAL(0.3f), NN_DIMS(WIDTH, IN));
    nn_tensor *last = nn_param_at(s, "last", NN_NORMAL(0.3f), NN_DIMS(OUT, WIDTH));
    nn_tensor *h = nn_activation(g, nn_linear(g, r->x, first, NULL, NULL), NN_ACT_SILU);
    return nn_mse(g, nn_linear(g, h, last, NULL, NULL), r->y, NULL);
}

/* Numbers of a sample, whoever asks for it. */
static nn_status feed(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    rank *r = ctx;
    float x[16 * IN], y[16 * OUT];
    for (int64_t i = 0; i < r->what->batch; i++) {
        nn_rng rng = nn_rng_make(7, "sample", (uint64_t)(pass->first + i));
        nn_rng_normal_fill(&rng, x + i * IN, IN);
        nn_rng_normal_fill(&rng, y + i * OUT, OUT);
    }
    NN_TRY(nn_plan_write(plan, r->x, x));
    return nn_plan_write(plan, r->y, y);
}

static nn_status read_values(const nn_params *params, float *out)
{
    for (int64_t i = 0; i < params->n; i++) {
        NN_TRY(nn_params_read(params, params->items[i], out));
        out += nn_view_elems(&params->items[i]->view);
    }
    return NN_OK;
}

/* Sums of small buckets begin before backward ends, in an order that covers all gradients. */
static nn_status check_buckets(void *ctx, trainer *t, int64_t step)
{
    const rank *r = ctx;
    const trainer_buckets *b = &t->buckets;
    const int64_t end = nn_plan_n_steps(t->pass);
    int64_t n = 0;
    (void)step;
    if (r->n == 1 || !r->what->bucket_mb) return NN_OK;
    for (int64_t i = 0; i < b->n; i++) {
        n += b->items[i].n;
        if (i && b->items[i].after < b->items[i - 1].after)
            return nn_fail(NN_NUMERIC, "bucket %lld is started before it is complete",
                           (long long)i);
    }
    return n == t->params->n_elems && b->n > 2 && b->items[0].after < end - 1
               ? NN_OK
               : nn_fail(NN_NUMERIC, "%lld buckets of %lld elements, the first after %lld of %lld",
                         (long long)b->n, (long long)n, (long long)b->items[0].after,
                         (long long)end);
}

static nn_status train(rank *r, nn_params *params)
{
    trainer t = { .what = "test",
                  .set = { TRAINER_DEFAULTS, .lr = 0.01, .ema_decay = 0.9 },
                  .options = options,
                  .start = r->what->start[r->number],
                  .device = r->device,
                  .params = params,
                  .ctx = r,
                  .build = build,
                  .feed = feed,
                  .after = check_buckets };
    t.set.output = r->what->directory;
    t.set.batch = r->what->batch;
    t.set.accumulate = 8 / r->what->batch;
    t.set.steps = r->what->steps;
    t.set.checkpoint_every = STEPS / 2;
    t.set.clip_norm = r->what->clip;
    t.set.shard = r->what->shard;
    t.set.background = !r->what->foreground;
    t.set.comm_dtype = r->what->half;
    if (r->what->bucket_mb) t.set.bucket_mb = r->what->bucket_mb;
    t.set.ranks = (trainer_ranks){ .comm = r->comm, .rank = r->number, .n = r->n };
    NN_TRY(trainer_share(&t.set));
    NN_TRY(nn_params_init(params, 3));
    NN_TRY(trainer_run(&t));
    r->loss = t.loss;
    return read_values(params, r->values);
}

static nn_status run(rank *r)
{
    nn_params *params = NULL;
    NN_TRY(nn_device_open(r->what->device, 1, &r->device));
    r->device->deterministic = !r->what->half || r->what->insists;
    nn_status status = trainer_make_params(build, r, r->device, &params);
    if (status == NN_OK) status = train(r, params);
    nn_params_destroy(params);
    nn_device_close(r->device);
    return status;
}

static void *run_rank(void *ctx)
{
    rank *r = ctx;
    nn_error_clear();
    r->status = run(r);
    snprintf(r->message, sizeof(r->message), "%s", nn_error_message());
    nn_comm_close(r->comm);
    return NULL;
}

static void run_ranks(const training *what, int n, rank *out)
{
    const nn_comm_options patient = { .timeout_seconds = 120 };
    nn_comm *comms[MOST];
    pthread_t threads[MOST];
    OK(nn_comm_open_threads(n, &patient, comms));
    for (int k = 0; k < n; k++) {
        out[k] = (rank){ .what = what, .comm = comms[k], .number = k, .n = n };
        assert_int_equal(pthread_create(&threads[k], NULL, run_rank, &out[k]), 0);
    }
    for (int k = 0; k < n; k++) pthread_join(threads[k], NULL);
}

static void all_equal(const rank *ranks, int n, const rank *expected)
{
    for (int k = 0; k < n; k++) {
        if (ranks[k].status != NN_OK) fail_msg("rank %d of %d: %s", k, n, ranks[k].message);
        assert_true(ranks[k].loss == expected->loss);
        assert_memory_equal(ranks[k].values, expected->values, sizeof(expected->values));
    }
}

static const char *const devices[] = {
#ifdef NN_CPU
    "cpu",
#endif
#ifdef NN_CUDA
    "cuda",
#endif
    "ref", NULL
};

static rank *ranks, *alone;

/* Remove what a training left. */
static void forget(const char *directory)
{
    static const char *const parts[] = { "/checkpoints/step-00000003.safetensors", "/checkpoints",
                                         "" };
    char name[96];
    for (int i = 0; i < NN_COUNT(parts); i++) {
        snprintf(name, sizeof(name), "%s%s", directory, parts[i]);
        assert_int_equal(remove(scratch(name)), 0);
    }
}

/* In a directory of its own: from the start on n ranks, then again from its checkpoint on m. */
static void from_n_to_m(training what, int n, int m)
{
    what.directory = scratch("out");
    run_ranks(&what, n, ranks);
    all_equal(ranks, n, alone);
    run_ranks(&what, m, ranks); /* the last half */
    all_equal(ranks, m, alone);
    forget("out");
}

static void any_number_makes_the_same_bits(void **state)
{
    (void)state;
    for (int d = 0; devices[d]; d++) {
        training what = { .device = devices[d], .batch = 2, .steps = STEPS };
        what.directory = scratch("alone");
        run_ranks(&what, 1, alone);
        all_equal(alone, 1, alone);
        forget("alone");
        for (int k = 0; k < 4; k++) {
            what.shard = k % 2;
            what.bucket_mb = k < 2 ? 0 : 0.0003;
            from_n_to_m(what, 2, 4);
            from_n_to_m(what, 4, 1);
            from_n_to_m(what, 1, 2);
        }
    }
}

/* The first rank fails to save, where the others give it their parts and wait for theirs. */
static void what_is_not_saved_holds_up_nobody(void **state)
{
    (void)state;
    training what = { .device = devices[0], .batch = 2, .steps = STEPS, .shard = true };
    what.directory = scratch("alone");
    run_ranks(&what, 1, alone);
    forget("alone");
    what.directory = scratch("out");
    for (int foreground = 0; foreground < 2; foreground++) {
        what.foreground = foreground;
        for (int k = 1; k <= 3; k++) { /* the header, a piece of the data, a later one */
            nn_file_fail_at(NN_FAULT_WRITE, k);
            run_ranks(&what, 4, ranks);
            assert_true(nn_file_failed());
            nn_file_fail_at(NN_FAULT_NONE, 0);
            all_equal(ranks, 4, alone);
            assert_int_equal(remove(scratch("out/checkpoints")), 0); /* it is empty */
            assert_int_equal(remove(scratch("out")), 0);
        }
    }
}

/* A pass of one rank cut for four, gradients clipped, optimizer in parts: the same to rounding. */
static void other_passes_agree(void **state)
{
    (void)state;
    training one = { .device = devices[0], .batch = 8, .steps = STEPS, .clip = 0.05 }, four = one;
    one.directory = scratch("one");
    four.directory = scratch("four");
    four.batch = 2;
    four.shard = true;
    four.bucket_mb = 0.0003;
    run_ranks(&one, 1, alone);
    run_ranks(&four, 4, ranks);
    all_equal(ranks, 4, ranks);
    for (int i = 0; i < ROOM; i++) assert_true(fabsf(alone->values[i] - ranks->values[i]) < 1e-4f);
    assert_true(alone->values[0] != 0);
    forget("one");
    forget("four");
}

/* Gradients that were sent as bf16: the same on all ranks, and near what f32 gives. */
static void rounded_gradients_agree(void **state)
{
    (void)state;
    for (int d = 0; devices[d]; d++) {
        training one = { .device = devices[d], .batch = 2, .steps = STEPS }, four = one;
        one.directory = scratch("one");
        four.directory = scratch("four");
        four.half = true;
        four.bucket_mb = 0.0003;
        run_ranks(&one, 1, alone);
        for (int shard = 0; shard < 2; shard++) {
            float most = 0;
            four.shard = shard;
            run_ranks(&four, 4, ranks);
            all_equal(ranks, 4, ranks);
            for (int i = 0; i < ROOM; i++)
                most = fmaxf(most, fabsf(alone->values[i] - ranks->values[i]));
            assert_true(most > 0 && most < 0.02f); /* six updates of 0.01 */
            forget("four");
        }
        forget("one");
    }
}

static void rounding_is_not_deterministic(void **state)
{
    (void)state;
    training what = { .device = devices[0], .batch = 2, .steps = STEPS, .half = true };
    what.directory = scratch("out");
    what.insists = true;
    run_ranks(&what, 2, ranks);
    for (int k = 0; k < 2; k++) assert_int_equal(ranks[k].status, NN_ARGUMENT);
}

static void ranks_with_other_starts_stop(void **state)
{
    (void)state;
    training what = { .device = devices[0], .batch = 2, .steps = STEPS, .start = { 1, 2 } };
    what.directory = scratch("out");
    run_ranks(&what, 2, ranks);
    assert_int_equal(ranks[1].status, NN_ARGUMENT);
    if (!strstr(ranks[1].message, "rank 1 of 2 on ")) fail_msg("%s", ranks[1].message);
    assert_int_equal(ranks[0].status, NN_DEVICE);
}

static int set_up(void **state)
{
    nn_cli_quiet(true);
    if (scratch_make(state) != 0) return -1;
    ranks = calloc(MOST, sizeof(*ranks));
    alone = calloc(1, sizeof(*alone));
    return ranks && alone ? 0 : -1;
}

static int tear_down(void **state)
{
    free(ranks);
    free(alone);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_makes_the_same_bits),
        cmocka_unit_test(what_is_not_saved_holds_up_nobody),
        cmocka_unit_test(other_passes_agree),
        cmocka_unit_test(rounded_gradients_agree),
        cmocka_unit_test(rounding_is_not_deterministic),
        cmocka_unit_test(ranks_with_other_starts_stop),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
