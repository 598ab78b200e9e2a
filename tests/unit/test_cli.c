/* The command line: options, configuration, help, exit codes, the log. Runs commands in children
 * where streams or signals are looked at. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/str.h"
#include "tools/cli.h"

enum { MOST_WORDS = 16 };

static int64_t steps;
static double rate;
static const char *output;
static int device;
static bool shuffle, fast, slow;
static int n_arguments;
static char first_argument[32];
static nn_status outcome;
static const char *const devices[] = { "cpu", "cuda", NULL };

/* Handlers leave the stack of what they interrupt alone: see docs/PITFALLS.md. */
static bool handled_elsewhere(int number)
{
    stack_t stack;
    struct sigaction action;
    return sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE) &&
           sigaction(number, NULL, &action) == 0 && (action.sa_flags & SA_ONSTACK);
}

static nn_status run(const nn_cli *cli)
{
    nn_progress progress;
    n_arguments = cli->n_arguments;
    snprintf(first_argument, sizeof(first_argument), "%s", n_arguments ? cli->arguments[0] : "");
    nn_progress_start(&progress, "train", "step", 0, 2);
    nn_progress_step(&progress, 1, &(nn_field){ "loss", 0.5 }, 1);
    nn_progress_step(&progress, 2, &(nn_field){ "loss", NAN }, 1);
    nn_progress_stop(&progress);
    if (outcome == NN_INTERRUPTED) {
        if (!handled_elsewhere(SIGTERM) || !handled_elsewhere(SIGINT) ||
            !handled_elsewhere(SIGUSR1))
            return nn_fail(NN_DEVICE, "a signal is handled on the stack that it interrupts");
        raise(SIGTERM);
        if (!nn_cli_interrupted()) return nn_fail(NN_DEVICE, "the signal was lost");
        if (fast) raise(SIGINT);
    }
    printf("steps=%lld rate=%g output=%s device=%d shuffle=%d n=%d first=%s\nran\n",
           (long long)steps, rate, output ? output : "-", device, shuffle, n_arguments,
           first_argument);
    return outcome == NN_OK ? NN_OK : nn_fail(outcome, "it went wrong");
}

static const nn_option options[] = {
    { .name = "steps", .integer = &steps, .low = 1, .high = 100, .help = "steps to train" },
    { .name = "rate", .real = &rate, .help = "learning rate" },
    { .name = "output", .text = &output, .value = "FILE", .help = "where to" },
    { .name = "device", .choice = &device, .choices = devices, .help = "what computes" },
    { .name = "shuffle", .flag = &shuffle, .help = "another order" },
    { .name = "fast", .flag = &fast, .help = "be fast" },
    { .name = "slow", .flag = &slow, .help = "be slow", .excludes = "fast" },
    { 0 },
};
static const nn_option needed[] = {
    { .name = "output", .text = &output, .required = true, .help = "where to" },
    { 0 },
};
static const nn_command several[] = {
    { .name = "train",
      .arguments = "[DIR]",
      .most = 1,
      .summary = "Trains.",
      .example = "recap-test train --steps 3",
      .options = options,
      .run = run },
    { .name = "write", .arguments = "A B", .least = 2, .most = 2, .options = needed, .run = run },
    { 0 },
};
static const nn_program program = { "recap-test", "Tests.", several };

static void reset(void)
{
    steps = 10, rate = 0.5, output = NULL, device = 0, n_arguments = -1, outcome = NN_OK;
    shuffle = true, fast = slow = false;
}

/* What a child wrote to both streams; *code gets its exit code, or -signal. */
static void call_in_child(const char *line, nn_text *out, int *code)
{
    char words[256], *argv[MOST_WORDS + 1] = { NULL };
    int argc = 0, ends[2], status;
    snprintf(words, sizeof(words), "recap-test %s", line);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        int result = nn_cli_main(&program, argc, argv);
        fflush(stdout);
        _exit(result);
    }
    close(ends[1]);
    char buffer[512];
    ssize_t n;
    nn_text_clear(out);
    while ((n = read(ends[0], buffer, sizeof(buffer))) > 0)
        assert_int_equal(nn_text_add_bytes(out, buffer, n), NN_OK);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    *code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void expect(const char *line, int code, const char *words)
{
    nn_text out = { 0 };
    int got;
    call_in_child(line, &out, &got);
    if (got != code || !out.text || !strstr(out.text, words))
        fail_msg("'%s' gave %d, expected %d with \"%s\":\n%s", line, got, code, words,
                 out.text ? out.text : "");
    nn_text_free(&out);
}

static void options_are_set(void **state)
{
    (void)state;
    reset();
    expect("train", 0, "steps=10 rate=0.5 output=- device=0 shuffle=1 n=0");
    expect("train --steps 3 --rate=-1e-3 --output o --device cuda --no-shuffle dir", 0,
           "steps=3 rate=-0.001 output=o device=1 shuffle=0 n=1 first=dir");
    expect("train --rate -2 -- --steps", 0,
           "rate=-2 output=- device=0 shuffle=1 n=1 first=--steps");
    expect("train --shuffle=false -", 0, "shuffle=0 n=1 first=-");
}

