/* The communicator of GPUs on cusim's stand-in for NCCL: ranks are threads that are introduced to
 * each other by a communicator of threads. */
#include <math.h>
#include <pthread.h>

#include <cuda_runtime.h>

#include "tests/dist/collectives.h"
#include "tests/unit/engine_check.h"

enum { MOST = 3, LARGE = (1 << 20) + 11 };

typedef struct rank {
    nn_comm *over;
    nn_comm_options options;
    nn_status (*work)(nn_comm *c, nn_device *d);
    nn_status status;
    char message[1024];
} rank;

static nn_status run_with(rank *r, nn_device *d)
{
    nn_comm *c;
    NN_TRY(nn_comm_open_nccl(r->over, d, &r->options, &c));
    const nn_status status = r->work(c, d);
    nn_comm_close(c);
    return status;
}

static void *run_rank(void *ctx)
{
    rank *r = ctx;
    nn_device *d = NULL;
    nn_error_clear();
    r->status = nn_device_open("cuda", 1, &d);
    if (r->status == NN_OK) r->status = run_with(r, d);
    snprintf(r->message, sizeof(r->message), "%s", nn_error_message());
    nn_device_close(d);
    nn_comm_close(r->over);
    return NULL;
}

static void run_ranks(int n, const nn_comm_options *options,
                      nn_status (*work)(nn_comm *c, nn_device *d), rank *ranks)
{
    const nn_comm_options patient = { .timeout_seconds = 120 };
    nn_comm *over[MOST];
    pthread_t threads[MOST];
    OK(nn_comm_open_threads(n, &patient, over));
    for (int r = 0; r < n; r++) {
        ranks[r] = (rank){ .over = over[r], .options = *options, .work = work };
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

static nn_status check_in_order(nn_comm *c, nn_device *d)
{
    return collectives_check(c, d, true, 2003);
}

static nn_status check_rounding(nn_comm *c, nn_device *d)
{
    return collectives_check(c, d, false, 2003);
}

static void test_collectives(void **state)
{
    const nn_comm_options fast = { .timeout_seconds = 120 };
    const nn_comm_options ordered = { .timeout_seconds = 120, .deterministic = true };
    rank ranks[MOST];
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        cusim_seed((uint64_t)n - 1);
        run_ranks(n, &fast, check_rounding, ranks);
        all_ok(n, ranks);
        cusim_seed(100 + (uint64_t)n);
        run_ranks(n, &ordered, check_in_order, ranks);
        all_ok(n, ranks);
    }
}

/* More than passes through the room at a time. */
static nn_status sum_large(nn_comm *c, nn_device *d)
{
    const nn_comm_place *place = nn_comm_place_of(c);
    const collectives t = { c, d, true, place->rank, place->n_ranks };
    collectives_buffer b = { 0 };
    const nn_status status = collectives_all_reduce(&t, NN_F32, LARGE, &b);
    collectives_free(&t, &b);
    return status;
}

static void test_blocks(void **state)
{
    const nn_comm_options ordered = { .timeout_seconds = 120, .deterministic = true };
    rank ranks[MOST];
    (void)state;
    cusim_seed(5);
    run_ranks(2, &ordered, sum_large, ranks);
    all_ok(2, ranks);
}

/* The sum of 1, 256, 1 in bf16, from 256 on: 256 when every step rounds, 258 when only the end
 * does. */
static nn_status sum_bf16(nn_comm *c, nn_device *d, float *sum)
{
    uint16_t x = nn_f32_to_bf16(nn_comm_place_of(c)->rank == 1 ? 256.0f : 1.0f);
    void *at = d->backend->alloc(d, 2);
    NN_NEED(at);
    nn_status status = d->backend->write(d, at, &x, 2);
    if (status == NN_OK) status = nn_comm_all_reduce(c, NN_BF16, 1, at);
    if (status == NN_OK) status = d->backend->read(d, &x, at, 2);
    d->backend->free(d, at);
    *sum = nn_bf16_to_f32(x);
    return status;
}

static nn_status want_258(nn_comm *c, nn_device *d)
{
    float sum;
    NN_TRY(sum_bf16(c, d, &sum));
    return sum == 258.0f ? NN_OK : nn_fail(NN_NUMERIC, "the sum is %g", (double)sum);
}

static nn_status want_256(nn_comm *c, nn_device *d)
{
    float sum;
    NN_TRY(sum_bf16(c, d, &sum));
    return sum != 258.0f ? NN_OK : nn_fail(NN_NUMERIC, "the sum is %g", (double)sum);
}

static void test_precise(void **state)
{
    const nn_comm_options fast = { .timeout_seconds = 120 };
    const nn_comm_options precise = { .timeout_seconds = 120, .precise = true };
    rank ranks[MOST];
    (void)state;
    run_ranks(3, &precise, want_258, ranks);
    all_ok(3, ranks);
    run_ranks(3, &fast, want_256, ranks);
    all_ok(3, ranks);
}

static nn_status mismatch(nn_comm *c, nn_device *d)
{
    const int64_t n = 3 + nn_comm_place_of(c)->rank;
    void *at = d->backend->alloc(d, 64);
    NN_NEED(at);
    nn_comm_step(c, 9);
    const nn_status status = nn_comm_all_reduce(c, NN_F32, n, at);
    d->backend->free(d, at);
    return status;
}

static void test_mismatch(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 120 };
    rank ranks[MOST];
    (void)state;
    run_ranks(2, &options, mismatch, ranks);
    says(&ranks[0], "all_reduce of 3 f32 (collective 0, step 9): rank 1 calls all_reduce of 4 f32");
    says(&ranks[1], "all_reduce of 4 f32 (collective 0, step 9): rank 0 calls all_reduce of 3 f32");
}

/* Where calls are compared no more: the GPU waits for a peer in vain. */
static nn_status hang(nn_comm *c, nn_device *d)
{
    void *at = d->backend->alloc(d, 64);
    NN_NEED(at);
    nn_status status = NN_OK;
    for (int i = 0; i < NN_COMM_CHECKED && status == NN_OK; i++)
        status = nn_comm_all_reduce(c, NN_F32, 1, at);
    if (status == NN_OK && nn_comm_place_of(c)->rank == 0)
        status = nn_comm_all_reduce(c, NN_F32, 1, at);
    d->backend->free(d, at);
    return status;
}

static void test_timeout(void **state)
{
    const nn_comm_options options = { .timeout_seconds = 1 };
    rank ranks[MOST];
    (void)state;
    run_ranks(2, &options, hang, ranks);
    assert_int_equal(ranks[1].status, NN_OK);
    says(&ranks[0], "all_reduce of 1 f32 (collective 64, step 0): not done within 1 s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collectives), cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_precise),     cmocka_unit_test(test_mismatch),
        cmocka_unit_test(test_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
