/* Communicators of one process: what they compute, and how they fail. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/dist/collectives.h"
#include "tests/unit/engine_check.h"

enum { MOST = 4 };

/* One rank of a test: its work, and what became of it. */
typedef struct rank {
    nn_comm *c;
    nn_status (*work)(struct rank *r);
    int number;
    nn_status status;
    char message[1024];
} rank;

static void *run_rank(void *ctx)
{
    rank *r = ctx;
    nn_error_clear();
    r->status = r->work(r);
    snprintf(r->message, sizeof(r->message), "%s", nn_error_message());
    nn_comm_close(r->c);
    return NULL;
}

static void run_ranks(int n, const nn_comm_options *options, nn_status (*work)(rank *r),
                      rank *ranks)
{
    nn_comm *c[MOST];
    pthread_t threads[MOST];
    OK(nn_comm_open_threads(n, options, c));
    for (int r = 0; r < n; r++) {
        ranks[r] = (rank){ .c = c[r], .work = work, .number = r };
        assert_int_equal(pthread_create(&threads[r], NULL, run_rank, &ranks[r]), 0);
    }
    for (int r = 0; r < n; r++) pthread_join(threads[r], NULL);
}

static void all_ok(int n, const rank *ranks)
{
    for (int r = 0; r < n; r++)
        if (ranks[r].status != NN_OK) fail_msg("rank %d: %s", r, ranks[r].message);
}

static void says(const rank *r, const char *part)
{
    assert_int_equal(r->status, NN_DEVICE);
    if (!strstr(r->message, part)) fail_msg("'%s' is not in: %s", part, r->message);
}

/* -- what they compute */

static nn_status check_collectives(rank *r)
{
    nn_device *d;
    NN_TRY(nn_device_open("ref", 1, &d));
    const nn_status status = collectives_check(r->c, d, true, 20011);
    nn_device_close(d);
    return status;
}

static void test_threads(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        run_ranks(n, &options, check_collectives, ranks);
        all_ok(n, ranks);
    }
}

static void test_single(void **state)
{
    const nn_comm_options options = { 0 };
    nn_device *d = open_device("ref", 1);
    nn_comm *c;
    (void)state;
    OK(nn_comm_open_single(&options, &c));
    OK(collectives_check(c, d, true, 20011));
    assert_int_equal(nn_comm_place_of(c)->n_ranks, 1);
    assert_string_equal(nn_comm_name(c), "single");
    nn_comm_close(c);
    nn_device_close(d);
}

/* The order of adding is that of the ranks: with these numbers every other one gives another sum.
 */
static nn_status sum_three(rank *r)
{
    const float numbers[] = { 1, 1e8f, -1e8f };
    float x = numbers[r->number];
    NN_TRY(nn_comm_all_reduce(r->c, NN_F32, 1, &x));
    return x == 0.0f ? NN_OK : nn_fail(NN_NUMERIC, "(1 + 1e8) - 1e8 is %g", (double)x);
}

/* bf16 is added in f32: 256 + 1 + 1 + 1 is 259, rounded once to 260, but 256 if each step rounds.
 */
static nn_status sum_bf16(rank *r)
{
    uint16_t x = nn_f32_to_bf16(r->number ? 1.0f : 256.0f);
    NN_TRY(nn_comm_all_reduce(r->c, NN_BF16, 1, &x));
    const float sum = nn_bf16_to_f32(x);
    return sum == 260.0f ? NN_OK : nn_fail(NN_NUMERIC, "the sum is %g", (double)sum);
}

static void test_order(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    for (int i = 0; i < 20; i++) {
        run_ranks(3, &options, sum_three, ranks);
        all_ok(3, ranks);
    }
    run_ranks(4, &options, sum_bf16, ranks);
    all_ok(4, ranks);
}

