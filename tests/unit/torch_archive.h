/* Archives and pickles as torch.save writes them, and broken ones. */
#ifndef TESTS_UNIT_TORCH_ARCHIVE_H
#define TESTS_UNIT_TORCH_ARCHIVE_H

#include "engine/base/str.h"
#include "tests/unit/scratch.h"

static inline void put_bytes(nn_text *t, const void *bytes, int64_t n)
{
    if (n) assert_int_equal(nn_text_add_bytes(t, bytes, n), NN_OK);
}

/* All bytes of a literal, zeros included. */
#define PUT(t, literal) put_bytes(t, literal, (int64_t)sizeof(literal) - 1)

static inline void put_number(nn_text *t, uint64_t value, int bytes)
{
    for (; bytes--; value >>= 8) {
        char c = (char)value;
        put_bytes(t, &c, 1);
    }
}

/* -- zip -- */

/* An archive under way. What is not 0 in `odd` goes into the next entry instead of the truth. */
typedef struct archive {
    nn_text bytes, directory;
    int n;
    struct {
        int flags, method;
        uint64_t packed, size, local; /* of the directory's record */
        const char *inner_name;
        const char *extra; /* of the directory's record, n_extra bytes */
        int n_extra;
    } odd;
} archive;

static inline void archive_add(archive *a, const char *name, const void *data, int64_t n)
{
    uint64_t local = (uint64_t)a->bytes.length;
    const char *inner = a->odd.inner_name ? a->odd.inner_name : name;
    PUT(&a->bytes, "PK\3\4\0\0");
    put_number(&a->bytes, 0, 12);
    put_number(&a->bytes, (uint64_t)n, 4);
    put_number(&a->bytes, (uint64_t)n, 4);
    put_number(&a->bytes, strlen(inner), 2);
    put_number(&a->bytes, 3, 2); /* an extra field, as torch pads with */
    put_bytes(&a->bytes, inner, (int64_t)strlen(inner));
    PUT(&a->bytes, "FB\1");
    put_bytes(&a->bytes, data, n);

    nn_text *d = &a->directory;
    PUT(d, "PK\1\2\0\0\0\0");
    put_number(d, (uint64_t)a->odd.flags, 2);
    put_number(d, (uint64_t)a->odd.method, 2);
    put_number(d, 0, 8);
    put_number(d, a->odd.packed ? a->odd.packed : (uint64_t)n, 4);
    put_number(d, a->odd.size ? a->odd.size : (uint64_t)n, 4);
    put_number(d, strlen(name), 2);
    put_number(d, (uint64_t)a->odd.n_extra, 2);
    put_number(d, 0, 10);
    put_number(d, a->odd.local ? a->odd.local : local, 4);
    put_bytes(d, name, (int64_t)strlen(name));
    put_bytes(d, a->odd.extra, a->odd.n_extra);
    memset(&a->odd, 0, sizeof(a->odd));
    a->n++;
}

/* The directory and the end record; with Zip64's records in front of it where that is wanted. */
static inline void archive_end(archive *a, bool zip64)
{
    uint64_t at = (uint64_t)a->bytes.length, n = (uint64_t)a->n;
    uint64_t bytes = (uint64_t)a->directory.length;
    put_bytes(&a->bytes, a->directory.text ? a->directory.text : "", a->directory.length);
    if (zip64) {
        uint64_t record = (uint64_t)a->bytes.length;
        PUT(&a->bytes, "PK\6\6");
        put_number(&a->bytes, 44, 8);
        put_number(&a->bytes, 0, 12);
        put_number(&a->bytes, n, 8);
        put_number(&a->bytes, n, 8);
        put_number(&a->bytes, bytes, 8);
        put_number(&a->bytes, at, 8);
        PUT(&a->bytes, "PK\6\7");
        put_number(&a->bytes, 0, 4);
        put_number(&a->bytes, record, 8);
        put_number(&a->bytes, 1, 4);
    }
    PUT(&a->bytes, "PK\5\6\0\0\0\0");
    put_number(&a->bytes, zip64 ? 0xffff : n, 2);
    put_number(&a->bytes, zip64 ? 0xffff : n, 2);
    put_number(&a->bytes, zip64 ? UINT32_MAX : bytes, 4);
    put_number(&a->bytes, zip64 ? UINT32_MAX : at, 4);
    put_number(&a->bytes, 0, 2);
    nn_text_free(&a->directory);
}

/* -- pickle -- */

static inline void put_text(nn_text *t, const char *text)
{
    PUT(t, "X");
    put_number(t, strlen(text), 4);
    put_bytes(t, text, (int64_t)strlen(text));
}

static inline void put_int(nn_text *t, int64_t value)
{
    PUT(t, "\x8a\x08");
    put_number(t, (uint64_t)value, 8);
}

static inline void put_tuple(nn_text *t, int n, const int64_t *values)
{
    PUT(t, "(");
    for (int i = 0; i < n; i++) put_int(t, values[i]);
    PUT(t, "t");
}

/* A tensor as torch.save describes it. */
typedef struct torch_tensor {
    const char *storage, *key; /* "FloatStorage", "0" */
    int64_t numel, offset;
    int rank, n_strides;
    int64_t dim[10], stride[10];
} torch_tensor;

static inline void put_tensor(nn_text *t, const torch_tensor *x)
{
    PUT(t, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(t, "storage");
    PUT(t, "ctorch\n");
    put_bytes(t, x->storage, (int64_t)strlen(x->storage));
    PUT(t, "\n");
    put_text(t, x->key);
    put_text(t, "cpu");
    put_int(t, x->numel);
    PUT(t, "tQ");
    put_int(t, x->offset);
    put_tuple(t, x->rank, x->dim);
    put_tuple(t, x->n_strides, x->stride);
    put_bytes(t,
              "\x89"
              "ccollections\nOrderedDict\n)RtR",
              30);
}

#endif
