/* Shards and cache under failure: allocation, read, write and rename number k fails, for every k
 * until the run succeeds. Nothing crashes, the error has its code, and no half file stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/cache.h"
#include "data/captions.h"
#include "data/loader.h"
#include "engine/base/alloc.h"

enum { SAMPLES = 6, PER_SHARD = 2, SHARDS = SAMPLES / PER_SHARD, MOST_K = 2000 };

static char folder[64], prefix[96], listing[96], cache_path[96];
static const int64_t dims[NN_CACHE_RANK] = { 2, 1, 1, 1 };

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/torture_shards.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(prefix, sizeof(prefix), "%s/s", folder);
    snprintf(listing, sizeof(listing), "%s/errors.jsonl", folder);
    snprintf(cache_path, sizeof(cache_path), "%s/latents", folder);
    return 0;
}

static const char json[] = "{\"captions\": {\"short\": \"a cat\"}}";

static nn_status write_shards(void)
{
    nn_shard_writer *w;
    NN_TRY(nn_shard_writer_open(prefix, PER_SHARD, &w));
    for (int i = 0; i < SAMPLES; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%d", i);
        nn_sample s = { .key = key, .format = "png", .image = { key, 1 } };
        if (i != 3) s.json = (nn_span){ json, sizeof(json) - 1 };
        nn_status status = nn_shard_writer_add(w, &s);
        if (status == NN_OK) continue;
        nn_shard_writer_abort(w);
        return status;
    }
    return nn_shard_writer_close(w);
}

static nn_status decode(void *ctx, const nn_sample *s, void *slot)
{
    (void)ctx;
    nn_captions *c;
    NN_TRY(nn_captions_parse(s, &c));
    memcpy(slot, s->image.data, 1);
    nn_captions_free(c);
    return NN_OK;
}

static nn_status load(const nn_shards *shards, nn_shard_report *report)
{
    nn_loader *l;
    nn_loader_item item;
    nn_loader_config config = { .threads = 2, .slot_bytes = 1, .decode = decode };
    NN_TRY(nn_loader_open(shards, &config, 0, 0, report, &l));
    nn_status status = NN_OK;
    for (int i = 0; i < 2 * SAMPLES && status == NN_OK; i++) status = nn_loader_next(l, &item);
    nn_loader_close(l);
    return status;
}

static nn_status read_shards(void)
{
    nn_shard_report report = { 0 };
    nn_shards *shards;
    nn_status status = nn_shards_open(folder, NULL, &report, &shards);
    if (status == NN_OK) {
        status = load(shards, &report);
        if (status == NN_OK && nn_shards_count(shards) != SAMPLES - 1)
            status = nn_fail(NN_FORMAT, "%lld samples", (long long)nn_shards_count(shards));
        if (status == NN_OK) status = nn_shard_report_save(&report, listing);
        nn_shards_close(shards);
    }
    nn_shard_report_free(&report);
    return status;
}

static nn_status use_cache(void)
{
    nn_cache *c, *again;
    const float v[2] = { 1, 2 };
    NN_TRY(nn_cache_create(1, dims, &c));
    nn_status status = NN_OK;
    for (uint64_t key = 0; key < 100 && status == NN_OK; key++) status = nn_cache_add(c, key, v);
    if (status == NN_OK) status = nn_cache_save(c, cache_path);
    nn_cache_close(c);
    if (status == NN_OK) status = nn_cache_load(cache_path, 1, dims, &again);
    if (status == NN_OK) nn_cache_close(again);
    return status;
}

static nn_status everything(void)
{
    NN_TRY(write_shards());
    NN_TRY(read_shards());
    return use_cache();
}

/* Removes what is there; every tar must be whole, and no other file but the two outputs. */
static void check_and_clean(void)
{
    char **names;
    int64_t n;
    assert_int_equal(nn_file_list(folder, &names, &n), NN_OK);
    for (int64_t i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        if (nn_ends_with(path, ".tar")) {
            nn_shard_report report = { 0 };
            nn_shards *shards;
            assert_int_equal(nn_shards_open(path, NULL, &report, &shards), NN_OK);
            assert_int_equal(report.count[NN_SHARD_DAMAGED], 0);
            assert_int_equal(nn_shards_count(shards) + nn_shard_report_total(&report), PER_SHARD);
            nn_shards_close(shards);
            nn_shard_report_free(&report);
        } else if (strcmp(path, listing) != 0 && strcmp(path, cache_path) != 0)
            fail_msg("%s was left behind", path);
        unlink(path);
    }
    nn_file_list_free(names, n);
}

static void torture(nn_file_fault kind, nn_status expected)
{
    int k = 1;
    for (nn_status status = NN_IO; status != NN_OK; k++) {
        if (kind == NN_FAULT_NONE)
            nn_alloc_fail_at(k);
        else
            nn_file_fail_at(kind, k);
        status = everything();
        nn_alloc_fail_at(0);
        nn_file_fail_at(NN_FAULT_NONE, 0);
        if (status != NN_OK && status != expected) fail_msg("k=%d: %s", k, nn_error_message());
        check_and_clean();
        assert_true(k < MOST_K);
    }
    assert_true(k > 3); /* something did fail */
}

static void allocation_fails(void **state)
{
    (void)state;
    torture(NN_FAULT_NONE, NN_MEMORY);
}

static void reading_fails(void **state)
{
    (void)state;
    torture(NN_FAULT_READ, NN_IO);
}

static void writing_fails(void **state)
{
    (void)state;
    torture(NN_FAULT_WRITE, NN_IO);
}

static void renaming_fails(void **state)
{
    (void)state;
    torture(NN_FAULT_RENAME, NN_IO);
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails),
        cmocka_unit_test(reading_fails),
        cmocka_unit_test(writing_fails),
        cmocka_unit_test(renaming_fails),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
