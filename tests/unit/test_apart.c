/* Jobs in child processes: what becomes of those that do not return. */
#include "tests/unit/scratch.h"

#include <signal.h>
#include <unistd.h>

#include "tools/apart.h"

enum { JOBS = 7, DIES = 1, ENDS = 2, HANGS = 4 };

typedef struct shared {
    int done[JOBS], opened, lost[JOBS];
    pid_t process[JOBS];
    char why[JOBS][64];
} shared;

static nn_status open_one(void *ctx)
{
    ((shared *)ctx)->opened++;
    return NN_OK;
}

static nn_status work(void *ctx, int64_t i)
{
    shared *s = ctx;
    s->process[i] = getpid();
    if (i == DIES) raise(SIGKILL);
    if (i == ENDS) _exit(7);
    if (i == HANGS) sleep(1000);
    s->done[i]++;
    return i == 5 ? nn_fail(NN_DEVICE, "gone") : i == 0 ? nn_fail(NN_FORMAT, "its own") : NN_OK;
}

static void lose(void *ctx, int64_t i, const char *why)
{
    shared *s = ctx;
    s->lost[i]++;
    snprintf(s->why[i], sizeof(s->why[i]), "%s", why);
}

static void goes_on_behind_lost_jobs(void **state)
{
    shared *s = apart_shared(sizeof(*s));
    const apart a = {
        .n = JOBS, .seconds = 1, .ctx = s, .open = open_one, .job = work, .lost = lose
    };
    (void)state;
    assert_non_null(s);
    assert_int_equal(apart_run(&a), NN_OK);
    for (int i = 0; i < JOBS; i++) {
        bool is_lost = i == DIES || i == ENDS || i == HANGS;
        assert_int_equal(s->done[i], !is_lost);
        assert_int_equal(s->lost[i], is_lost);
    }
    assert_string_equal(s->why[DIES], "was killed by signal 9");
    assert_string_equal(s->why[ENDS], "ended its process with code 7");
    assert_string_equal(s->why[HANGS], "took more than 1 s");
    assert_int_equal(s->opened, 5); /* at first, behind each lost job, and behind the lost device */
    assert_true(s->process[0] == s->process[1]);
    assert_true(s->process[5] != s->process[6]);
}

static void gives_each_job_a_process(void **state)
{
    shared *s = apart_shared(sizeof(*s));
    const apart a = { .n = 1, .each = true, .ctx = s, .job = work, .lost = lose };
    const apart none = { .n = 0, .ctx = s, .job = work, .lost = lose };
    (void)state;
    assert_int_equal(apart_run(&none), NN_OK);
    assert_int_equal(s->done[0], 0);
    assert_int_equal(apart_run(&a), NN_OK);
    assert_int_equal(s->done[0], 1);
    assert_true(s->process[0] != getpid());
}

static nn_status refuse(void *ctx)
{
    (void)ctx;
    return nn_fail(NN_UNSUPPORTED, "no such device");
}

static void ends_where_nothing_opens(void **state)
{
    shared *s = apart_shared(sizeof(*s));
    const apart a = { .n = 3, .ctx = s, .open = refuse, .job = work, .lost = lose };
    (void)state;
    assert_int_equal(apart_run(&a), NN_UNSUPPORTED);
    assert_string_equal(nn_error_message(), "no such device");
    assert_int_equal(s->done[0] + s->lost[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(goes_on_behind_lost_jobs),
                                        cmocka_unit_test(gives_each_job_a_process),
                                        cmocka_unit_test(ends_where_nothing_opens) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
