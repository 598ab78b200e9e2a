/* Log lines. Libraries log, programs decide where it goes: without a sink nothing is written. */
#ifndef ENGINE_BASE_LOG_H
#define ENGINE_BASE_LOG_H

#include "engine/base/status.h"

typedef enum nn_log_level { NN_LOG_DEBUG, NN_LOG_INFO, NN_LOG_WARN } nn_log_level;

typedef void nn_log_sink(void *ctx, nn_log_level level, const char *line);

/* Lines below `lowest` are dropped. sink NULL = silence. Call before other threads start. */
void nn_log_open(nn_log_sink *sink, void *ctx, nn_log_level lowest);
void nn_log(nn_log_level level, const char *fmt, ...) NN_PRINTF(2, 3);

#endif
