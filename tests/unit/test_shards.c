/* Shards: what is written is read back; what is broken is skipped, counted and listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/shards.h"
#include "engine/base/alloc.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_shards.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char **names, path[512];
    int64_t n;
    if (nn_file_list(folder, &names, &n) != NN_OK) return -1;
    for (int64_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    nn_file_list_free(names, n);
    return rmdir(folder);
}

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int next;
    char *out = path[next++ % 4];
    snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
    return out;
}

/* A tar by hand, so that it can hold what no writer writes. */
typedef struct tar {
    nn_text bytes;
} tar;

static void add_type(tar *t, const char *name, const char *data, int64_t n, char type)
{
    char block[512] = { 0 };
    snprintf(block, 100, "%s", name);
    memcpy(block + 100,
           "0000644\0"
           "0000000\0"
           "0000000\0",
           24);
    snprintf(block + 124, 12, "%011o", (unsigned)n);
    memcpy(block + 136, "00000000000", 12);
    memset(block + 148, ' ', 8);
    block[156] = type;
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++) sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum & 0777777u);
    assert_int_equal(nn_text_add_bytes(&t->bytes, block, 512), NN_OK);
    static const char zeros[512];
    assert_int_equal(nn_text_add_bytes(&t->bytes, data, n), NN_OK);
    assert_int_equal(nn_text_add_bytes(&t->bytes, zeros, (512 - n % 512) % 512), NN_OK);
}

static void add(tar *t, const char *name, const char *data)
{
    add_type(t, name, data, (int64_t)strlen(data), '0');
}

static nn_shards *close_tar(tar *t, nn_shard_report *report)
{
    static const char zeros[1024];
    nn_shards *shards = NULL;
    assert_int_equal(nn_text_add_bytes(&t->bytes, zeros, 1024), NN_OK);
    assert_int_equal(
        nn_shards_open_memory(t->bytes.text, t->bytes.length, "t.tar", NULL, report, &shards),
        NN_OK);
    return shards;
}

static void clean(tar *t, nn_shards *shards, nn_shard_report *report)
{
    nn_shards_close(shards);
    nn_shard_report_free(report);
    nn_text_free(&t->bytes);
}

static void assert_span(nn_span span, const char *text)
{
    assert_int_equal(span.n, strlen(text));
    assert_memory_equal(span.data, text, strlen(text));
}

static nn_sample sample(const char *key, const char *image, const char *alt, const char *json)
{
    return (nn_sample){ .key = key,
                        .format = "png",
                        .image = { image, (int64_t)strlen(image) },
                        .alt = { alt, alt ? (int64_t)strlen(alt) : 0 },
                        .json = { json, json ? (int64_t)strlen(json) : 0 } };
}

static void write_shards(const char *prefix, int n, int per_shard)
{
    nn_shard_writer *w;
    assert_int_equal(nn_shard_writer_open(prefix, per_shard, &w), NN_OK);
    for (int i = 0; i < n; i++) {
        char key[32], image[32];
        snprintf(key, sizeof(key), "dir/%06d", i);
        snprintf(image, sizeof(image), "image %d", i);
        nn_sample s = sample(key, image, i % 2 ? "a cat" : NULL, "{\"captions\": {}}");
        assert_int_equal(nn_shard_writer_add(w, &s), NN_OK);
    }
    assert_int_equal(nn_shard_writer_close(w), NN_OK);
}

static void reads_what_it_wrote(void **state)
{
    (void)state;
    write_shards(in_folder("a"), 5, 2);
    nn_shard_report report = { 0 };
    nn_shards *shards;
    assert_int_equal(nn_shards_open(in_folder("a-{000000..000002}.tar"), NULL, &report, &shards),
                     NN_OK);
    assert_int_equal(nn_shards_count(shards), 5);
    for (int i = 0; i < 5; i++) {
        char key[32], image[32];
        const nn_sample *s = nn_shards_at(shards, i);
        snprintf(key, sizeof(key), "dir/%06d", i);
        snprintf(image, sizeof(image), "image %d", i);
        assert_string_equal(s->key, key);
        assert_string_equal(s->format, "png");
        assert_span(s->image, image);
        assert_span(s->json, "{\"captions\": {}}");
        if (i % 2)
            assert_span(s->alt, "a cat");
        else
            assert_null(s->alt.data);
        assert_true(nn_ends_with(s->shard, i < 2 ? "0.tar" : i < 4 ? "1.tar" : "2.tar"));
    }
    assert_int_not_equal(nn_shards_at(shards, 0)->id, nn_shards_at(shards, 1)->id);
    assert_int_equal(nn_shard_report_total(&report), 0);
    nn_shards_close(shards);

    assert_int_equal(nn_shards_open(folder, NULL, &report, &shards), NN_OK);
    assert_int_equal(nn_shards_count(shards), 5);
    nn_shards_close(shards);
    assert_int_not_equal(
        nn_shards_open(in_folder("a-{000000..000003}.tar"), NULL, &report, &shards), NN_OK);
}

