/* A process that saves one checkpoint after the other is killed at a thousand random moments, half
 * of them while a thread saves: whatever it had completed is there, whole, and is what it saved.
 *     test_checkpoint_kill [SEED] */
#include "tests/unit/checkpoint_check.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/rng.h"

enum { KILLS = 500, WIDE = 10000, SECTIONS = 4, LONGEST_US = 25000 };

/* What the child tells before it dies. */
typedef struct shared {
    _Atomic int64_t completed; /* the last step of which saving has returned */
} shared;

static uint64_t seed;
static shared *told;

/* Element i of a section in a step; exact in a float. */
static float value_of(int64_t step, int section, int64_t i)
{
    return (float)((step * SECTIONS + section) % 65536) + (float)(i % 128) / 128;
}

static void list_buffers(const bench *b, float *buffers[SECTIONS])
{
    buffers[0] = b->params->values;
    buffers[1] = b->optimizer->m;
    buffers[2] = b->optimizer->v;
    buffers[3] = b->optimizer->ema;
}

static void train_to(const bench *b, int64_t step)
{
    float *buffers[SECTIONS];
    list_buffers(b, buffers);
    for (int k = 0; k < SECTIONS; k++)
        for (int64_t i = 0; i < b->params->n_elems; i++) buffers[k][i] = value_of(step, k, i);
    b->optimizer->step = step;
}

/* Of the parameters; what lies between them is not saved. */
static void assert_is_of(const bench *b, int64_t step)
{
    float *buffers[SECTIONS];
    list_buffers(b, buffers);
    assert_int_equal(b->optimizer->step, step);
    for (int k = 0; k < SECTIONS; k++)
        for (int64_t n = 0; n < b->params->n; n++) {
            const nn_param *p = b->params->items[n];
            for (int64_t i = p->offset; i < p->offset + nn_view_elems(&p->view); i++)
                if (buffers[k][i] != value_of(step, k, i))
                    fail_msg("step %lld, section %d: element %lld is of another one",
                             (long long)step, k, (long long)i);
        }
}

/* The child: until it dies. The state changes as soon as it may. */
static void save_for_ever(bench *b, int64_t step, bool background)
{
    nn_saver *s = NULL;
    nn_saved saved = { 0 };
    nn_status status = background ? nn_saver_create(b->directory, 2, b->optimizer, &s) : NN_OK;
    for (; status == NN_OK; step++) {
        nn_checkpoint c = { .step = step };
        train_to(b, step);
        if (background)
            status = nn_saver_start(s, &c);
        else
            status = nn_checkpoint_save(b->directory, 2, &c, b->optimizer);
        if (status == NN_OK && background) {
            train_to(b, step + 1);
            nn_saver_wait(s, &saved);
            status = saved.status;
        }
        if (status == NN_OK) atomic_store(&told->completed, step);
    }
    fprintf(stderr, "saving failed: %s %s\n", nn_error_message(), saved.message);
    _exit(1);
}

static void kill_after(bench *b, int64_t step, bool background, int64_t microseconds)
{
    const struct timespec moment = { 0, microseconds * 1000 };
    int how;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) save_for_ever(b, step, background);
    nanosleep(&moment, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

typedef struct found {
    int whole, half; /* files */
} found;

/* Every file that is called a checkpoint is one. */
static found check_files(bench *b)
{
    found f = { 0 };
    char **names;
    int64_t n;
    OK(nn_file_list(b->directory, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        nn_checkpoint c = { 0 };
        const bool half = strstr(names[i], ".part-") != NULL;
        f.half += half;
        if (half) continue;
        char *path = path_of(b, names[i]);
        OK(nn_checkpoint_load(path, &c, b->optimizer));
        assert_is_of(b, c.step);
        nn_free(c.config);
        nn_free(path);
        f.whole++;
    }
    nn_file_list_free(names, n);
    return f;
}

static void kill_often(bool background)
{
    bench b = { 0 };
    int half = 0;
    int64_t step = 0;
    nn_rng rng = nn_rng_make(seed, "moments", background);
    const double began = nn_clock_seconds();
    open_bench(&b, WIDE, true);
    atomic_store(&told->completed, 0);
    for (int i = 0; i < KILLS; i++) {
        nn_checkpoint c = { 0 };
        bool there;
        kill_after(&b, step + 1, background, (int64_t)nn_rng_below(&rng, LONGEST_US));
        const int64_t completed = atomic_load(&told->completed);
        const found f = check_files(&b);
        half += f.half;
        OK(nn_checkpoint_resume(b.directory, &c, b.optimizer, &there));
        assert_true(there || completed == 0);
        assert_true(c.step == completed || c.step == completed + 1);
        assert_true(f.whole >= (completed < 2 ? completed : 2)); /* as many as are kept */
        if (there) assert_is_of(&b, c.step);
        step = c.step;
        nn_free(c.config);
        atomic_store(&told->completed, step);
    }
    printf("%d kills, %d of them in the middle of a file; %lld checkpoints in %.1f s; seed %llu\n",
           KILLS, half, (long long)step, nn_clock_seconds() - began, (unsigned long long)seed);
    assert_true(half > KILLS / 10);
    assert_true(step > KILLS / 10);
    close_bench(&b);
}

static void in_the_foreground(void **state)
{
    (void)state;
    kill_often(false);
}

static void in_the_background(void **state)
{
    (void)state;
    kill_often(true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_the_foreground),
        cmocka_unit_test(in_the_background),
    };
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)getpid();
    told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
