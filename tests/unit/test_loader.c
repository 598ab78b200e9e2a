/* Loader: one order for any number of threads, exact resume, stand-ins for broken samples. Cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/cache.h"
#include "data/loader.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"

enum { SAMPLES = 37, TAKEN = 100 };

static char path[64];
static nn_shards *shards;

static int write_corpus(void **state)
{
    (void)state;
    nn_shard_writer *w;
    nn_shard_report report = { .strict = true };
    snprintf(path, sizeof(path), "/tmp/test_loader.%ld.tar", (long)getpid());
    if (nn_shard_writer_open_file(path, &w) != NN_OK) return -1;
    for (int i = 0; i < SAMPLES; i++) {
        char key[32], image[32];
        int n = snprintf(image, sizeof(image), "%d", i);
        snprintf(key, sizeof(key), "%04d", i);
        nn_sample s = { .key = key, .format = "png", .image = { image, n }, .alt = { "x", 1 } };
        if (nn_shard_writer_add(w, &s) != NN_OK) return -1;
    }
    if (nn_shard_writer_close(w) != NN_OK) return -1;
    return nn_shards_open(path, NULL, &report, &shards) == NN_OK ? 0 : -1;
}

static int remove_corpus(void **state)
{
    (void)state;
    nn_shards_close(shards);
    return unlink(path);
}

typedef struct context {
    int broken_below; /* samples whose number is below this cannot be decoded */
    nn_status status; /* what those return */
    _Atomic int held;
} context;

typedef struct slot {
    int *number;
} slot;

static nn_status decode(void *ctx, const nn_sample *sample, void *out)
{
    context *c = ctx;
    slot *s = out;
    char text[16] = { 0 };
    NN_ASSERT(!s->number);
    memcpy(text, sample->image.data, (size_t)sample->image.n);
    int number = (int)strtol(text, NULL, 10);
    if (number % 3 == 0) usleep(200); /* so that threads finish in another order */
    if (number < c->broken_below) return nn_fail(c->status, "sample %d is broken", number);
    s->number = nn_alloc(1, sizeof(int));
    NN_NEED(s->number);
    *s->number = number;
    atomic_fetch_add(&c->held, 1);
    return NN_OK;
}

static void release(void *ctx, void *out)
{
    context *c = ctx;
    slot *s = out;
    nn_free(s->number);
    s->number = NULL;
    atomic_fetch_sub(&c->held, 1);
}

static nn_loader *open_loader(context *c, int threads, bool keep, int rank, int n_ranks,
                              int64_t epoch, int64_t position, nn_shard_report *report)
{
    nn_loader *l = NULL;
    nn_loader_config config = { .threads = threads,
                                .seed = 5,
                                .keep = keep,
                                .rank = rank,
                                .n_ranks = n_ranks,
                                .slot_bytes = sizeof(slot),
                                .decode = decode,
                                .release = release,
                                .ctx = c };
    assert_int_equal(nn_loader_open(shards, &config, epoch, position, report, &l), NN_OK);
    return l;
}

static int take(nn_loader *l, nn_loader_item *item)
{
    assert_int_equal(nn_loader_next(l, item), NN_OK);
    int number = *((const slot *)item->slot)->number;
    assert_int_equal(number, item->number);
    assert_ptr_equal(item->sample, nn_shards_at(shards, number));
    return number;
}

static void read_order(context *c, int threads, bool keep, int order[TAKEN])
{
    nn_shard_report report = { 0 };
    nn_loader_item item;
    nn_loader *l = open_loader(c, threads, keep, 0, 1, 0, 0, &report);
    for (int i = 0; i < TAKEN; i++) {
        order[i] = take(l, &item);
        assert_int_equal(item.epoch, i / SAMPLES);
        assert_int_equal(item.position, i % SAMPLES);
    }
    nn_loader_close(l);
    assert_int_equal(c->held, 0);
    assert_int_equal(nn_shard_report_total(&report), c->broken_below);
    nn_shard_report_free(&report);
}

static void one_order_for_any_threads(void **state)
{
    (void)state;
    int first[TAKEN], other[TAKEN];
    for (int broken = 0; broken <= 4; broken += 4) {
        context c = { .broken_below = broken, .status = NN_FORMAT };
        read_order(&c, 1, false, first);
        read_order(&c, 2, false, other);
        assert_memory_equal(first, other, sizeof(first));
        read_order(&c, 4, false, other);
        assert_memory_equal(first, other, sizeof(first));
        read_order(&c, 4, true, other);
        assert_memory_equal(first, other, sizeof(first));
    }
}