static void writes_equal_bytes(void **state)
{
    (void)state;
    char *first, *second;
    int64_t n, m;
    write_shards(in_folder("b"), 3, 10);
    assert_int_equal(nn_file_read(in_folder("b-000000.tar"), 1 << 20, &first, &n), NN_OK);
    write_shards(in_folder("b"), 3, 10);
    assert_int_equal(nn_file_read(in_folder("b-000000.tar"), 1 << 20, &second, &m), NN_OK);
    assert_int_equal(n, m);
    assert_memory_equal(first, second, (size_t)n);
    nn_free(first);
    nn_free(second);
}

static void aborting_leaves_nothing(void **state)
{
    (void)state;
    nn_shard_writer *w;
    nn_sample s = sample("1", "x", "y", NULL);
    assert_int_equal(nn_shard_writer_open_file(in_folder("c.tar"), &w), NN_OK);
    assert_int_equal(nn_shard_writer_add(w, &s), NN_OK);
    nn_shard_writer_abort(w);
    char **names;
    int64_t n;
    assert_int_equal(nn_file_list(folder, &names, &n), NN_OK);
    for (int64_t i = 0; i < n; i++) assert_false(nn_starts_with(names[i], "c.tar"));
    nn_file_list_free(names, n);
}

static void refuses_keys_that_do_not_read_back(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "/a", "../a", "a/../b", "a.b", "a/", "./a", "\xff" };
    static const char *const good[] = { "a", "a/b", "a.d/b", "..a/b", "\xc3\xa9" };
    for (int i = 0; i < NN_COUNT(bad); i++) assert_false(nn_shard_key_valid(bad[i]));
    for (int i = 0; i < NN_COUNT(good); i++) assert_true(nn_shard_key_valid(good[i]));
    nn_shard_writer *w;
    nn_sample s = sample("a.b", "x", "y", NULL);
    assert_int_equal(nn_shard_writer_open(in_folder("d"), 1, &w), NN_OK);
    assert_int_equal(nn_shard_writer_add(w, &s), NN_ARGUMENT);
    nn_shard_writer_abort(w);
}

static void reads_what_others_write(void **state)
{
    (void)state;
    tar t = { 0 };
    nn_shard_report report = { 0 };
    add_type(&t, "./", "", 0, '5');
    add(&t, "./x/1.JPG", "one");
    add(&t, "./x/1.cls", "3");
    add(&t, "./x/1.txt", "a dog");
    add(&t, "README", "text");
    add(&t, "._2.png", "apple");
    add(&t, "2.webp", "two");
    add(&t, "2.txt", "");
    nn_shards *shards = close_tar(&t, &report);
    assert_int_equal(nn_shard_report_total(&report), 0);
    assert_int_equal(nn_shards_count(shards), 2);
    assert_string_equal(nn_shards_at(shards, 0)->key, "x/1");
    assert_string_equal(nn_shards_at(shards, 0)->format, "jpg");
    assert_span(nn_shards_at(shards, 0)->alt, "a dog");
    assert_string_equal(nn_shards_at(shards, 1)->format, "webp");
    clean(&t, shards, &report);
}

