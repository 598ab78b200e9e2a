/* Statuses: the thread-local error and its trace. */
#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[2048];
static _Thread_local char trace[2048];

const char *nn_status_text(nn_status code)
{
    static const char *const text[] = {
#define X(name, words) words,
        NN_STATUS_LIST(X)
#undef X
    };
    return (size_t)code < sizeof(text) / sizeof(text[0]) ? text[code] : "unknown status";
}

nn_status nn_fail_at(const char *file, int line, nn_status code, const char *fmt, ...)
{
    char words[sizeof(message)];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof(words), fmt,
              args); /* by way of words: an argument may be the old message */
    va_end(args);
    memcpy(message, words, sizeof(message));
    trace[0] = 0;
    nn_trace(file, line);
    return code;
}

nn_status nn_fail_prefix(nn_status code, const char *fmt, ...)
{
    char words[sizeof(message)];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(words))
        snprintf(words + n, sizeof(words) - (size_t)n, "%s", message);
    memcpy(message, words, sizeof(message));
    return code;
}

void nn_trace(const char *file, int line)
{
    size_t n = strlen(trace);
    snprintf(trace + n, sizeof(trace) - n, "%s%s:%d", n ? " < " : "", file, line);
}

const char *nn_error_message(void)
{
    return message;
}

const char *nn_error_trace(void)
{
    return trace;
}

void nn_error_clear(void)
{
    message[0] = 0;
    trace[0] = 0;
}

_Noreturn void nn_assert_failed(const char *file, int line, const char *cond)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, cond);
    abort();
}
