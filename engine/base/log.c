/* Log lines, to one sink. */
#include "engine/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static nn_log_sink *log_sink;
static void *log_ctx;
static nn_log_level log_lowest;

void nn_log_open(nn_log_sink *sink, void *ctx, nn_log_level lowest)
{
    log_sink = sink;
    log_ctx = ctx;
    log_lowest = lowest;
}

void nn_log(nn_log_level level, const char *fmt, ...)
{
    if (!log_sink || level < log_lowest) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    log_sink(log_ctx, level, line);
}
