/* Records of an event file, in protocol buffers' encoding. */
#include "data/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/str.h"

struct nn_events {
    char *path;
    int fd;
    int64_t written; /* bytes of whole records */
    nn_text event, part, record;
};

/* -- the encoding: fields are (number << 3 | kind), then a value of that kind -------------------
 */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static nn_status add_varint(nn_text *t, uint64_t x)
{
    unsigned char out[10];
    int n = 0;
    for (; x >= 0x80; x >>= 7) out[n++] = (unsigned char)(x | 0x80);
    out[n++] = (unsigned char)x;
    return nn_text_add_bytes(t, out, n);
}

/* The n lowest bytes of x. */
static nn_status add_fixed(nn_text *t, uint64_t x, int n)
{
    unsigned char out[8];
    for (int i = 0; i < n; i++) out[i] = (unsigned char)(x >> (8 * i));
    return nn_text_add_bytes(t, out, n);
}

static nn_status add_key(nn_text *t, int field, int kind)
{
    return add_varint(t, (uint64_t)(field << 3 | kind));
}

static nn_status add_integer(nn_text *t, int field, int64_t x)
{
    NN_TRY(add_key(t, field, VARINT));
    return add_varint(t, (uint64_t)x);
}

static nn_status add_bytes(nn_text *t, int field, const void *bytes, int64_t n)
{
    NN_TRY(add_key(t, field, BYTES));
    NN_TRY(add_varint(t, (uint64_t)n));
    return nn_text_add_bytes(t, bytes, n);
}

static nn_status add_double(nn_text *t, int field, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    NN_TRY(add_key(t, field, FIXED64));
    return add_fixed(t, bits, 8);
}

static nn_status add_float(nn_text *t, int field, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    NN_TRY(add_key(t, field, FIXED32));
    return add_fixed(t, bits, 4);
}

/* -- records ----------------------------------------------------------------------------------- */

uint32_t nn_crc32c(const void *bytes, int64_t n)
{
    static const uint32_t reversed = 0x82f63b78; /* the polynomial, its lowest term first */
    const unsigned char *at = bytes;
    uint32_t crc = ~0u;
    for (int64_t i = 0; i < n; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? reversed : 0);
    }
    return ~crc;
}

static uint32_t masked(const void *bytes, int64_t n)
{
    const uint32_t crc = nn_crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static nn_status write_all(nn_events *e)
{
    const char *at = e->record.text;
    for (int64_t left = e->record.length; left > 0;) {
        const ssize_t n = write(e->fd, at, (size_t)left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return nn_fail(NN_IO, "%s: cannot write: %s", e->path, strerror(errno));
        at += n;
        left -= n;
    }
    return NN_OK;
}

/* e->event as a record. Of one that could not be written nothing stays. */
static nn_status put(nn_events *e)
{
    nn_text_clear(&e->record);
    NN_TRY(add_fixed(&e->record, (uint64_t)e->event.length, 8));
    NN_TRY(add_fixed(&e->record, masked(e->record.text, 8), 4));
    NN_TRY(nn_text_add_bytes(&e->record, e->event.text, e->event.length));
    NN_TRY(add_fixed(&e->record, masked(e->event.text, e->event.length), 4));
    const nn_status status = write_all(e);
    if (status == NN_OK)
        e->written += e->record.length;
    else if (ftruncate(e->fd, e->written) || lseek(e->fd, e->written, SEEK_SET) < 0)
        return nn_fail(NN_IO, "%s: cannot write, and ends in half a record", e->path);
    return status;
}

/* Event { double wall_time = 1; int64 step = 2; ... } */
static nn_status begin(nn_events *e, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    nn_text_clear(&e->event);
    NN_TRY(add_double(&e->event, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec));
    return add_integer(&e->event, 2, step);
}

/* The event of one Summary.Value { string tag = 1; ... }, which e->part holds:
 * Event.summary = 5, Summary.value = 1. */
static nn_status put_summary(nn_events *e, int64_t step)
{
    nn_text summary = { 0 };
    nn_status status = add_bytes(&summary, 1, e->part.text, e->part.length);
    if (status == NN_OK) status = begin(e, step);
    if (status == NN_OK) status = add_bytes(&e->event, 5, summary.text, summary.length);
    nn_text_free(&summary);
    return status == NN_OK ? put(e) : status;
}

static nn_status begin_value(nn_events *e, const char *tag)
{
    nn_text_clear(&e->part);
    return add_bytes(&e->part, 1, tag, (int64_t)strlen(tag));
}

nn_status nn_events_number(nn_events *e, int64_t step, const char *tag, double value)
{
    NN_TRY(begin_value(e, tag));
    NN_TRY(add_float(&e->part, 2, (float)value));
    return put_summary(e, step);
}

/* Image { height = 1; width = 2; colorspace = 3 (3: RGB); encoded_image_string = 4 } */
nn_status nn_events_picture(nn_events *e, int64_t step, const char *tag, int64_t height,
                            int64_t width, const void *png, int64_t n)
{
    nn_text image = { 0 };
    nn_status status = add_integer(&image, 1, height);
    if (status == NN_OK) status = add_integer(&image, 2, width);
    if (status == NN_OK) status = add_integer(&image, 3, 3);
    if (status == NN_OK) status = add_bytes(&image, 4, png, n);
    if (status == NN_OK) status = begin_value(e, tag);
    if (status == NN_OK) status = add_bytes(&e->part, 4, image.text, image.length);
    nn_text_free(&image);
    return status == NN_OK ? put_summary(e, step) : status;
}

/* -- files ------------------------------------------------------------------------------------- */

/* The file's version, and a session that starts at this step: SessionLog { status = 1 (1: START) }
 * as Event.session_log = 7. */
static nn_status put_start(nn_events *e, int64_t step)
{
    static const char version[] = "brain.Event:2";
    NN_TRY(begin(e, 0));
    NN_TRY(add_bytes(&e->event, 3, version, (int64_t)strlen(version)));
    NN_TRY(put(e));
    nn_text_clear(&e->part);
    NN_TRY(add_integer(&e->part, 1, 1));
    NN_TRY(begin(e, step));
    NN_TRY(add_bytes(&e->event, 7, e->part.text, e->part.length));
    return put(e);
}

static nn_status create(const char *dir, nn_events *e)
{
    char host[128] = "";
    if (gethostname(host, sizeof(host) - 1)) snprintf(host, sizeof(host), "host");
    e->path = nn_format("%s/events.out.tfevents.%010lld.%s.%ld", dir, (long long)time(NULL), host,
                        (long)getpid());
    NN_NEED(e->path);
    e->fd = open(e->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (e->fd < 0) return nn_fail(NN_IO, "%s: cannot create: %s", e->path, strerror(errno));
    return NN_OK;
}

nn_status nn_events_open(const char *dir, int64_t step, nn_events **out)
{
    nn_events *e = nn_alloc(1, sizeof(*e));
    NN_NEED(e);
    e->fd = -1;
    nn_status status = create(dir, e);
    if (status == NN_OK) status = put_start(e, step);
    if (status != NN_OK) {
        nn_events_close(e);
        return status;
    }
    *out = e;
    return NN_OK;
}

void nn_events_close(nn_events *e)
{
    if (!e) return;
    if (e->fd >= 0) close(e->fd);
    nn_free(e->path);
    nn_text_free(&e->event);
    nn_text_free(&e->part);
    nn_text_free(&e->record);
    nn_free(e);
}
