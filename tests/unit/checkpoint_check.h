/* What the tests of checkpoints share. */
#ifndef TESTS_UNIT_CHECKPOINT_CHECK_H
#define TESTS_UNIT_CHECKPOINT_CHECK_H

#include "tests/unit/engine_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/checkpoint.h"

/* A store with an optimizer, and a scratch directory. */
typedef struct bench {
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    char directory[64];
} bench;

static inline void declare(nn_params *p, int64_t width)
{
    nn_param *unused;
    OK(nn_params_declare(p, "net.weight", NN_NORMAL(1), 2, (int64_t[]){ 3, width }, &unused));
    OK(nn_params_declare(p, "net.bias", NN_NORMAL(1), 1, (int64_t[]){ 3 }, &unused));
}

static inline void fill(float *to, int64_t n, float start)
{
    for (int64_t i = 0; i < n; i++) to[i] = start + (float)i;
}

static inline void open_bench(bench *b, int64_t width, bool ema)
{
    nn_adamw_options o = NN_ADAMW_DEFAULTS;
    if (ema) o.ema_decay = 0.9;
    b->device = open_device("cpu", 1);
    OK(nn_params_create(&b->params));
    declare(b->params, width);
    OK(nn_params_alloc(b->params, b->device, true));
    OK(nn_params_init(b->params, 1));
    OK(nn_optimizer_create(b->params, &o, &b->optimizer));
    fill(b->optimizer->m, b->params->n_elems, 100);
    fill(b->optimizer->v, b->params->n_elems, 200);
    if (ema) fill(b->optimizer->ema, b->params->n_elems, 300);
    snprintf(b->directory, sizeof(b->directory), "/tmp/checkpoint-XXXXXX");
    assert_non_null(mkdtemp(b->directory));
}

static inline void close_bench(bench *b)
{
    char **names;
    int64_t n;
    OK(nn_file_list(b->directory, &names, &n));
    for (int64_t i = 0; i < n; i++) {
        char *path = nn_format("%s/%s", b->directory, names[i]);
        OK(nn_file_remove(path));
        nn_free(path);
    }
    nn_file_list_free(names, n);
    assert_int_equal(rmdir(b->directory), 0);
    nn_optimizer_destroy(b->optimizer);
    nn_params_destroy(b->params);
    nn_device_close(b->device);
}

static inline void save(const bench *b, int64_t step, int keep)
{
    nn_checkpoint c = { step, 2, 17, UINT64_MAX - 5, (char *)"lr = 1e-4\n\"quoted\" é" };
    OK(nn_checkpoint_save(b->directory, keep, &c, b->optimizer));
}

static inline void assert_files(const bench *b, const char *expected)
{
    char found[512] = "";
    char **names;
    int64_t n;
    OK(nn_file_list(b->directory, &names, &n));
    for (int64_t i = 0; i < n; i++)
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s", i ? " " : "",
                 names[i]);
    nn_file_list_free(names, n);
    assert_string_equal(found, expected);
}

static inline char *path_of(const bench *b, const char *name)
{
    char *path = nn_format("%s/%s", b->directory, name);
    assert_non_null(path);
    return path;
}

static inline void truncate_file(const bench *b, const char *name)
{
    char *path = path_of(b, name);
    assert_int_equal(truncate(path, 300), 0);
    nn_free(path);
}

static inline void count_warnings(void *ctx, nn_log_level level, const char *line)
{
    (void)line;
    if (level == NN_LOG_WARN) ++*(int *)ctx;
}

#endif