static void epochs_are_permutations(void **state)
{
    (void)state;
    int order[TAKEN], seen[SAMPLES] = { 0 };
    context c = { 0 };
    read_order(&c, 2, false, order);
    for (int i = 0; i < SAMPLES; i++) seen[order[i]]++;
    for (int i = 0; i < SAMPLES; i++) assert_int_equal(seen[i], 1);
    assert_memory_not_equal(order, order + SAMPLES, SAMPLES * sizeof(*order));
}

static void resume_goes_on_where_it_stopped(void **state)
{
    (void)state;
    int order[TAKEN];
    context c = { 0 };
    nn_shard_report report = { 0 };
    nn_loader_item item;
    read_order(&c, 1, false, order);
    for (int keep = 0; keep < 2; keep++)
        for (int stop = 0; stop < TAKEN; stop += 9) {
            int64_t epoch, position;
            nn_loader *l = open_loader(&c, 2, keep, 0, 1, 0, 0, &report);
            for (int i = 0; i < stop; i++) (void)take(l, &item);
            nn_loader_tell(l, &epoch, &position);
            assert_int_equal(epoch * SAMPLES + position, stop);
            nn_loader_close(l);
            l = open_loader(&c, 4, keep, 0, 1, epoch, position, &report);
            for (int i = stop; i < TAKEN; i++) assert_int_equal(take(l, &item), order[i]);
            nn_loader_close(l);
        }
    assert_int_equal(c.held, 0);
}

static void ranks_share_the_stream(void **state)
{
    (void)state;
    int order[TAKEN];
    context c = { .broken_below = 2, .status = NN_UNSUPPORTED };
    read_order(&c, 1, false, order);
    for (int rank = 0; rank < 3; rank++) {
        nn_shard_report report = { 0 };
        nn_loader_item item;
        int64_t epoch, position;
        nn_loader *l = open_loader(&c, 2, false, rank, 3, 0, 0, &report);
        for (int i = rank; i < 99; i += 3) assert_int_equal(take(l, &item), order[i]);
        nn_loader_tell(l, &epoch, &position);
        assert_int_equal(epoch * SAMPLES + position, 99);
        nn_loader_close(l);
        nn_shard_report_free(&report);
    }
}

/* Four ranks in blocks of five, kept or not: together the stream, and each block in one piece. */
static void ranks_take_blocks(void **state)
{
    (void)state;
    int order[TAKEN];
    context c = { .broken_below = 2, .status = NN_UNSUPPORTED };
    read_order(&c, 1, false, order);
    for (int k = 0; k < 8; k++) {
        nn_shard_report report = { 0 };
        nn_loader_item item;
        nn_loader *l;
        int64_t epoch, position;
        const nn_loader_config config = { .keep = k >= 4,
                                          .seed = 5,
                                          .rank = k % 4,
                                          .n_ranks = 4,
                                          .block = 5,
                                          .slot_bytes = sizeof(slot),
                                          .decode = decode,
                                          .release = release,
                                          .ctx = &c };
        assert_int_equal(nn_loader_open(shards, &config, 0, 20, &report, &l), NN_OK);
        for (int i = 20; i < TAKEN; i++)
            if (i / 5 % 4 == k % 4) assert_int_equal(take(l, &item), order[i]);
        nn_loader_tell(l, &epoch, &position);
        assert_int_equal(epoch * SAMPLES + position, TAKEN);
        nn_loader_close(l);
        nn_shard_report_free(&report);
    }
}

static void a_broken_sample_is_reported_once(void **state)
{
    (void)state;
    context c = { .broken_below = 5, .status = NN_FORMAT };
    nn_shard_report report = { 0 };
    nn_loader_item item;
    nn_loader *l = open_loader(&c, 3, false, 0, 1, 0, 0, &report);
    for (int i = 0; i < 4 * SAMPLES; i++) assert_true(take(l, &item) >= 5);
    nn_loader_close(l);
    assert_int_equal(report.count[NN_SHARD_CONTENT], 5);
    assert_non_null(strstr(report.lines.text, "sample 4 is broken"));
    nn_shard_report_free(&report);
}

