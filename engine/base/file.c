/* Files, with the order of operations that survives a power cut. */
#include "engine/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/alloc.h"

static _Atomic int fault_kind;
static _Atomic int64_t fault_left;

void nn_file_fail_at(nn_file_fault kind, int64_t k)
{
    atomic_store(&fault_left, k);
    atomic_store(&fault_kind, (int)kind);
}

bool nn_file_failed(void)
{
    return atomic_load(&fault_kind) != NN_FAULT_NONE && atomic_load(&fault_left) <= 0;
}

static bool made_to_fail(nn_file_fault kind)
{
    if (atomic_load(&fault_kind) != (int)kind) return false;
    if (atomic_fetch_sub(&fault_left, 1) != 1) return false;
    errno = EIO;
    return true;
}

static nn_status failed(const char *what, const char *path)
{
    nn_status code = errno == ENOENT ? NN_NOT_FOUND : NN_IO;
    return nn_fail(code, "%s: cannot %s: %s", path, what, strerror(errno));
}

static nn_status read_all(int fd, const char *path, char *bytes, int64_t n)
{
    for (int64_t done = 0; done < n;) {
        ssize_t got = made_to_fail(NN_FAULT_READ) ? -1 : read(fd, bytes + done, (size_t)(n - done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return failed("read", path);
        if (got == 0)
            return nn_fail(NN_IO, "%s: ended after %lld of %lld bytes", path, (long long)done,
                           (long long)n);
        done += got;
    }
    return NN_OK;
}

static nn_status open_sized(const char *path, int *fd, int64_t *n)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return failed("open", path);
    if (fstat(*fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(*fd);
        return nn_fail(NN_IO, "%s: not a regular file", path);
    }
    *n = info.st_size;
    return NN_OK;
}

nn_status nn_file_read(const char *path, int64_t most, char **bytes, int64_t *n)
{
    int fd;
    NN_TRY(open_sized(path, &fd, n));
    nn_status status = NN_OK;
    char *buffer = NULL;
    if (*n > most)
        status = nn_fail(NN_FORMAT, "%s: has %lld bytes, at most %lld are expected here", path,
                         (long long)*n, (long long)most);
    else if (!(buffer = nn_alloc(*n + 1, 1)))
        status = NN_MEMORY;
    else
        status = read_all(fd, path, buffer, *n);
    close(fd);
    if (status != NN_OK) {
        nn_free(buffer);
        return status;
    }
    *bytes = buffer;
    return NN_OK;
}

nn_status nn_map_open(const char *path, nn_map *map)
{
    int fd;
    *map = (nn_map){ 0 };
    NN_TRY(open_sized(path, &fd, &map->size));
    if (map->size) {
        void *data = made_to_fail(NN_FAULT_READ)
                         ? MAP_FAILED
                         : mmap(NULL, (size_t)map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            nn_status status = failed("map", path);
            close(fd);
            return status;
        }
        map->data = data;
    }
    close(fd);
    return NN_OK;
}

void nn_map_close(nn_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    *map = (nn_map){ 0 };
}

/* All pages that the bytes lie in, shared ones too. */
static void advise(const void *bytes, int64_t n, int advice)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)bytes;
    const uintptr_t end = (at + (uintptr_t)n + page - 1) / page * page;
    const char *first = (const char *)bytes - at % page;
    (void)madvise((void *)(uintptr_t)first, end - at / page * page, advice);
}

void nn_map_take(const void *bytes, int64_t n)
{
#ifdef MADV_POPULATE_READ
    advise(bytes, n, MADV_POPULATE_READ);
#else
    advise(bytes, n, MADV_WILLNEED);
#endif
}

void nn_map_give_back(const void *bytes, int64_t n)
{
    advise(bytes, n, MADV_DONTNEED);
}

