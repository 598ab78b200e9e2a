/* Shards that a command writes. */
#include "data/shards_pipe.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/str.h"

extern char **environ;

static const char prefix[] = "pipe:";

const char *nn_shards_pipe_command(const char *spec)
{
    return nn_starts_with(spec, prefix) ? spec + sizeof(prefix) - 1 : NULL;
}

/* A new file without a name. */
static nn_status open_nameless(int *fd)
{
    const char *dir = getenv("TMPDIR");
    char *path = nn_format("%s/recap-shard-XXXXXX", dir && *dir ? dir : "/tmp");
    NN_NEED(path);
    *fd = mkstemp(path);
    nn_status status =
        *fd < 0 ? nn_fail(NN_IO, "%s: cannot create: %s; TMPDIR says where", path, strerror(errno))
                : NN_OK;
    if (*fd >= 0) unlink(path);
    nn_free(path);
    return status;
}

/* Until the command ends. */
static nn_status run(const char *spec, int out)
{
    char shell[] = "sh", option[] = "-c";
    char *const argv[] = { shell, option, (char *)(uintptr_t)nn_shards_pipe_command(spec), NULL };
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int code;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    const int error = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error) return nn_fail(NN_IO, "%s: cannot start /bin/sh: %s", spec, strerror(error));
    while (waitpid(pid, &code, 0) < 0)
        if (errno != EINTR) return nn_fail(NN_IO, "%s: %s", spec, strerror(errno));
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) return NN_OK;
    return nn_fail(NN_IO, "%s: the command %s %d; what it wrote is not used", spec,
                   WIFEXITED(code) ? "ended with code" : "was killed by signal",
                   WIFEXITED(code) ? WEXITSTATUS(code) : WTERMSIG(code));
}

static nn_status map_file(const char *spec, int fd, nn_map *map)
{
    struct stat info;
    if (fstat(fd, &info)) return nn_fail(NN_IO, "%s: %s", spec, strerror(errno));
    if (!info.st_size) return NN_OK;
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return nn_fail(NN_IO, "%s: cannot map: %s", spec, strerror(errno));
    *map = (nn_map){ data, info.st_size };
    return NN_OK;
}

nn_status nn_shards_pipe_map(const char *spec, nn_map *map)
{
    int fd;
    *map = (nn_map){ 0 };
    NN_TRY(open_nameless(&fd));
    nn_status status = run(spec, fd);
    if (status == NN_OK) status = map_file(spec, fd, map);
    close(fd);
    return status;
}
