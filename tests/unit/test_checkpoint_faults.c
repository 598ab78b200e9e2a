/* What can be wrong with the directory of checkpoints, or with the disk: the newest one that is
 * whole is found, nothing that is whole is lost, and whoever saves is told. */
#include "tests/unit/checkpoint_check.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "engine/weights.h"

/* -- what may lie in the directory */

static void write_name(const bench *b, const char *name, const void *bytes, int64_t n)
{
    char *path = path_of(b, name);
    OK(nn_file_write(path, bytes, n));
    nn_free(path);
}

/* Going on finds step 7, after so many warnings. */
static void finds_seven(const bench *b, int expected)
{
    nn_checkpoint c = { 0 };
    int warnings = 0;
    bool found;
    nn_log_open(count_warnings, &warnings, NN_LOG_WARN);
    OK(nn_checkpoint_resume(b->directory, &c, b->optimizer, &found));
    nn_log_open(NULL, NULL, NN_LOG_WARN);
    assert_true(found);
    assert_int_equal(c.step, 7);
    assert_int_equal(warnings, expected);
    nn_free(c.config);
}

static void other_files_are_passed_over(void **state)
{
    bench b = { 0 }, wide = { 0 };
    char *bytes;
    int64_t n;
    (void)state;
    open_bench(&b, 5, true);
    open_bench(&wide, 6, true);
    save(&b, 7, 0);
    char *path = path_of(&b, "step-00000007.safetensors");
    OK(nn_file_read(path, 1 << 20, &bytes, &n));
    nn_free(path);

    /* Not called like checkpoints. */
    write_name(&b, "notes.txt", "hello", 5);
    write_name(&b, "step-00000009.safetensors.part-1", bytes, n / 2);
    write_name(&b, "step-final.safetensors", bytes, n);
    finds_seven(&b, 0);

    /* Called so, but no such thing. */
    write_name(&b, "step-00000009.safetensors", bytes, 0);
    finds_seven(&b, 1);
    write_name(&b, "step-00000009.safetensors", bytes, n / 2);
    finds_seven(&b, 1);
    write_name(&b, "step-00000010.safetensors", "PK\003\004 a picture", 14);
    finds_seven(&b, 2);
    path = path_of(&b, "step-00000011.safetensors");
    OK(nn_params_save(b.params, path, NULL, 0, NN_F32));
    finds_seven(&b, 3);
    nn_free(path);
    path = path_of(&b, "step-00000012.safetensors");
    assert_int_equal(mkdir(path, 0755), 0);
    finds_seven(&b, 4);
    assert_int_equal(rmdir(path), 0);
    nn_free(path);

    /* Of another model. */
    nn_checkpoint other = { .step = 13 };
    OK(nn_checkpoint_save(b.directory, 0, &other, wide.optimizer));
    finds_seven(&b, 4);
    nn_free(bytes);
    close_bench(&b);
    close_bench(&wide);
}

/* A bit of every tensor, of the header and of the checksums. */
static void damage_is_found_and_named(void **state)
{
    static const char *const names[] = { "tensor 'net.weight'",         "tensor 'net.bias'",
                                         "tensor 'adamw.m.net.weight'", "tensor 'adamw.m.net.bias'",
                                         "tensor 'adamw.v.net.weight'", "tensor 'adamw.v.net.bias'",
                                         "tensor 'ema.net.weight'",     "tensor 'ema.net.bias'",
                                         "its table of checksums" };
    bool seen[NN_COUNT(names)] = { false };
    bench b = { 0 };
    nn_checkpoint c = { 0 };
    float before[64];
    char *bytes;
    int64_t n;
    (void)state;
    open_bench(&b, 5, true);
    save(&b, 7, 0);
    save(&b, 9, 0);
    char *path = path_of(&b, "step-00000009.safetensors");
    OK(nn_file_read(path, 1 << 20, &bytes, &n));
    memcpy(before, b.optimizer->m, 15 * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        bytes[i] ^= 4;
        OK(nn_file_write(path, bytes, n));
        bytes[i] ^= 4;
        FAILS(NN_FORMAT, nn_checkpoint_load(path, &c, b.optimizer));
        MESSAGE_HAS(path);
        for (int k = 0; k < NN_COUNT(names); k++)
            seen[k] = seen[k] || strstr(nn_error_message(), names[k]);
        assert_memory_equal(before, b.optimizer->m, 15 * sizeof(float));
    }
    for (int k = 0; k < NN_COUNT(names); k++) assert_true(seen[k]);
    finds_seven(&b, 1); /* the last byte is still damaged on disk */
    nn_free(bytes);
    nn_free(path);
    close_bench(&b);
}

/* -- a thread that saves */

static void wait_for(nn_saver *s, nn_status expected)
{
    nn_saved saved;
    assert_true(nn_saver_is_busy(s));
    nn_saver_wait(s, &saved);
    if (saved.status != expected) fail_msg("%s", saved.message);
    assert_false(nn_saver_is_busy(s));
    assert_false(nn_saver_is_done(s));
}

/* What is saved is the state of the moment, whatever becomes of it; the bytes are those of the
 * foreground. */
