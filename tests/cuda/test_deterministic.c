/* Equal runs give equal bits on the cuda device, in whatever order the GPU runs blocks and streams:
 * training steps of the demo's networks under schedules that the simulator draws from
 * CUSIM_SEED. Each runs in a process of its own, since the seed is read once.
 *     test_deterministic         diffusion in f32, captioner in bf16
 *     test_deterministic slow    the other way round */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda/demo_nets.h"

/* Hash of losses, gradients and weights. */
static uint64_t train(const subject *s, nn_dtype dtype)
{
    pupil p;
    outcome o = { 0 };
    enrol(&p, s, "cuda", dtype);
    int64_t bytes = p.params->n_elems * (int64_t)sizeof(float);
    learn(&p, s, &o);
    uint64_t hash = nn_hash(0, o.loss, sizeof(o.loss));
    hash = nn_hash(hash, o.norm, sizeof(o.norm));
    hash = nn_hash(hash, o.gradients, bytes);
    hash = nn_hash(hash, o.weights, bytes);
    outcome_free(&o);
    leave(&p);
    return hash;
}

static uint64_t train_under(const char *seed, const subject *s, nn_dtype dtype)
{
    int ends[2], code;
    uint64_t hash = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        setenv("CUSIM_SEED", seed, 1);
        hash = train(s, dtype);
        _exit(write(ends[1], &hash, sizeof(hash)) != sizeof(hash));
    }
    close(ends[1]);
    ssize_t n = read(ends[0], &hash, sizeof(hash));
    close(ends[0]);
    assert_true(waitpid(child, &code, 0) == child);
    assert_int_equal(code, 0);
    assert_int_equal(n, sizeof(hash));
    return hash;
}

static void compare(const subject *s, nn_dtype dtype)
{
    uint64_t hash = train_under("1", s, dtype);
    assert_true(train_under("2", s, dtype) == hash);
}

static void test_fast(void **unused)
{
    (void)unused;
    compare(&subjects[0], NN_F32);
    compare(&subjects[1], NN_BF16);
}

static void test_slow(void **unused)
{
    (void)unused;
    compare(&subjects[0], NN_BF16);
    compare(&subjects[1], NN_F32);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest fast[] = { cmocka_unit_test(test_fast) };
    const struct CMUnitTest slow[] = { cmocka_unit_test(test_slow) };
    return argc > 1 && !strcmp(argv[1], "slow") ? cmocka_run_group_tests(slow, NULL, NULL)
                                                : cmocka_run_group_tests(fast, NULL, NULL);
}
