/* EXIF: only the orientation, from bytes that nobody has checked. */
#include "data/image_codec.h"

#include <string.h>

/* The TIFF block inside the segment. Reads beyond its end yield 0, which no valid file has at the
 * places that are read here. */
typedef struct tiff {
    const uint8_t *bytes;
    int64_t n;
    bool big_endian;
} tiff;

static uint32_t read_uint(const tiff *t, int64_t at, int size)
{
    if (at < 0 || at > t->n - size) return 0;
    uint32_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | t->bytes[at + (t->big_endian ? i : size - 1 - i)];
    return value;
}

int nn_exif_orientation(const uint8_t *segment, int64_t n)
{
    enum { HEADER = 6, ENTRY = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };
    if (n < HEADER || memcmp(segment, "Exif\0\0", HEADER) != 0) return 1;
    tiff t = { segment + HEADER, n - HEADER, false };
    if (t.n < 2 || (memcmp(t.bytes, "II", 2) != 0 && memcmp(t.bytes, "MM", 2) != 0)) return 1;
    t.big_endian = t.bytes[0] == 'M';
    if (read_uint(&t, 2, 2) != 42) return 1;
    int64_t directory = read_uint(&t, 4, 4);
    int64_t n_entries = read_uint(&t, directory, 2);
    for (int64_t i = 0; i < n_entries; i++) {
        int64_t entry = directory + 2 + i * ENTRY;
        if (read_uint(&t, entry, 2) != TAG_ORIENTATION) continue;
        uint32_t type = read_uint(&t, entry + 2, 2), count = read_uint(&t, entry + 4, 4);
        uint32_t value = read_uint(&t, entry + 8, 2);
        bool valid = type == TYPE_SHORT && count == 1 && value >= 1 && value <= 8;
        return valid ? (int)value : 1;
    }
    return 1;
}
