/* Shards and cache under failure: allocation, read, write and rename number k fails, for every k
 * until the run succeeds. Nothing crashes, the error has its code, and no half file stays. */
#include "tests/torture/torture.h"

#include "data/cache.h"
#include "data/captions.h"
#include "data/loader.h"

enum { SAMPLES = 6, PER_SHARD = 2 };

static const int64_t dims[NN_CACHE_RANK] = { 2, 1, 1, 1 };
static const char json[] = "{\"captions\": {\"short\": \"a cat\"}}";

static nn_status write_shards(void)
{
    nn_shard_writer *w;
    NN_TRY(nn_shard_writer_open(scratch("s"), PER_SHARD, &w));
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
    nn_status status = nn_shards_open(scratch_path, NULL, &report, &shards);
    if (status == NN_OK) {
        status = load(shards, &report);
        if (status == NN_OK && nn_shards_count(shards) != SAMPLES - 1)
            status = nn_fail(NN_FORMAT, "%lld samples", (long long)nn_shards_count(shards));
        if (status == NN_OK) status = nn_shard_report_save(&report, scratch("errors.jsonl"));
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
    if (status == NN_OK) status = nn_cache_save(c, scratch("latents"));
    nn_cache_close(c);
    if (status == NN_OK) status = nn_cache_load(scratch("latents"), 1, dims, &again);
    if (status == NN_OK) nn_cache_close(again);
    return status;
}

static void look_at_tar(const char *path)
{
    nn_shard_report report = { 0 };
    nn_shards *shards;
    assert_int_equal(nn_shards_open(path, NULL, &report, &shards), NN_OK);
    assert_int_equal(report.count[NN_SHARD_DAMAGED], 0);
    assert_int_equal(nn_shards_count(shards) + nn_shard_report_total(&report), PER_SHARD);
    nn_shards_close(shards);
    nn_shard_report_free(&report);
}

/* Every tar must be whole, and there may be no other file. */
static void look_at_shards(void)
{
    char **names;
    int64_t n;
    assert_int_equal(nn_file_list(scratch_path, &names, &n), NN_OK);
    for (int64_t i = 0; i < n; i++) {
        if (!nn_ends_with(names[i], ".tar")) fail_msg("%s was left behind", names[i]);
        look_at_tar(scratch(names[i]));
        assert_int_equal(nn_file_remove(scratch(names[i])), NN_OK);
    }
    nn_file_list_free(names, n);
}

static void look_at_cache(void)
{
    nn_cache *c;
    if (!nn_file_exists(scratch("latents"))) return;
    assert_int_equal(nn_cache_load(scratch("latents"), 1, dims, &c), NN_OK);
    nn_cache_close(c);
    assert_int_equal(nn_file_remove(scratch("latents")), NN_OK);
}

static const torture writing = { write_shards, look_at_shards };
static const torture reading = { read_shards, NULL };
static const torture caching = { use_cache, look_at_cache };

static void shards_are_written(void **state)
{
    (void)state;
    torture_all(&writing, NN_FAULT_NONE, 20);
    torture_all(&writing, NN_FAULT_WRITE, 2 * SAMPLES / PER_SHARD);
    torture_all(&writing, NN_FAULT_RENAME, SAMPLES / PER_SHARD);
}

static void shards_are_read(void **state)
{
    (void)state;
    assert_int_equal(write_shards(), NN_OK);
    torture_all(&reading, NN_FAULT_NONE, 20);
    torture_all(&reading, NN_FAULT_READ, SAMPLES / PER_SHARD);
    torture_all(&reading, NN_FAULT_WRITE, 1);
    torture_all(&reading, NN_FAULT_RENAME, 1);
}

static void a_cache_is_used(void **state)
{
    (void)state;
    torture_all(&caching, NN_FAULT_NONE, 10);
    torture_all(&caching, NN_FAULT_READ, 1);
    torture_all(&caching, NN_FAULT_WRITE, 3);
    torture_all(&caching, NN_FAULT_RENAME, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_written),
        cmocka_unit_test(shards_are_read),
        cmocka_unit_test(a_cache_is_used),
    };
    return cmocka_run_group_tests(tests, torture_make, scratch_remove);
}