static void skips_and_counts_each_fault(void **state)
{
    (void)state;
    tar t = { 0 };
    nn_shard_report report = { 0 };
    char *large = nn_alloc((64 << 10) + 2, 1);
    memset(large, 'x', (64 << 10) + 1);
    add(&t, "/etc/1.png", "absolute");
    add(&t, "a/../../2.png", "up");
    add(&t, "3.png", "no caption");
    add(&t, "4.txt", "no image");
    add(&t, "5.png", "five"), add(&t, "5.txt", "good");
    add(&t, "6.png", "six"), add(&t, "6.txt", large);
    add(&t, "5.png", "again"), add(&t, "5.txt", "a second five");
    add(&t, "7.png", "seven"), add(&t, "7.png", "seven twice"), add(&t, "7.txt", "x");
    add_type(&t, "8.png", "", 0, '2'), add(&t, "8.txt", "a link");
    add(&t, "9.png", ""), add(&t, "9.txt", "no bytes");
    add(&t, "a.png", "ten"), add(&t, "a.json", "{}");
    nn_shards *shards = close_tar(&t, &report);
    assert_int_equal(nn_shards_count(shards), 2);
    assert_string_equal(nn_shards_at(shards, 0)->key, "5");
    assert_span(nn_shards_at(shards, 0)->image, "five");
    assert_string_equal(nn_shards_at(shards, 1)->key, "a");
    assert_int_equal(report.count[NN_SHARD_NAME], 2);
    assert_int_equal(report.count[NN_SHARD_NO_CAPTION], 1);
    assert_int_equal(report.count[NN_SHARD_NO_IMAGE], 1);
    assert_int_equal(report.count[NN_SHARD_SIZE], 1);
    assert_int_equal(report.count[NN_SHARD_DUPLICATE], 2);
    assert_int_equal(report.count[NN_SHARD_MEMBER], 2);
    assert_int_equal(nn_shard_report_total(&report), 9);

    char *listing;
    int64_t n, lines = 0;
    const char *path = in_folder("t.errors.jsonl");
    assert_int_equal(nn_shard_report_save(&report, path), NN_OK);
    assert_int_equal(nn_file_read(path, 1 << 20, &listing, &n), NN_OK);
    for (int64_t i = 0; i < n; i++) lines += listing[i] == '\n';
    assert_int_equal(lines, 9);
    assert_non_null(strstr(listing, "{\"shard\": \"t.tar\", \"member\": \"/etc/1.png\", "
                                    "\"fault\": \"unsafe-name\""));
    nn_free(listing);
    nn_free(large);
    clean(&t, shards, &report);
    assert_int_equal(nn_shard_report_save(&report, path), NN_OK);
    assert_false(nn_file_exists(path));
}

static void strict_stops_at_the_first(void **state)
{
    (void)state;
    tar t = { 0 };
    nn_shard_report report = { .strict = true };
    nn_shards *shards;
    static const char zeros[1024];
    add(&t, "3.png", "no caption");
    assert_int_equal(nn_text_add_bytes(&t.bytes, zeros, 1024), NN_OK);
    assert_int_equal(
        nn_shards_open_memory(t.bytes.text, t.bytes.length, "t.tar", NULL, &report, &shards),
        NN_FORMAT);
    assert_non_null(strstr(nn_error_message(), "t.tar: 3: no-caption"));
    nn_text_free(&t.bytes);
}

/* Cut anywhere, a shard loses its end, says so, and every sample that is left is whole. */
static void survives_any_cut(void **state)
{
    (void)state;
    tar t = { 0 };
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%d.png", i), add(&t, name, "image");
        snprintf(name, sizeof(name), "%d.txt", i), add(&t, name, "text");
        snprintf(name, sizeof(name), "%d.json", i), add(&t, name, "{\"captions\": {}}");
    }
    int64_t most = 0;
    for (int64_t cut = 0; cut < t.bytes.length; cut += cut % 512 ? 511 : 1) {
        nn_shard_report report = { 0 };
        nn_shards *shards;
        char *copy = nn_alloc(cut, 1); /* of its own, so that a sanitizer sees a read beyond */
        memcpy(copy, t.bytes.text, (size_t)cut);
        assert_int_equal(nn_shards_open_memory(copy, cut, "t.tar", NULL, &report, &shards), NN_OK);
        assert_int_equal(report.count[NN_SHARD_DAMAGED], 1);
        for (int64_t i = 0; i < nn_shards_count(shards); i++)
            assert_span(nn_shards_at(shards, i)->json, "{\"captions\": {}}");
        most = nn_max(most, nn_shards_count(shards));
        nn_shards_close(shards);
        nn_shard_report_free(&report);
        nn_free(copy);
    }
    assert_int_equal(most, 3);
    nn_text_free(&t.bytes);
}

static void expands_lists(void **state)
{
    (void)state;
    char **paths;
    int64_t n;
    assert_int_equal(nn_shards_expand("x-{a,b}-{08..11}.tar", &paths, &n), NN_OK);
    assert_int_equal(n, 8);
    assert_string_equal(paths[0], "x-a-08.tar");
    assert_string_equal(paths[7], "x-b-11.tar");
    nn_file_list_free(paths, n);
    static const char *const bad[] = { "{",       "{1..", "{3..1}",  "{a..b}",       "{..}",
                                       "{1..2x}", "{}",   "{-1..2}", "{0..9999999}", "{1...3}" };
    for (int i = 0; i < NN_COUNT(bad); i++)
        assert_int_equal(nn_shards_expand(bad[i], &paths, &n), NN_ARGUMENT);
}

