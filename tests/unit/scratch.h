/* A scratch directory for tests that write files. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/file.h"

/* Of this test program; it is removed by scratch_remove. */
static char scratch_path[64];

static inline int scratch_make(void **state)
{
    (void)state;
    snprintf(scratch_path, sizeof(scratch_path), "/tmp/recap-test-XXXXXX");
    return mkdtemp(scratch_path) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
    char **names;
    int64_t n;
    (void)state;
    if (nn_file_list(scratch_path, &names, &n) != NN_OK) return -1;
    for (int64_t i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", scratch_path, names[i]);
        remove(path);
    }
    nn_file_list_free(names, n);
    return rmdir(scratch_path);
}

/* Path of a file in the directory; valid until the fourth call from now. */
static inline const char *scratch(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", scratch_path, name);
    return path;
}

static inline const char *scratch_write(const char *name, const void *bytes, int64_t n)
{
    const char *path = scratch(name);
    assert_int_equal(nn_file_write(path, bytes, n), NN_OK);
    return path;
}

/* The status is `code` and the message holds `part`. */
static inline void expect_failure(nn_status status, nn_status code, const char *part)
{
    if (status != code || !strstr(nn_error_message(), part))
        fail_msg("status %d, message '%s'; %d and '...%s...' were expected", (int)status,
                 nn_error_message(), (int)code, part);
}

#endif