nn_status nn_writer_open(const char *path, nn_writer *w)
{
    *w = (nn_writer){ .fd = -1 };
    w->path = nn_strdup(path);
    NN_NEED(w->path);
    w->temporary = nn_format("%s.part-%ld", path, (long)getpid());
    NN_NEED(w->temporary);
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return w->fd < 0 ? failed("create", w->temporary) : NN_OK;
}

nn_status nn_writer_add(nn_writer *w, const void *bytes, int64_t n)
{
    const char *p = bytes;
    for (int64_t done = 0; done < n;) {
        ssize_t put =
            made_to_fail(NN_FAULT_WRITE) ? -1 : write(w->fd, p + done, (size_t)(n - done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return failed("write", w->path);
        done += put;
    }
    w->written += n;
    return NN_OK;
}

static nn_status sync_directory(const char *path)
{
    char *directory = nn_strdup(path);
    NN_NEED(directory);
    char *slash = strrchr(directory, '/');
    if (slash == directory) slash++;
    if (slash) *slash = 0;
    int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    nn_free(directory);
    if (fd < 0) return failed("open the directory of", path);
    nn_status status = fsync(fd) == 0 ? NN_OK : failed("flush the directory of", path);
    close(fd);
    return status;
}

static nn_status commit(nn_writer *w)
{
    if (made_to_fail(NN_FAULT_WRITE) || fsync(w->fd) != 0) return failed("flush", w->path);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return failed("close", w->path);
    if (made_to_fail(NN_FAULT_RENAME) || rename(w->temporary, w->path) != 0)
        return failed("put in place", w->path);
    return sync_directory(w->path);
}

nn_status nn_writer_commit(nn_writer *w)
{
    nn_status status = commit(w);
    nn_writer_abort(w);
    return status;
}

void nn_writer_abort(nn_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    if (w->temporary) unlink(w->temporary); /* gone already after a commit */
    nn_free(w->path);
    nn_free(w->temporary);
    *w = (nn_writer){ .fd = -1 };
}

nn_status nn_file_write(const char *path, const void *bytes, int64_t n)
{
    nn_writer w;
    nn_status status = nn_writer_open(path, &w);
    if (status == NN_OK) status = nn_writer_add(&w, bytes, n);
    if (status == NN_OK) return nn_writer_commit(&w);
    nn_writer_abort(&w);
    return status;
}

bool nn_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int64_t nn_file_space(const char *path)
{
    struct statvfs info;
    return statvfs(path, &info) == 0 ? (int64_t)(info.f_bavail * info.f_frsize) : -1;
}

nn_status nn_file_make_dir(const char *path)
{
    char *copy = nn_strdup(path);
    NN_NEED(copy);
    nn_status status = NN_OK;
    for (char *p = copy + 1; status == NN_OK; p++) {
        char end = *p;
        if (end != '/' && end != 0) continue;
        *p = 0;
        if (mkdir(copy, 0755) != 0 && errno != EEXIST) status = failed("create directory", copy);
        *p = end;
        if (!end) break;
    }
    nn_free(copy);
    return status;
}

nn_status nn_file_remove(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? NN_OK : failed("remove", path);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

nn_status nn_file_list(const char *path, char ***names, int64_t *n)
{
    int64_t capacity = 0;
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d) return failed("list", path);
    nn_status status = NN_OK;
    struct dirent *entry;
    while (status == NN_OK && (entry = readdir(d))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        status = nn_grow(names, &capacity, *n, sizeof(**names));
        if (status != NN_OK) break;
        (*names)[*n] = nn_strdup(entry->d_name);
        if (!(*names)[*n])
            status = NN_MEMORY;
        else
            ++*n;
    }
    closedir(d);
    if (status == NN_OK && *n) qsort(*names, (size_t)*n, sizeof(**names), by_bytes);
    if (status != NN_OK) nn_file_list_free(*names, *n);
    return status;
}

void nn_file_list_free(char **names, int64_t n)
{
    for (int64_t i = 0; i < n; i++) nn_free(names[i]);
    nn_free(names);
}
