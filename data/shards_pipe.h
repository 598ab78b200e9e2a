/* Shards that a command writes, "pipe:curl -sf https://host/shard-000000.tar". */
#ifndef DATA_SHARDS_PIPE_H
#define DATA_SHARDS_PIPE_H

#include "engine/base/file.h"

/* The command of a "pipe:COMMAND", or NULL. */
const char *nn_shards_pipe_command(const char *spec);

/* Run it by /bin/sh and map what it wrote to its stdout, which lies in a file of $TMPDIR (else
 * /tmp) that has no name any more: the disk has it back when the map is closed or the process ends.
 * spec, with "pipe:", is for messages. Owner: nn_map_close. Errors: NN_IO, also when the command
 * fails. */
nn_status nn_shards_pipe_map(const char *spec, nn_map *map) NN_CHECKED;

#endif