static void wrong_lines_exit_with_2(void **state)
{
    (void)state;
    reset();
    expect("", 2, "a command is missing");
    expect("tran", 2, "did you mean 'train'?");
    expect("train --stesp 3", 2, "--stesp is no option of this command; did you mean --steps?");
    expect("train --qqqqqqqqq", 2, "--qqqqqqqqq is no option of this command\n");
    expect("train --steps", 2, "--steps wants a value");
    expect("train --output --fast", 2, "--output wants a value");
    expect("train --steps 0", 2, "expected a whole number from 1 to 100");
    expect("train --steps 1.5", 2, "--steps is '1.5'; expected a whole number");
    expect("train --rate nan", 2, "expected a number");
    expect("train --device gpu", 2, "expected one of cpu, cuda");
    expect("train --fast=maybe", 2, "a flag is true or false");
    expect("train --no-fast=true", 2, "--no-fast takes no value");
    expect("train --no-steps", 2, "--no-steps is no option");
    expect("train --fast --slow", 2, "--slow and --fast contradict each other");
    expect("train --steps 3 --steps 4", 2, "--steps is given twice");
    expect("train -s 3", 2, "options begin with --");
    expect("train a b", 2, "'b' is one argument too many");
    expect("write a b", 2, "--output is required: where to");
    expect("write a --output o", 2, "expected A B");
    expect("train --stesp 3", 2, "recap-test train --help shows what there is");
}

static void help_shows_defaults_and_an_example(void **state)
{
    (void)state;
    reset();
    expect("--help", 0, "train        Trains.");
    expect("train --help", 0, "usage: recap-test train [DIR] [options]");
    expect("train --help", 0, "--steps N                  steps to train [10]");
    expect("train --help", 0, "--device cpu|cuda          what computes [cpu]");
    expect("train --help", 0, "--no-shuffle");
    expect("train --help", 0, "example:\n  recap-test train --steps 3");
    expect("train --help --steps x", 0, "exit codes: 0 done");
    expect("write --help", 0, "where to (required)");
}

static void outcomes_have_exit_codes(void **state)
{
    (void)state;
    reset();
    expect("train", 0, "ran");
    outcome = NN_IO;
    expect("train", 1, "recap-test train: error: it went wrong");
    expect("train --verbose", 1, "test_cli.c:");
    outcome = NN_ARGUMENT;
    expect("train", 2, "it went wrong");
    outcome = NN_INTERRUPTED;
    expect("train", 3, "recap-test train: it went wrong");
    expect("train --fast", -SIGINT, "interrupted: saving; once more to stop at once");
}

static void progress_is_shown_unless_quiet(void **state)
{
    (void)state;
    nn_text out = { 0 };
    int code;
    reset();
    expect("train", 0, "train 2/2 step 100%");
    call_in_child("train --quiet", &out, &code);
    assert_int_equal(code, 0);
    assert_null(strstr(out.text, "100%"));
    nn_text_free(&out);
}

static void a_file_configures(void **state)
{
    (void)state;
    char path[64], line[128];
    reset();
    snprintf(path, sizeof(path), "/tmp/test_cli.%ld.json", (long)getpid());
    const char *text = "{\"steps\": 7, \"rate\": 0.25, \"device\": \"cuda\", \"shuffle\": false, "
                       "\"output\": \"o\"}";
    assert_int_equal(nn_file_write(path, text, (int64_t)strlen(text)), NN_OK);
    snprintf(line, sizeof(line), "train --config %s", path);
    expect(line, 0, "steps=7 rate=0.25 output=o device=1 shuffle=0");
    expect(line, 0, ": steps = 7 (default 10)\n");
    snprintf(line, sizeof(line), "train --steps 3 --config %s", path);
    expect(line, 0, "steps=3 rate=0.25");
    expect(line, 0, ": steps = 3 (command line, not 7)\n");
    snprintf(line, sizeof(line), "train --config %s", path);
    static const struct {
        const char *text, *words;
    } bad[] = {
        { "{\"stesp\": 7}", "did you mean --steps?" },
        { "{\"steps\": 0}", "from 1 to 100" },
        { "{\"steps\": [1]}", "expected a string, a number, true or false" },
        { "[]", "no object" },
        { "{", "line 1" },
        { "{\"fast\": true, \"slow\": true}", "contradict" },
    };
    for (int i = 0; i < NN_COUNT(bad); i++) {
        assert_int_equal(nn_file_write(path, bad[i].text, (int64_t)strlen(bad[i].text)), NN_OK);
        expect(line, 2, bad[i].words);
    }
    unlink(path);
    expect(line, 1, "cannot open");
}

static void the_log_has_every_step(void **state)
{
    (void)state;
    char path[64], line[128], *text;
    int64_t n;
    reset();
    snprintf(path, sizeof(path), "/tmp/test_cli.%ld.jsonl", (long)getpid());
    snprintf(line, sizeof(line), "train dir --log %s", path);
    expect(line, 0, "ran");
    assert_int_equal(nn_file_read(path, 1 << 16, &text, &n), NN_OK);
    assert_true(nn_starts_with(text, "{\"program\":\"recap-test\",\"command\":\"train\","
                                     "\"arguments\":[\"dir\"],\"options\":{\"steps\":\"10\""));
    assert_non_null(strstr(text, "\"step\": 1, \"loss\": 0.5}\n"));
    assert_non_null(strstr(text, "\"step\": 2, \"loss\": null}\n"));
    nn_free(text);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_set),
        cmocka_unit_test(wrong_lines_exit_with_2),
        cmocka_unit_test(help_shows_defaults_and_an_example),
        cmocka_unit_test(outcomes_have_exit_codes),
        cmocka_unit_test(progress_is_shown_unless_quiet),
        cmocka_unit_test(a_file_configures),
        cmocka_unit_test(the_log_has_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
