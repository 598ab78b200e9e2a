/* What a run that goes on must share with the one before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/trainer.h"

static trainer_settings set;
static const char *data;
static const nn_option options[] = {
    { .name = "train-data", .text = &data },
    TRAINER_OPTIONS(set),
    { 0 },
};

static nn_text describe(void)
{
    nn_text text = { 0 };
    const trainer t = { .set = set, .options = options, .start = 0xabc, .n_samples = 7 };
    assert_int_equal(trainer_describe(&t, &text), NN_OK);
    return text;
}

static int start(void **state)
{
    (void)state;
    set = (trainer_settings){ TRAINER_DEFAULTS, .lr = 0.1, .steps = 100, .output = "out" };
    data = "shards";
    return 0;
}

/* Whether a run that began as start() leaves it may go on as the settings are now. */
static bool may_go_on(void)
{
    const trainer_settings now = set;
    const char *data_now = data;
    nn_text second = describe();
    start(NULL);
    nn_text first = describe();
    set = now;
    data = data_now;
    nn_status status = trainer_compare("out/checkpoints", first.text, second.text);
    nn_text_free(&first);
    nn_text_free(&second);
    assert_true(status == NN_OK || status == NN_ARGUMENT);
    return status == NN_OK;
}

static void everything_that_counts(void **state)
{
    static double *const reals[] = { &set.lr,           &set.beta1,     &set.beta2,    &set.eps,
                                     &set.weight_decay, &set.clip_norm, &set.ema_decay };
    static int64_t *const numbers[] = { &set.batch, &set.accumulate, &set.warmup, &set.seed };
    (void)state;
    assert_true(may_go_on());
    for (int i = 0; i < NN_COUNT(reals); i++) {
        start(NULL);
        *reals[i] += 1e-15; /* the least change has another result */
        assert_false(may_go_on());
    }
    for (int i = 0; i < NN_COUNT(numbers); i++) {
        start(NULL);
        ++*numbers[i];
        assert_false(may_go_on());
    }
}

static void what_does_not_count(void **state)
{
    (void)state;
    set.output = "elsewhere";
    set.on.name = "ref";
    set.on.threads = 3;
    set.checkpoint_every = 1;
    set.keep = 9;
    set.profile = true;
    assert_true(may_go_on());
}

/* A constant rate does not know where the training ends. */
static void longer_trainings(void **state)
{
    (void)state;
    set.steps = 200;
    assert_true(may_go_on());
    set.schedule = NN_LR_LINEAR;
    assert_false(may_go_on());
    assert_non_null(
        strstr(nn_error_message(), "--lr-scheduler was 'constant' and is now 'linear'"));
    assert_non_null(strstr(nn_error_message(), "--max-train-steps was not set and is now '200'"));
}

static void both_values_are_named(void **state)
{
    (void)state;
    set.seed = 4;
    data = "a=b";
    assert_false(may_go_on());
    assert_non_null(strstr(nn_error_message(), "out/checkpoints"));
    assert_non_null(strstr(nn_error_message(), "--seed was '0' and is now '4'"));
    assert_non_null(strstr(nn_error_message(), "--train-data was 'shards' and is now 'a=b'"));
    assert_null(strstr(nn_error_message(), "--learning-rate"));
}

static void other_descriptions(void **state)
{
    static const struct {
        const char *saved, *now, *words;
    } cases[] = {
        { "a=1\n", "a=1\nb=2\n", "b was not set and is now '2'" },
        { "a=1\nb=2\n", "a=1\n", "b was '2' and is now not set" },
        { "ab=1\n", "a=1\n", "a was not set and is now '1'; ab was '1' and is now not set" },
        { "vae shards 12", "a=\n", "a was not set and is now ''" },
        { "", "a=1\n", "a was not set and is now '1'" },
        { "a=1\nb=2\n", "b=2\na=1\n", "order" },
    };
    (void)state;
    assert_int_equal(trainer_compare("out", "a=1\n", "a=1\n"), NN_OK);
    for (int i = 0; i < NN_COUNT(cases); i++) {
        assert_int_equal(trainer_compare("out", cases[i].saved, cases[i].now), NN_ARGUMENT);
        if (!strstr(nn_error_message(), cases[i].words)) fail_msg("%s", nn_error_message());
    }
}

