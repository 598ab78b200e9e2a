/* A child works through the jobs; when it is lost, another goes on behind the job that lost it. */
#include "tools/apart.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli.h"

/* What a child tells its parent. */
typedef struct progress {
    int64_t next; /* jobs before it have returned */
    bool at_work; /* on job `next` */
    nn_status status;
    char message[512]; /* of the status */
} progress;

void *apart_shared(int64_t bytes)
{
    void *block =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (block != MAP_FAILED) return block;
    (void)nn_fail(NN_MEMORY, "no %lld bytes to share with a child process", (long long)bytes);
    return NULL;
}

static nn_status work(const apart *a, progress *p)
{
    if (a->open) NN_TRY(a->open(a->ctx));
    nn_status status = NN_OK;
    while (p->next < a->n && status != NN_DEVICE && status != NN_INTERRUPTED) {
        p->at_work = true;
        alarm((unsigned)a->seconds);
        status = a->job(a->ctx, p->next);
        alarm(0);
        fflush(stdout);
        p->at_work = false;
        p->next++;
        if (a->each) break;
    }
    if (a->close) a->close(a->ctx);
    return status == NN_INTERRUPTED ? status : NN_OK;
}

static void child(const apart *a, progress *p)
{
    signal(SIGALRM, SIG_DFL);
    p->status = work(a, p);
    if (p->status != NN_OK) snprintf(p->message, sizeof(p->message), "%s", nn_error_message());
    fflush(stdout);
    _exit(NN_EXIT_OK);
}

static void say_how(const apart *a, int code, char *why, size_t size)
{
    if (WIFSIGNALED(code) && WTERMSIG(code) == SIGALRM)
        snprintf(why, size, "took more than %lld s", (long long)a->seconds);
    else if (WIFSIGNALED(code))
        snprintf(why, size, "was killed by signal %d", WTERMSIG(code));
    else
        snprintf(why, size, "ended its process with code %d", WEXITSTATUS(code));
}

static nn_status run_child(const apart *a, progress *p)
{
    int code;
    char why[64];
    fflush(stdout);
    pid_t id = fork();
    if (id < 0) return nn_fail(NN_IO, "no process could be made: %s", strerror(errno));
    if (id == 0) child(a, p);
    while (waitpid(id, &code, 0) != id)
        if (errno != EINTR) return nn_fail(NN_IO, "a process was lost: %s", strerror(errno));
    if (nn_cli_interrupted()) return nn_fail(NN_INTERRUPTED, "interrupted");
    if (p->status != NN_OK) return nn_fail(p->status, "%s", p->message);
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) return NN_OK;
    say_how(a, code, why, sizeof(why));
    if (!p->at_work) return nn_fail(NN_DEVICE, "the process between two jobs %s", why);
    a->lost(a->ctx, p->next, why);
    fflush(stdout);
    p->at_work = false;
    p->next++;
    return NN_OK;
}

nn_status apart_run(const apart *a)
{
    progress *p = apart_shared(sizeof(*p));
    NN_NEED(p);
    while (p->next < a->n) NN_TRY(run_child(a, p));
    return NN_OK;
}