/* Keys in any script; the locale of this program is "C". */
static void names_in_any_script(void **state)
{
    static const char *const keys[] = { "Füße/é", "猫", "🐱" };
    nn_shard_writer *w;
    nn_shards *shards;
    nn_shard_report report = { 0 };
    (void)state;
    assert_int_equal(nn_shard_writer_open(in_folder("u"), 9, &w), NN_OK);
    for (int i = 0; i < NN_COUNT(keys); i++) {
        const nn_sample s = sample(keys[i], "image", "ein Fuß", NULL);
        assert_int_equal(nn_shard_writer_add(w, &s), NN_OK);
    }
    assert_int_equal(nn_shard_writer_close(w), NN_OK);
    assert_int_equal(nn_shards_open(in_folder("u-000000.tar"), NULL, &report, &shards), NN_OK);
    assert_int_equal(nn_shards_count(shards), NN_COUNT(keys));
    for (int i = 0; i < NN_COUNT(keys); i++)
        assert_string_equal(nn_shards_at(shards, i)->key, keys[i]);
    assert_int_equal(nn_shard_report_total(&report), 0);
    nn_shards_close(shards);
}

/* What commands write is what files have: the same samples, with the same ids. */
static void reads_from_commands(void **state)
{
    char spec[512];
    nn_shards *files, *piped;
    nn_shard_report report = { 0 };
    (void)state;
    write_shards(in_folder("piped"), 7, 3);
    snprintf(spec, sizeof(spec), "%s/piped-{000000..000002}.tar", folder);
    assert_int_equal(nn_shards_open(spec, NULL, &report, &files), NN_OK);
    snprintf(spec, sizeof(spec), "pipe:cat %s/piped-{000000..000002}.tar", folder);
    assert_int_equal(nn_shards_open(spec, NULL, &report, &piped), NN_OK);
    assert_int_equal(nn_shards_count(piped), 7);
    assert_true(nn_shards_hash(piped, 0) == nn_shards_hash(files, 0));
    for (int i = 0; i < 7; i++) {
        const nn_sample *a = nn_shards_at(files, i), *b = nn_shards_at(piped, i);
        assert_true(nn_sample_content(a) == nn_sample_content(b));
    }
    assert_int_equal(nn_shard_report_total(&report), 0);
    nn_shards_close(piped);
    nn_shards_close(files);
}

static void commands_that_fail(void **state)
{
    nn_shards *shards;
    nn_shard_report report = { 0 };
    (void)state;
    assert_int_equal(nn_shards_open("pipe:exit 22", NULL, &report, &shards), NN_IO);
    assert_non_null(strstr(nn_error_message(), "pipe:exit 22: the command ended with code 22"));
    assert_int_equal(nn_shards_open("pipe:kill -9 $$", NULL, &report, &shards), NN_IO);
    assert_non_null(strstr(nn_error_message(), "was killed by signal 9"));
    assert_int_equal(nn_shards_open("pipe:true", NULL, &report, &shards), NN_OK);
    assert_int_equal(report.count[NN_SHARD_DAMAGED], 1); /* as an empty file is */
    nn_shards_close(shards);
    nn_shard_report_free(&report);
    setenv("TMPDIR", "/nonexistent", 1);
    assert_int_equal(nn_shards_open("pipe:true", NULL, &report, &shards), NN_IO);
    assert_non_null(strstr(nn_error_message(), "/nonexistent/recap-shard"));
    unsetenv("TMPDIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_wrote),
        cmocka_unit_test(writes_equal_bytes),
        cmocka_unit_test(aborting_leaves_nothing),
        cmocka_unit_test(refuses_keys_that_do_not_read_back),
        cmocka_unit_test(reads_what_others_write),
        cmocka_unit_test(skips_and_counts_each_fault),
        cmocka_unit_test(strict_stops_at_the_first),
        cmocka_unit_test(survives_any_cut),
        cmocka_unit_test(expands_lists),
        cmocka_unit_test(names_in_any_script),
        cmocka_unit_test(reads_from_commands),
        cmocka_unit_test(commands_that_fail),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
