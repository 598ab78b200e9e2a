/* What the tests of the engine share: checked calls, and a device by name. */
#ifndef TESTS_UNIT_ENGINE_CHECK_H
#define TESTS_UNIT_ENGINE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/nn.h"

#define OK(expr)                                                                                   \
    do {                                                                                           \
        if ((expr) != NN_OK) fail_msg("%s: %s", #expr, nn_error_message());                        \
    } while (0)

#define FAILS(code, expr) assert_int_equal((expr), (code))

#define MESSAGE_HAS(part)                                                                          \
    do {                                                                                           \
        if (!strstr(nn_error_message(), (part)))                                                   \
            fail_msg("'%s' is not in: %s", (part), nn_error_message());                            \
    } while (0)

/* "cpu" falls back to "ref" in builds without it. */
static inline nn_device *open_device(const char *name, int n_threads)
{
    nn_device *d = NULL;
    if (nn_device_open(name, n_threads, &d) == NN_NOT_FOUND) OK(nn_device_open("ref", 1, &d));
    assert_non_null(d);
    return d;
}

#endif