static void errors_reach_the_caller(void **state)
{
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        nn_shard_report report = { 0 };
        nn_loader_item item;
        nn_loader *l = NULL;
        context c = { .broken_below = SAMPLES, .status = NN_FORMAT };
        nn_loader_config config = {
            .slot_bytes = sizeof(slot), .decode = decode, .release = release, .ctx = &c
        };
        config.keep = keep;
        nn_status status = nn_loader_open(shards, &config, 0, 0, &report, &l);
        if (status == NN_OK) status = nn_loader_next(l, &item);
        assert_int_equal(status, NN_FORMAT);
        assert_non_null(strstr(nn_error_message(), "none of the 37 samples"));
        nn_loader_close(l);
        nn_shard_report_free(&report);

        l = NULL;
        c.status = NN_DEVICE; /* no sample's fault */
        status = nn_loader_open(shards, &config, 0, 0, &report, &l);
        if (status == NN_OK) status = nn_loader_next(l, &item);
        assert_int_equal(status, NN_DEVICE);
        nn_loader_close(l);

        l = NULL;
        report.strict = true;
        c = (context){ .broken_below = 3, .status = NN_FORMAT };
        status = nn_loader_open(shards, &config, 0, 0, &report, &l);
        for (int i = 0; status == NN_OK && i < SAMPLES; i++) status = nn_loader_next(l, &item);
        assert_int_equal(status, NN_FORMAT);
        assert_non_null(strstr(nn_error_message(), "is broken"));
        nn_loader_close(l);
        for (int64_t position = -1; position <= SAMPLES; position += SAMPLES + 1)
            assert_int_equal(nn_loader_open(shards, &config, 0, position, &report, &l),
                             NN_ARGUMENT);
    }
}

static void cache_keeps_and_refuses(void **state)
{
    (void)state;
    const int64_t dims[NN_CACHE_RANK] = { 4, 2, 2, 1 }, other[NN_CACHE_RANK] = { 2, 4, 2, 1 };
    char file[64];
    float v[16];
    nn_cache *c, *d;
    snprintf(file, sizeof(file), "/tmp/test_loader.%ld.cache", (long)getpid());
    assert_int_equal(nn_cache_create(77, dims, &c), NN_OK);
    assert_null(nn_cache_find(c, 0));
    for (uint64_t key = 0; key < 200; key++) {
        for (int i = 0; i < 16; i++) v[i] = (float)(key * 16 + (uint64_t)i);
        assert_int_equal(nn_cache_add(c, key * key, v), NN_OK);
    }
    assert_int_equal(nn_cache_add(c, 0, v), NN_OK); /* takes the place of the old one */
    assert_int_equal(nn_cache_count(c), 200);
    assert_int_equal(nn_cache_save(c, file), NN_OK);
    assert_int_equal(nn_cache_load(file, 77, dims, &d), NN_OK);
    assert_int_equal(nn_cache_count(d), 200);
    for (uint64_t key = 0; key < 200; key++)
        assert_memory_equal(nn_cache_find(c, key * key), nn_cache_find(d, key * key), sizeof(v));
    assert_true(nn_cache_find(d, 9)[1] == 49);
    assert_null(nn_cache_find(d, 2));
    nn_cache_close(c);
    nn_cache_close(d);

    assert_int_equal(nn_cache_load(file, 78, dims, &d), NN_FORMAT);
    assert_int_equal(nn_cache_load(file, 77, other, &d), NN_FORMAT);
    char *bytes;
    int64_t n;
    assert_int_equal(nn_file_read(file, 1 << 20, &bytes, &n), NN_OK);
    static const int flipped[] = { 0, 9, 17, 49, 57, 64, 2000 };
    for (int i = 0; i < NN_COUNT(flipped); i++) {
        bytes[flipped[i]] ^= 1;
        assert_int_equal(nn_file_write(file, bytes, n), NN_OK);
        assert_int_equal(nn_cache_load(file, 77, dims, &d), NN_FORMAT);
        bytes[flipped[i]] ^= 1;
    }
    for (int64_t cut = 0; cut < n; cut += 61) {
        assert_int_equal(nn_file_write(file, bytes, cut), NN_OK);
        assert_int_equal(nn_cache_load(file, 77, dims, &d), NN_FORMAT);
    }
    nn_free(bytes);
    unlink(file);
    assert_int_equal(nn_cache_load(file, 77, dims, &d), NN_NOT_FOUND);
    assert_int_equal(nn_cache_create(1, (int64_t[]){ 4, 0, 1, 1 }, &c), NN_SHAPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_order_for_any_threads),
        cmocka_unit_test(epochs_are_permutations),
        cmocka_unit_test(resume_goes_on_where_it_stopped),
        cmocka_unit_test(ranks_share_the_stream),
        cmocka_unit_test(ranks_take_blocks),
        cmocka_unit_test(a_broken_sample_is_reported_once),
        cmocka_unit_test(errors_reach_the_caller),
        cmocka_unit_test(cache_keeps_and_refuses),
    };
    return cmocka_run_group_tests(tests, write_corpus, remove_corpus);
}
