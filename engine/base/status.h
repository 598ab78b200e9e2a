/* Statuses: how every fallible call in this project reports what went wrong.
 *
 * The place of origin calls nn_fail(code, "what was found, what was expected, what to do"); every
 * caller passes it on with NN_TRY, which adds one line to the trace. The message lives in
 * thread-local storage until the next nn_fail on that thread. Only programs in tools/ print it and
 * exit. */
#ifndef ENGINE_BASE_STATUS_H
#define ENGINE_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, text): the codes double as nothing else; tools map them to exit codes. */
#define NN_STATUS_LIST(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(ARGUMENT, "bad argument")                                                                    \
    X(SHAPE, "shapes do not fit")                                                                  \
    X(FORMAT, "malformed file")                                                                    \
    X(IO, "input or output failed")                                                                \
    X(MEMORY, "out of memory")                                                                     \
    X(NOT_FOUND, "not found")                                                                      \
    X(UNSUPPORTED, "not supported")                                                                \
    X(DEVICE, "device failed")                                                                     \
    X(INTERRUPTED, "interrupted")                                                                  \
    X(NUMERIC, "a number is not finite")

typedef enum nn_status {
#define X(name, text) NN_##name,
    NN_STATUS_LIST(X)
#undef X
} nn_status;

#define NN_CHECKED         __attribute__((warn_unused_result))
#define NN_PRINTF(fmt, at) __attribute__((format(printf, fmt, at)))

/* Text of a code, never NULL. */
const char *nn_status_text(nn_status code);

/* Record the error of this thread and return code. The message names what was found and expected.
 */
#define nn_fail(code, ...)                                                                         \
    nn_status_same(nn_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__), (code))
nn_status nn_fail_at(const char *file, int line, nn_status code, const char *fmt, ...)
    NN_PRINTF(4, 5);

/* Shows the compiler that nn_fail returns its code, so that it sees which paths are failures. */
static inline nn_status nn_status_same(nn_status recorded, nn_status code)
{
    (void)recorded;
    return code;
}

/* Put words in front of the recorded message ("cats.tar: ..."); returns code, so that it can be
 * returned. */
nn_status nn_fail_prefix(nn_status code, const char *fmt, ...) NN_PRINTF(2, 3);

/* Add a line to the trace; used by NN_TRY. */
void nn_trace(const char *file, int line);

/* The last message of this thread ("" when there was none) and the file:line trail below it. */
const char *nn_error_message(void);
const char *nn_error_trace(void);
void nn_error_clear(void);

#define NN_TRY(expr)                                                                               \
    do {                                                                                           \
        nn_status nn_try_status_ = (expr);                                                         \
        if (nn_try_status_ != NN_OK) {                                                             \
            nn_trace(__FILE__, __LINE__);                                                          \
            return nn_try_status_;                                                                 \
        }                                                                                          \
    } while (0)

/* For pointers from nn_alloc and friends, which record the failure themselves. */
#define NN_NEED(pointer)                                                                           \
    do {                                                                                           \
        if (!(pointer)) {                                                                          \
            nn_trace(__FILE__, __LINE__);                                                          \
            return NN_MEMORY;                                                                      \
        }                                                                                          \
    } while (0)

/* A broken invariant is a bug: abort with the place, in every build. */
#define NN_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (!(cond)) nn_assert_failed(__FILE__, __LINE__, #cond);                                  \
    } while (0)
__attribute__((noreturn)) void nn_assert_failed(const char *file, int line, const char *cond);

#define NN_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static inline int64_t nn_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t nn_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