/* A start does not wait: rank 0 starts all it may before rank 1 does anything. */
static nn_status start_many(rank *r)
{
    float x[NN_COMM_DEPTH];
    int64_t ticket = -1;
    for (int k = 0; k < NN_COMM_DEPTH; k++) {
        x[k] = (float)(k + r->number);
        const nn_comm_call call = { NN_COMM_ALL_REDUCE, NN_F32, 0, 1, &x[k], &x[k] };
        NN_TRY(nn_comm_start(r->c, &call, &ticket));
    }
    const nn_comm_call more = { .kind = NN_COMM_BARRIER };
    if (nn_comm_start(r->c, &more, &ticket) != NN_ARGUMENT)
        return nn_fail(NN_NUMERIC, "more than fits was started");
    NN_TRY(nn_comm_wait(r->c, NN_COMM_DEPTH - 1));
    for (int k = 0; k < NN_COMM_DEPTH; k++)
        if (x[k] != (float)(2 * k + 1)) return nn_fail(NN_NUMERIC, "sum %d is %g", k, (double)x[k]);
    return nn_comm_barrier(r->c);
}

static void test_many(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    run_ranks(2, &options, start_many, ranks);
    all_ok(2, ranks);
}

/* -- how they fail */

static nn_status miss_one(rank *r)
{
    float x = 1;
    nn_comm_step(r->c, 41);
    NN_TRY(nn_comm_barrier(r->c));
    nn_comm_step(r->c, 42);
    if (r->number == 2) {
        /* alive, but busy with something else until the others have given up */
        while (nn_comm_all_reduce(r->c, NN_BF16, 0, &x) == NN_OK) {
        }
        return NN_DEVICE;
    }
    const nn_comm_call call = { NN_COMM_ALL_REDUCE, NN_F32, 0, 1, &x, &x };
    int64_t ticket;
    NN_TRY(nn_comm_start(r->c, &call, &ticket));
    return nn_comm_wait(r->c, ticket);
}

static void test_mismatch_of_type(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    run_ranks(3, &options, miss_one, ranks);
    for (int r = 0; r < 3; r++) {
        says(&ranks[r], "rank 2 calls all_reduce of 0 bf16");
        says(&ranks[r], "all_reduce of 1 f32 (collective 1, step 42)");
    }
}

static nn_status other_call(rank *r)
{
    float x[4] = { 0 };
    if (r->number == 0) return nn_comm_broadcast(r->c, NN_F32, 2, x, 1);
    return nn_comm_all_reduce(r->c, NN_F32, 2, x);
}

static nn_status other_root(rank *r)
{
    float x = 0;
    return nn_comm_broadcast(r->c, NN_F32, 1, &x, r->number);
}

static nn_status other_size(rank *r)
{
    float x[2] = { 0 };
    return nn_comm_all_reduce(r->c, NN_F32, 1 + r->number, x);
}

static void test_mismatch(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    run_ranks(2, &options, other_call, ranks);
    for (int r = 0; r < 2; r++) says(&ranks[r], "rank 1 calls all_reduce of 2 f32");
    run_ranks(2, &options, other_root, ranks);
    for (int r = 0; r < 2; r++) says(&ranks[r], "rank 1 calls broadcast of 1 f32 from rank 1");
    run_ranks(2, &options, other_size, ranks);
    for (int r = 0; r < 2; r++) says(&ranks[r], "rank 1 calls all_reduce of 2 f32");
}

static pthread_barrier_t given_up;

static nn_status hang(rank *r)
{
    float x = 1;
    nn_status status = NN_OK;
    nn_comm_step(r->c, 7);
    if (r->number != 1) status = nn_comm_all_reduce(r->c, NN_F32, 1, &x);
    pthread_barrier_wait(&given_up);
    if (r->number != 1 && nn_comm_barrier(r->c) == NN_OK) status = NN_OK; /* it must stay broken */
    return status;
}

static void test_timeout(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 0.05 };
    rank ranks[MOST];
    char host[NN_COMM_HOST + 8];
    (void)state;
    pthread_barrier_init(&given_up, NULL, 3);
    run_ranks(3, &options, hang, ranks);
    pthread_barrier_destroy(&given_up);
    nn_comm_place place;
    nn_comm_place_from_environment(&place);
    snprintf(host, sizeof(host), "on %s:", place.host);
    assert_int_equal(ranks[1].status, NN_OK);
    for (int r = 0; r < 3; r += 2) {
        says(&ranks[r], "all_reduce of 1 f32 (collective 0, step 7)");
        says(&ranks[r], "not done within 0.05 s, waiting for rank 1;");
        says(&ranks[r], r ? "rank 2 of 3" : "rank 0 of 3");
        says(&ranks[r], host);
    }
}

