/* Archives of stored entries, as torch writes them: read in place, every rule checked.
 *
 * Source: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (Zip64). Compressed and encrypted entries,
 * archives in several parts, names that lead out of a folder, and entries that overlap each other
 * or the directory are refused. Checksums are not compared: torch can be told to write none. */
#ifndef DATA_ZIP_H
#define DATA_ZIP_H

#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/status.h"

enum { NN_ZIP_MOST = 2 * 100000, NN_ZIP_NAME = 1024 }; /* entries; bytes of a name */

typedef struct nn_zip_entry {
    const char *name;
    const unsigned char *data; /* in the map */
    int64_t bytes;
} nn_zip_entry;

/* entry[0..n) is sorted by name; all of it lies in the map and in the arena it was read into. */
typedef struct nn_zip {
    nn_zip_entry *entry;
    int64_t n;
} nn_zip;

/* Whether the bytes begin like an archive. */
bool nn_zip_recognises(const nn_map *map);

/* Read the directory. `path` is for messages. A violated rule is NN_FORMAT with a message of its
 * own. */
nn_status nn_zip_read(const char *path, const nn_map *map, nn_arena *arena, nn_zip *zip) NN_CHECKED;

/* The entry of that name, or NULL. */
const nn_zip_entry *nn_zip_find(const nn_zip *zip, const char *name);

#endif
