/* Event files, read back by the format's own rules. */
#include <math.h>

#include "data/events.h"
#include "engine/base/alloc.h"
#include "tests/unit/scratch.h"

enum { MOST = 1 << 16, VERSION = 3, SUMMARY = 5, SESSION = 7 };

typedef struct reader {
    unsigned char bytes[MOST];
    int64_t n, at;
} reader;

/* One field of a message. */
typedef struct field {
    int number;
    uint64_t value;             /* of a number, as its bits */
    const unsigned char *bytes; /* of a message or a text: value of them */
} field;

static uint64_t fixed(const unsigned char *at, int n)
{
    uint64_t x = 0;
    for (int i = 0; i < n; i++) x |= (uint64_t)at[i] << (8 * i);
    return x;
}

static uint64_t varint(const unsigned char **at)
{
    uint64_t x = 0;
    for (int shift = 0;; shift += 7) {
        const unsigned char byte = *(*at)++;
        x |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return x;
    }
}

static field next_field(const unsigned char **at)
{
    const uint64_t key = varint(at);
    field f = { .number = (int)(key >> 3) };
    const int kind = (int)(key & 7), width = kind == 1 ? 8 : kind == 5 ? 4 : 0;
    if (width) {
        f.value = fixed(*at, width);
        *at += width;
    } else
        f.value = varint(at);
    if (kind == 2) {
        f.bytes = *at;
        *at += f.value;
    }
    return f;
}

/* The field of that number in a message of n bytes. */
static field find(const unsigned char *at, uint64_t n, int number)
{
    const unsigned char *end = at + n;
    while (at < end) {
        const field f = next_field(&at);
        if (f.number == number) return f;
    }
    fail_msg("no field %d", number);
    return (field){ 0 };
}

/* The next record's event; both checksums are looked at. */
static field next_event(reader *r)
{
    const unsigned char *at = r->bytes + r->at;
    assert_true(r->at + 16 <= r->n);
    const uint64_t length = fixed(at, 8);
    for (int part = 0; part < 2; part++) {
        const unsigned char *from = part ? at + 12 : at;
        const uint64_t n = part ? length : 8;
        const uint32_t crc = nn_crc32c(from, (int64_t)n);
        const uint32_t masked = (crc >> 15 | crc << 17) + 0xa282ead8u;
        assert_int_equal(fixed(from + n, 4), masked);
    }
    r->at += 16 + (int64_t)length;
    return (field){ .bytes = at + 12, .value = length };
}

static void open_reader(reader *r)
{
    char **names, *bytes = NULL;
    int64_t n;
    assert_int_equal(nn_file_list(scratch_path, &names, &n), NN_OK);
    assert_int_equal(n, 1);
    assert_int_equal(nn_file_read(scratch(names[0]), MOST, &bytes, &r->n), NN_OK);
    memcpy(r->bytes, bytes, (size_t)r->n);
    r->at = 0;
    nn_free(bytes);
    nn_file_list_free(names, n);
}

static bool is_text(const field *f, const char *text)
{
    return f->bytes && f->value == strlen(text) && !memcmp(f->bytes, text, f->value);
}

static float as_float(const field *f)
{
    const uint32_t bits = (uint32_t)f->value;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static field value_of(const field *event)
{
    const field summary = find(event->bytes, event->value, SUMMARY);
    return find(summary.bytes, summary.value, 1);
}

static void checksums(void **state)
{
    (void)state;
    /* RFC 3720, B.4, and the usual check value. */
    unsigned char bytes[32] = { 0 };
    assert_int_equal(nn_crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(nn_crc32c(bytes, 32), 0x62a8ab43);
    assert_int_equal(nn_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(nn_crc32c("", 0), 0);
}

static void what_is_written(void **state)
{
    static const char png[] = "not a picture";
    static reader r;
    nn_events *e;
    (void)state;
    assert_int_equal(nn_events_open(scratch_path, 300, &e), NN_OK);
    assert_int_equal(nn_events_number(e, 300, "train/loss", 0.125), NN_OK);
    assert_int_equal(nn_events_number(e, 301, "train/loss", NAN), NN_OK);
    assert_int_equal(nn_events_picture(e, 1LL << 40, "pictures", 64, 4096, png, 13), NN_OK);
    open_reader(&r); /* every record is there before the file is closed */
    nn_events_close(e);

    field event = next_event(&r), f = find(event.bytes, event.value, VERSION);
    assert_true(is_text(&f, "brain.Event:2"));
    event = next_event(&r);
    f = find(event.bytes, event.value, SESSION);
    assert_int_equal(find(f.bytes, f.value, 1).value, 1); /* starts, at step */
    assert_int_equal(find(event.bytes, event.value, 2).value, 300);

    event = next_event(&r);
    assert_int_equal(find(event.bytes, event.value, 2).value, 300);
    field value = value_of(&event);
    f = find(value.bytes, value.value, 1);
    assert_true(is_text(&f, "train/loss"));
    f = find(value.bytes, value.value, 2);
    assert_float_equal(as_float(&f), 0.125, 0);

    event = next_event(&r);
    value = value_of(&event);
    f = find(value.bytes, value.value, 2);
    assert_true(isnan(as_float(&f)));

    event = next_event(&r);
    assert_int_equal(find(event.bytes, event.value, 2).value, 1LL << 40);
    value = value_of(&event);
    const field image = find(value.bytes, value.value, 4);
    assert_int_equal(find(image.bytes, image.value, 1).value, 64);
    assert_int_equal(find(image.bytes, image.value, 2).value, 4096);
    f = find(image.bytes, image.value, 4);
    assert_true(is_text(&f, png));
    assert_int_equal(r.at, r.n);
}

static void no_directory(void **state)
{
    nn_events *e;
    (void)state;
    expect_failure(nn_events_open("/nonexistent", 0, &e), NN_IO, "/nonexistent/events.out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums),
        cmocka_unit_test_setup_teardown(what_is_written, scratch_make, scratch_remove),
        cmocka_unit_test(no_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
