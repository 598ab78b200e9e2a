/* Work whose k-th allocation, read, write or rename fails, for k = 1, 2, ... until none does.
 *
 * Whatever fails, the work ends with the status of that failure or, where it can do without, with
 * success; it crashes nowhere, leaks nothing (builds with the address sanitizer see that), and
 * leaves no half file at a final name or beside it. Allocations that libraries make for themselves
 * do not fail here. */
#ifndef TESTS_TORTURE_TORTURE_H
#define TESTS_TORTURE_TORTURE_H

#include <string.h>

#include "engine/base/alloc.h"
#include "tests/unit/scratch.h"

enum { TORTURE_MOST = 20000 };

typedef struct torture {
    nn_status (*work)(void); /* frees what it made; leaves files */
    /* Look at the files that are there, NULL = there are none to look at: each must be whole. */
    void (*look)(void);
} torture;

/* The scratch directory: in memory where that can be, since every file is flushed to its disk. */
static inline int torture_make(void **state)
{
    snprintf(scratch_path, sizeof(scratch_path), "/dev/shm/recap-test-XXXXXX");
    return mkdtemp(scratch_path) ? 0 : scratch_make(state);
}

/* No temporary file is left in a folder. */
static inline void torture_no_leftovers(const char *folder)
{
    char **names;
    int64_t n;
    if (nn_file_list(folder, &names, &n) != NN_OK) return;
    for (int64_t i = 0; i < n; i++)
        if (strstr(names[i], ".part")) fail_msg("%s/%s was left behind", folder, names[i]);
    nn_file_list_free(names, n);
}

static inline bool torture_once(const torture *t, nn_file_fault kind, int64_t k)
{
    const nn_status expected = kind == NN_FAULT_NONE ? NN_MEMORY : NN_IO;
    nn_error_clear();
    if (kind == NN_FAULT_NONE)
        nn_alloc_fail_at(k);
    else
        nn_file_fail_at(kind, k);
    nn_status status = t->work();
    bool failed = kind == NN_FAULT_NONE ? nn_alloc_failed() : nn_file_failed();
    nn_alloc_fail_at(0);
    nn_file_fail_at(NN_FAULT_NONE, 0);
    if (status != NN_OK && (!failed || status != expected))
        fail_msg("k=%lld: status %d: %s (%s)", (long long)k, (int)status, nn_error_message(),
                 nn_error_trace());
    torture_no_leftovers(scratch_path);
    if (t->look) t->look();
    return failed;
}

/* least: failures that must have come, so that the test cannot pass without any. */
static inline void torture_all(const torture *t, nn_file_fault kind, int64_t least)
{
    int64_t k = 1;
    while (torture_once(t, kind, k)) assert_true(++k < TORTURE_MOST);
    if (k <= least) fail_msg("%lld failures; at least %lld", (long long)k - 1, (long long)least);
}

#endif