static nn_status leave_early(rank *r)
{
    float x = 1;
    return r->number == 1 ? NN_OK : nn_comm_all_reduce(r->c, NN_F32, 1, &x);
}

static nn_status give_up(rank *r)
{
    float x = 1;
    if (r->number != 1) return nn_comm_all_reduce(r->c, NN_F32, 1, &x);
    nn_comm_step(r->c, 3);
    nn_comm_abort(r->c);
    return nn_comm_barrier(r->c);
}

/* Without a time limit. */
static void test_leaving(void **state)
{
    const nn_comm_options options = { 0 };
    rank ranks[MOST];
    (void)state;
    run_ranks(3, &options, leave_early, ranks);
    for (int r = 0; r < 3; r += 2) says(&ranks[r], "rank 1 has left the job");
    run_ranks(3, &options, give_up, ranks);
    for (int r = 0; r < 3; r++) says(&ranks[r], "has given up at step 3");
}

static void test_arguments(void **state)
{
    const nn_comm_options options = { 0 };
    nn_comm *c;
    float x = 0;
    int64_t ticket = 0;
    nn_comm_call call = { .kind = (nn_collective)9 };
    (void)state;
    OK(nn_comm_open_single(&options, &c));
    FAILS(NN_ARGUMENT, nn_comm_start(c, &call, &ticket));
    FAILS(NN_ARGUMENT, nn_comm_all_reduce(c, NN_I32, 1, &x));
    FAILS(NN_ARGUMENT, nn_comm_all_reduce(c, NN_F32, -1, &x));
    FAILS(NN_ARGUMENT, nn_comm_all_reduce(c, NN_F32, 1, NULL));
    FAILS(NN_ARGUMENT, nn_comm_broadcast(c, NN_F32, 1, &x, 1));
    FAILS(NN_ARGUMENT, nn_comm_reduce(c, NN_F32, 1, &x, -1));
    FAILS(NN_ARGUMENT, nn_comm_wait(c, 0));
    OK(nn_comm_broadcast(c, NN_I32, 1, &x, 0));
    OK(nn_comm_all_reduce(c, NN_F32, 0, NULL));
    nn_comm_close(c);
    nn_comm_close(NULL);
    FAILS(NN_ARGUMENT, nn_comm_open_threads(0, &options, &c));
}

static void test_memory(void **state)
{
    const nn_comm_options options = { 0 };
    nn_comm *c[3];
    int64_t k = 0;
    nn_status status;
    (void)state;
    do {
        nn_alloc_fail_at(++k);
        status = nn_comm_open_threads(3, &options, c);
        nn_alloc_fail_at(0);
        for (int r = 0; r < 3 && status == NN_OK; r++) nn_comm_close(c[r]);
        assert_true(status == NN_OK || status == NN_MEMORY);
    } while (status != NN_OK);
    assert_true(k > 4);
    nn_alloc_fail_at(1);
    FAILS(NN_MEMORY, nn_comm_open_single(&options, &c[0]));
    nn_alloc_fail_at(0);
}

/* What a signal handler would say: first nothing, then what is under way, then what was. */
static nn_status say_where(rank *r)
{
    bool under_way = true;
    int64_t ticket;
    float x = 1;
    const nn_comm_call sum = { NN_COMM_ALL_REDUCE, NN_F32, 0, 1, &x, &x };
    const char *const text = "all_reduce of 1 f32 (collective 0, step 7)";
    const char *now = nn_comm_now(r->c, &under_way);
    if (now[0] || under_way) return nn_fail(NN_NUMERIC, "before the first: '%s'", now);
    nn_comm_step(r->c, 7);
    NN_TRY(nn_comm_start(r->c, &sum, &ticket));
    now = nn_comm_now(r->c, &under_way);
    if (strcmp(now, text) != 0 || !under_way) return nn_fail(NN_NUMERIC, "in it: '%s'", now);
    NN_TRY(nn_comm_wait(r->c, ticket));
    now = nn_comm_now(r->c, &under_way);
    if (strcmp(now, text) != 0 || under_way) return nn_fail(NN_NUMERIC, "after it: '%s'", now);
    NN_TRY(nn_comm_reduce(r->c, NN_F32, 1, &x, 1));
    now = nn_comm_now(r->c, &under_way);
    return strcmp(now, "reduce of 1 f32 to rank 1 (collective 1, step 7)") == 0
               ? NN_OK
               : nn_fail(NN_NUMERIC, "'%s'", now);
}

