/* What the tests of data/image share: cmocka and checks that hold for every format. */
#ifndef TESTS_UNIT_IMAGE_CHECK_H
#define TESTS_UNIT_IMAGE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image.h"
#include "engine/base/alloc.h"

static inline nn_image decode_ok(const nn_text *file)
{
    nn_image image;
    nn_status status = nn_image_decode(file->text, file->length, "file", &image);
    if (status != NN_OK) fail_msg("%s", nn_error_message());
    return image;
}

static inline bool same_image(const nn_image *a, const nn_image *b)
{
    return a->width == b->width && a->height == b->height &&
           memcmp(a->rgb, b->rgb, (size_t)(3 * a->width * a->height)) == 0;
}

/* The bytes are refused with this status, by name, and leave nothing behind. */
static inline void check_refused(const void *bytes, int64_t n, nn_status expected,
                                 const char *words)
{
    nn_image image = { 1, 1, NULL };
    assert_int_equal(nn_image_decode(bytes, n, "some/name", &image), expected);
    assert_null(image.rgb);
    assert_int_equal(image.width, 0);
    if (strncmp(nn_error_message(), "some/name: ", 11) != 0 || !strstr(nn_error_message(), words))
        fail_msg("'%s' does not name the file and say '%s'", nn_error_message(), words);
}

/* Every proper prefix is refused, or is the whole picture (formats with an optional tail). Each is
 * copied to a block of its own, so that a sanitizer sees reads beyond the end. */
static inline void check_truncations(const nn_text *file)
{
    nn_image whole = decode_ok(file);
    for (int64_t n = 0; n < file->length; n++) {
        char *prefix = malloc((size_t)n + (n == 0));
        assert_non_null(prefix);
        memcpy(prefix, file->text, (size_t)n);
        nn_image image;
        nn_status status = nn_image_decode(prefix, n, "prefix", &image);
        if (status == NN_OK && !same_image(&image, &whole))
            fail_msg("%lld of %lld bytes gave another picture", (long long)n,
                     (long long)file->length);
        if (status != NN_OK) assert_null(image.rgb);
        nn_image_free(&image);
        free(prefix);
    }
    nn_image_free(&whole);
}

/* Each allocation in turn fails: NN_MEMORY and nothing left, until none is left to fail. */
static inline void check_allocations(const nn_text *file, int at_least)
{
    nn_image whole = decode_ok(file);
    for (int k = 1;; k++) {
        assert_true(k < 1000);
        nn_image image;
        nn_alloc_fail_at(k);
        nn_status status = nn_image_decode(file->text, file->length, "file", &image);
        nn_alloc_fail_at(0);
        if (status == NN_OK) {
            assert_true(same_image(&image, &whole));
            nn_image_free(&image);
            assert_true(k > at_least);
            break;
        }
        assert_int_equal(status, NN_MEMORY);
        assert_null(image.rgb);
    }
    nn_image_free(&whole);
}

#endif
