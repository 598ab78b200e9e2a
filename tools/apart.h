/* Jobs in child processes: one that dies, loses its device or takes too long costs only itself. */
#ifndef TOOLS_APART_H
#define TOOLS_APART_H

#include "engine/base/status.h"

typedef struct apart {
    int64_t n;
    int64_t seconds; /* that a job may take; 0 = any */
    bool each;       /* every job in a process of its own */
    void *ctx;
    /* Called in the child. open once, before its first job: an error ends the whole run. A job that
     * returns NN_DEVICE is the last of its process, NN_INTERRUPTED the last of all; other errors
     * are the job's own affair. */
    nn_status (*open)(void *ctx);
    nn_status (*job)(void *ctx, int64_t i);
    void (*close)(void *ctx);
    /* Called in the parent when job i did not return. why: a phrase, "was killed by signal 11". */
    void (*lost)(void *ctx, int64_t i, const char *why);
} apart;

/* Run jobs 0 .. n-1 in order. What they find out they must print, or leave in shared memory. */
nn_status apart_run(const apart *a) NN_CHECKED;

/* Zeroed memory that parent and children share; NULL with the error recorded. Stays until exit. */
void *apart_shared(int64_t bytes);

#endif