static void test_where(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 60 };
    rank ranks[MOST];
    (void)state;
    run_ranks(2, &options, say_where, ranks);
    all_ok(2, ranks);
}

/* Collectives allocate nothing. */
static nn_status count_allocations(rank *r)
{
    float x[64] = { 0 }, y[4 * 64];
    NN_TRY(nn_comm_barrier(r->c));
    const int64_t before = nn_alloc_count();
    NN_TRY(nn_comm_all_reduce(r->c, NN_F32, 64, x));
    NN_TRY(nn_comm_all_gather(r->c, NN_F32, 64, x, y));
    NN_TRY(nn_comm_reduce_scatter(r->c, NN_F32, 64, y, x));
    NN_TRY(nn_comm_barrier(r->c));
    const int64_t made = nn_alloc_count() - before;
    return made ? nn_fail(NN_NUMERIC, "%lld allocations", (long long)made) : NN_OK;
}

static void test_no_allocation(void **state)
{
    const nn_comm_options options = { .check = true };
    rank ranks[MOST];
    (void)state;
    run_ranks(4, &options, count_allocations, ranks);
    all_ok(4, ranks);
}

/* -- where a rank is */

static void clear_launcher(void)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE",       "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS",         "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_TASKS_PER_NODE",  "SLURM_PROCID",         "SLURM_LOCALID",
    };
    for (int i = 0; i < NN_COUNT(names); i++) unsetenv(names[i]);
}

static void test_launchers(void **state)
{
    nn_comm_place p;
    (void)state;
    clear_launcher();
    setenv("SLURM_NTASKS", "8", 1); /* a batch script: one process */
    setenv("SLURM_PROCID", "0", 1);
    nn_comm_place_from_environment(&p);
    assert_int_equal(p.n_ranks, 1);
    assert_true(p.host[0] != 0);
    setenv("SLURM_STEP_NUM_TASKS", "6", 1);
    setenv("SLURM_STEP_TASKS_PER_NODE", "4(x1),2", 1);
    setenv("SLURM_PROCID", "3", 1);
    setenv("SLURM_LOCALID", "3", 1);
    nn_comm_place_from_environment(&p);
    assert_int_equal(p.n_ranks, 6);
    assert_int_equal(p.rank, 3);
    assert_int_equal(p.local_rank, 3);
    assert_int_equal(p.n_local, 4);
    setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
    setenv("OMPI_COMM_WORLD_RANK", "2", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
    nn_comm_place_from_environment(&p);
    assert_int_equal(p.n_ranks, 4);
    assert_int_equal(p.rank, 2);
    assert_int_equal(p.local_rank, 1);
    assert_int_equal(p.n_local, 2);
    setenv("OMPI_COMM_WORLD_RANK", "4", 1); /* nonsense: a single rank */
    nn_comm_place_from_environment(&p);
    assert_int_equal(p.n_ranks, 1);
    assert_int_equal(p.rank, 0);
    clear_launcher();
}

static void test_open(void **state)
{
    const nn_comm_options options = { 0 };
    nn_comm *c;
    (void)state;
    clear_launcher();
    OK(nn_comm_open(&options, &c));
    assert_string_equal(nn_comm_name(c), "single");
    nn_comm_close(c);
#ifndef NN_MPI
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    FAILS(NN_UNSUPPORTED, nn_comm_open(&options, &c));
    MESSAGE_HAS("rank 0 of 2");
    MESSAGE_HAS("make MPI=1");
    clear_launcher();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_mismatch_of_type),
        cmocka_unit_test(test_mismatch),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_where),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_launchers),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
