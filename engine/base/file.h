/* Files: whole reads, mapped reads, and writes that are there completely or not at all.
 *
 * Every call names the path in its error. Tests can make the k-th read, write or rename fail. */
#ifndef ENGINE_BASE_FILE_H
#define ENGINE_BASE_FILE_H

#include "engine/base/status.h"

/* Read a file of at most `most` bytes; *bytes is terminated by a zero that is not counted. Owner:
 * nn_free. */
nn_status nn_file_read(const char *path, int64_t most, char **bytes, int64_t *n) NN_CHECKED;

/* Map a file read-only. An empty file maps to data NULL, size 0. */
typedef struct nn_map {
    const unsigned char *data;
    int64_t size;
} nn_map;
nn_status nn_map_open(const char *path, nn_map *map) NN_CHECKED;
void nn_map_close(nn_map *map);

/* n > 0 bytes of a mapped file will be read at once: their pages are mapped in one go, which is
 * cheaper than one by one. */
void nn_map_take(const void *bytes, int64_t n);

/* n > 0 bytes of a mapped file will not be read soon and need not be kept in memory. They stay
 * readable. */
void nn_map_give_back(const void *bytes, int64_t n);

/* Write under a temporary name beside path, then commit: flush, fsync, rename, fsync of the
 * directory. Until the commit the old file is untouched; abort removes the temporary one. */
typedef struct nn_writer {
    int fd;
    char *path, *temporary;
    int64_t written;
} nn_writer;
nn_status nn_writer_open(const char *path, nn_writer *w) NN_CHECKED;
nn_status nn_writer_add(nn_writer *w, const void *bytes, int64_t n) NN_CHECKED;
nn_status nn_writer_commit(nn_writer *w) NN_CHECKED; /* w is closed, whatever comes back */
void nn_writer_abort(nn_writer *w);                  /* legal after a failed open or commit */

/* The above for bytes at hand. */
nn_status nn_file_write(const char *path, const void *bytes, int64_t n) NN_CHECKED;

bool nn_file_exists(const char *path);
int64_t nn_file_space(const char *path); /* bytes free to us where path is; -1 = unknown */
nn_status nn_file_make_dir(const char *path) NN_CHECKED; /* with its parents; existing is fine */
nn_status nn_file_remove(const char *path) NN_CHECKED;

/* Names in a directory, sorted by bytes, without "." and "..". Owner: nn_file_list_free. */
nn_status nn_file_list(const char *path, char ***names, int64_t *n) NN_CHECKED;
void nn_file_list_free(char **names, int64_t n);

typedef enum nn_file_fault {
    NN_FAULT_NONE,
    NN_FAULT_READ,
    NN_FAULT_WRITE,
    NN_FAULT_RENAME
} nn_file_fault;

/* Fail the k-th operation of that kind from now on (1 = the next); NN_FAULT_NONE switches it off.
 * Tests only. */
void nn_file_fail_at(nn_file_fault kind, int64_t k);
bool nn_file_failed(void); /* whether that operation has come since */

#endif