static void background_saves_the_moment(void **state)
{
    bench b = { 0 };
    nn_checkpoint c = { 5, 2, 17, 3, (char *)"a=1\n" };
    nn_saver *s;
    char *expected, *bytes;
    int64_t n, m;
    (void)state;
    open_bench(&b, 5, true);
    b.optimizer->step = 4;
    char *path = path_of(&b, "step-00000005.safetensors");
    OK(nn_checkpoint_save(b.directory, 0, &c, b.optimizer));
    OK(nn_file_read(path, 1 << 20, &expected, &n));
    OK(nn_file_remove(path));
    OK(nn_saver_create(b.directory, 2, b.optimizer, &s));
    for (int i = 0; i < 20; i++) {
        OK(nn_saver_start(s, &c));
        b.optimizer->step = 99;
        float kept = b.params->values[0], kept_m = b.optimizer->m[3];
        b.params->values[0] = 1e9f;
        b.optimizer->m[3] = 1e9f;
        wait_for(s, NN_OK);
        b.optimizer->step = 4;
        b.params->values[0] = kept;
        b.optimizer->m[3] = kept_m;
        OK(nn_file_read(path, 1 << 20, &bytes, &m));
        assert_int_equal(n, m);
        assert_memory_equal(expected, bytes, (size_t)n);
        nn_free(bytes);
    }
    c.step = 6;
    OK(nn_saver_start(s, &c));
    nn_saver_destroy(s); /* waits */
    assert_files(&b, "step-00000005.safetensors step-00000006.safetensors");
    nn_free(expected);
    nn_free(path);
    close_bench(&b);
}

static void background_failures_are_told(void **state)
{
    bench b = { 0 };
    nn_checkpoint c = { .step = 8 };
    nn_saver *s;
    (void)state;
    open_bench(&b, 5, true);
    save(&b, 7, 1);
    OK(nn_saver_create(b.directory, 1, b.optimizer, &s));
    nn_file_fail_at(NN_FAULT_WRITE, 2);
    OK(nn_saver_start(s, &c));
    wait_for(s, NN_IO);
    nn_file_fail_at(NN_FAULT_NONE, 0);
    assert_files(&b, "step-00000007.safetensors");
    OK(nn_saver_start(s, &c));
    wait_for(s, NN_OK);
    assert_files(&b, "step-00000008.safetensors");
    nn_saver_destroy(s);
    for (int k = 1; k <= 8; k++) {
        nn_alloc_fail_at(k);
        const nn_status status = nn_saver_create(b.directory, 1, b.optimizer, &s);
        nn_alloc_fail_at(0);
        assert_int_equal(status, k < 7 ? NN_MEMORY : NN_OK);
        if (status == NN_OK) nn_saver_destroy(s);
    }
    close_bench(&b);
}

/* -- a disk that is full */

enum { WIDE = 20000 }; /* a checkpoint of almost a megabyte */

/* The next save fails, says so, and leaves the one before and no piece of its own; when there is
 * room again the one after it is saved. */
static void survives(const bench *b, void (*free_room)(const bench *b), const char *saying)
{
    nn_checkpoint c = { .step = 8 };
    FAILS(NN_IO, nn_checkpoint_save(b->directory, 1, &c, b->optimizer));
    MESSAGE_HAS("step-00000008.safetensors");
    MESSAGE_HAS(saying);
    MESSAGE_HAS("the file needs 1.0 MB, and ");
    finds_seven(b, 0);
    free_room(b);
    assert_files(b, "step-00000007.safetensors");
    c.step = 9;
    OK(nn_checkpoint_save(b->directory, 1, &c, b->optimizer));
    assert_files(b, "step-00000009.safetensors");
}

static void raise_limit(const bench *b)
{
    struct rlimit limit;
    (void)b;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_file_that_may_not_grow(void **state)
{
    bench b = { 0 };
    struct rlimit limit;
    (void)state;
    open_bench(&b, WIDE, true);
    save(&b, 7, 1);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 500000;
    setrlimit(RLIMIT_FSIZE, &limit);
    survives(&b, raise_limit, "File too large");
    close_bench(&b);
}

static void remove_ballast(const bench *b)
{
    char *path = path_of(b, "ballast");
    OK(nn_file_remove(path));
    nn_free(path);
}

/* A file system of 3 MB on the directory, which nobody else sees and which ends with this program;
 * for those who may mount one. */
static bool make_small(const bench *b)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", b->directory, "tmpfs", 0, "size=3m") == 0;
}

static void a_full_disk(void **state)
{
    bench b = { 0 };
    (void)state;
    open_bench(&b, WIDE, true);
    if (!make_small(&b)) {
        close_bench(&b);
        skip();
    }
    save(&b, 7, 1);
    char *ballast = nn_alloc(1500000, 1);
    write_name(&b, "ballast", ballast, 1500000);
    nn_free(ballast);
    survives(&b, remove_ballast, "No space left on device");
    assert_int_equal(umount(b.directory), 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_files_are_passed_over),
        cmocka_unit_test(damage_is_found_and_named),
        cmocka_unit_test(background_saves_the_moment),
        cmocka_unit_test(background_failures_are_told),
        cmocka_unit_test(a_file_that_may_not_grow),
        cmocka_unit_test(a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
