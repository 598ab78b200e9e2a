/* Copies between the host and every device of this build: the source of a write may change at once,
 * a read is behind everything before it, and no size is special. */
#include "tests/unit/engine_check.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

enum { BYTES = 19 << 20, WRITES = 1000, MOST = 40000 };

static void draw(nn_rng *rng, uint8_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t word = nn_rng_u32(rng);
        memcpy(to + i, &word, (size_t)nn_min(n - i, 4));
    }
}

typedef struct mirror {
    nn_device *device;
    uint8_t *there, *here, *passing; /* the block, what it should hold, a source or a target */
} mirror;

static void write_bytes(mirror *m, nn_rng *rng, int64_t at, int64_t n)
{
    draw(rng, m->passing, n);
    memcpy(m->here + at, m->passing, (size_t)n);
    OK(m->device->backend->write(m->device, m->there + at, m->passing, n));
    memset(m->passing, 0xee, (size_t)n);
}

static void check_bytes(mirror *m, int64_t at, int64_t n)
{
    memset(m->passing, 0xdd, (size_t)n);
    OK(m->device->backend->read(m->device, m->passing, m->there + at, n));
    assert_true(memcmp(m->passing, m->here + at, (size_t)n) == 0);
}

static void zero_bytes(mirror *m, int64_t at, int64_t n)
{
    memset(m->here + at, 0, (size_t)n);
    OK(m->device->backend->zero(m->device, m->there + at, n));
}

/* Large and small in turn, and nobody waits: the small writes alone are more than any staging
 * buffer holds. */
static void exercise(mirror *m)
{
    nn_rng rng = nn_rng_make(1, "copies", 0);
    write_bytes(m, &rng, 0, BYTES);
    zero_bytes(m, 5, 1 << 20);
    for (int i = 0; i < WRITES; i++) {
        int64_t n = (int64_t)nn_rng_below(&rng, MOST);
        int64_t at = (int64_t)nn_rng_below(&rng, (uint64_t)(BYTES - n));
        write_bytes(m, &rng, at, n);
        if (i % 7 == 0) zero_bytes(m, at, n / 2);
        if (i % 500 == 0) check_bytes(m, at, n);
    }
    check_bytes(m, 0, BYTES);
    check_bytes(m, 3, (8 << 20) - 3);
    OK(m->device->backend->sync(m->device));
}

static uint8_t *bytes(void)
{
    uint8_t *block = nn_alloc(BYTES, 1);
    if (!block) abort(); /* the analyzer does not know that an assertion ends the test */
    return block;
}

static void test_every_device(void **unused)
{
    static const char *const names[] = { "ref", "cpu", "cuda" };
    (void)unused;
    for (int i = 0; i < NN_COUNT(names); i++) {
        mirror m = { 0 };
        nn_status status = nn_device_open(names[i], 1, &m.device);
        if (status == NN_NOT_FOUND || status == NN_DEVICE) continue;
        OK(status);
        m.there = m.device->backend->alloc(m.device, BYTES);
        assert_non_null(m.there);
        m.here = bytes();
        m.passing = bytes();
        check_bytes(&m, 0, BYTES); /* new memory is zero */
        exercise(&m);
        m.device->backend->free(m.device, m.there);
        nn_device_close(m.device);
        nn_free(m.here);
        nn_free(m.passing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_device) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