/* All samples of an update are done by somebody, and passes are those of one rank where they can
 * be. */
static void updates_are_shared(void **state)
{
    static const struct {
        int64_t batch, accumulate, global;
        int ranks;
        int64_t own_batch, own_passes; /* 0 = refused */
    } cases[] = {
        { 64, 1, 0, 1, 64, 1 },  { 64, 1, 0, 4, 16, 1 }, { 4, 8, 0, 4, 4, 2 },
        { 4, 6, 0, 4, 3, 2 },    { 8, 3, 0, 2, 6, 2 },   { 8, 1, 512, 16, 8, 4 },
        { 8, 1, 512, 64, 8, 1 }, { 7, 1, 7, 7, 1, 1 },   { 4, 2, 0, 3, 0, 0 },
        { 5, 1, 8, 1, 0, 0 },    { 64, 1, 32, 1, 0, 0 },
    };
    (void)state;
    for (int i = 0; i < NN_COUNT(cases); i++) {
        trainer_settings s = { .batch = cases[i].batch,
                               .accumulate = cases[i].accumulate,
                               .global_batch = cases[i].global,
                               .ranks.n = cases[i].ranks };
        const nn_status status = trainer_share(&s);
        assert_int_equal(status, cases[i].own_batch ? NN_OK : NN_ARGUMENT);
        if (status != NN_OK) continue;
        assert_int_equal(s.ranks.batch, cases[i].own_batch);
        assert_int_equal(s.ranks.passes, cases[i].own_passes);
        assert_int_equal(s.batch * s.accumulate,
                         cases[i].own_batch * cases[i].own_passes * cases[i].ranks);
    }
}

/* What is chosen for a memory (tools/trainer_fit.h) cuts the same updates into more passes. */
static void passes_may_be_smaller(void **state)
{
    static const struct {
        int64_t most;
        int ranks;
        int64_t own_batch, own_passes;
    } cases[] = { { 64, 1, 64, 8 }, { 4, 1, 4, 128 }, { 6, 1, 4, 128 }, { 4, 8, 4, 16 },
                  { 3, 8, 2, 32 },  { 1, 8, 1, 64 },  { 9, 3, 0, 0 } };
    (void)state;
    for (int i = 0; i < NN_COUNT(cases); i++) {
        trainer_settings s = { .batch = 64,
                               .global_batch = 512,
                               .ranks = { .n = cases[i].ranks, .most = cases[i].most } };
        assert_int_equal(trainer_share(&s), cases[i].own_batch ? NN_OK : NN_ARGUMENT);
        assert_int_equal(s.batch, 64); /* timesteps and noise are drawn by it */
        if (!cases[i].own_batch) continue;
        assert_int_equal(s.ranks.batch, cases[i].own_batch);
        assert_int_equal(s.ranks.passes, cases[i].own_passes);
    }
}

static void refusals_name_the_divisors(void **state)
{
    trainer_settings s = { .batch = 6, .accumulate = 2, .ranks.n = 5 };
    (void)state;
    assert_int_equal(trainer_share(&s), NN_ARGUMENT);
    assert_non_null(strstr(nn_error_message(), "5 ranks cannot share an update of 12 samples"));
    assert_non_null(strstr(nn_error_message(), "1, 2, 3, 4, 6 or 12 ranks"));
    s = (trainer_settings){ .batch = 4, .global_batch = 7, .ranks.n = 1 };
    assert_int_equal(trainer_share(&s), NN_ARGUMENT);
    assert_non_null(strstr(nn_error_message(), "its divisors are 1 or 7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_that_counts, start),
        cmocka_unit_test_setup(what_does_not_count, start),
        cmocka_unit_test_setup(longer_trainings, start),
        cmocka_unit_test_setup(both_values_are_named, start),
        cmocka_unit_test_setup(other_descriptions, start),
        cmocka_unit_test(updates_are_shared),
        cmocka_unit_test(passes_may_be_smaller),
        cmocka_unit_test(refusals_name_the_divisors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
