/* Writing: the header is built in memory, the data is streamed from the caller's tensors, or piece
 * by piece from where they are; checksums are those of the bytes on their way to the file. */
#include <stdlib.h>
#include <string.h>

#include "data/json.h"
#include "data/safetensors.h"
#include "engine/base/alloc.h"
#include "engine/base/checksum.h"
#include "engine/base/str.h"

static int by_size_and_name(const void *a, const void *b)
{
    const nn_weight *x = *(const nn_weight *const *)a;
    const nn_weight *y = *(const nn_weight *const *)b;
    int bits = nn_st_dtype_bits(y->dtype) - nn_st_dtype_bits(x->dtype);
    return bits ? bits : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const nn_weight *const *)a)->name, (*(const nn_weight *const *)b)->name);
}

static nn_status check_tensor(const nn_weight *t)
{
    if (!t->name || !nn_utf8_valid(t->name, (int64_t)strlen(t->name)))
        return nn_fail(NN_ARGUMENT, "a tensor to be written has no name in UTF-8");
    if (strcmp(t->name, "__metadata__") == 0)
        return nn_fail(NN_ARGUMENT, "no tensor may be called __metadata__");
    if ((unsigned)t->dtype >= NN_ST_COUNT || t->rank < 0 || t->rank > NN_WEIGHT_RANK)
        return nn_fail(NN_ARGUMENT, "tensor '%s' has rank %d, at most %d are written", t->name,
                       t->rank, NN_WEIGHT_RANK);
    int64_t bits = nn_st_dtype_bits(t->dtype);
    bool fits = true;
    for (int i = 0; i < t->rank; i++)
        fits = fits && t->dim[i] >= 0 && !__builtin_mul_overflow(bits, t->dim[i], &bits);
    if (!fits || bits % 8 || bits / 8 != t->bytes)
        return nn_fail(NN_ARGUMENT, "tensor '%s' has %lld bytes, its shape needs %lld", t->name,
                       (long long)t->bytes, fits ? (long long)(bits / 8) : -1LL);
    return NN_OK;
}

static nn_status check_tensors(const nn_weight **order, int64_t n)
{
    if (n > NN_WEIGHT_FILE_MOST)
        return nn_fail(NN_ARGUMENT, "%lld tensors to write, at most %d fit", (long long)n,
                       NN_WEIGHT_FILE_MOST);
    for (int64_t i = 0; i < n; i++) NN_TRY(check_tensor(order[i]));
    if (n) qsort(order, (size_t)n, sizeof(*order), by_name);
    for (int64_t i = 1; i < n; i++)
        if (by_name(&order[i - 1], &order[i]) == 0)
            return nn_fail(NN_ARGUMENT, "two tensors are called '%s'", order[i]->name);
    if (n) qsort(order, (size_t)n, sizeof(*order), by_size_and_name);
    return NN_OK;
}

static nn_status add_metadata(nn_text *header, const nn_st_pair *pair, int64_t n)
{
    static const nn_st_pair from_torch = { "format", "pt" };
    if (n == 0) {
        pair = &from_torch;
        n = 1;
    }
    NN_TRY(nn_text_add(header, "{\"__metadata__\":{"));
    for (int64_t i = 0; i < n; i++) {
        if (i) NN_TRY(nn_text_add(header, ","));
        NN_TRY(nn_json_write_string(header, pair[i].key));
        NN_TRY(nn_text_add(header, ":"));
        NN_TRY(nn_json_write_string(header, pair[i].value));
    }
    return nn_text_add(header, "}");
}

static nn_status add_entry(nn_text *header, const nn_weight *t, int64_t begin)
{
    NN_TRY(nn_text_add(header, ","));
    NN_TRY(nn_json_write_string(header, t->name));
    NN_TRY(nn_text_add(header, ":{\"dtype\":\"%s\",\"shape\":[", nn_st_dtype_name(t->dtype)));
    for (int i = 0; i < t->rank; i++)
        NN_TRY(nn_text_add(header, "%s%lld", i ? "," : "", (long long)t->dim[i]));
    return nn_text_add(header, "],\"data_offsets\":[%lld,%lld]}", (long long)begin,
                       (long long)begin + (long long)t->bytes);
}

/* The eight length bytes and the header, padded with spaces to a multiple of 8. */
static nn_status build_header(nn_text *header, const nn_weight *const *order, int64_t n,
                              const nn_st_pair *metadata, int64_t n_metadata)
{
    unsigned char length[8] = { 0 };
    int64_t begin = 0;
    NN_TRY(nn_text_add_bytes(header, length, sizeof(length)));
    NN_TRY(add_metadata(header, metadata, n_metadata));
    for (int64_t i = 0; i < n; i++) {
        NN_TRY(add_entry(header, order[i], begin));
        begin += order[i]->bytes;
    }
    NN_TRY(nn_text_add(header, "}"));
    while (header->length % 8) NN_TRY(nn_text_add(header, " "));
    int64_t bytes = header->length - 8;
    if (bytes > NN_SAFETENSORS_HEADER_BYTES)
        return nn_fail(NN_ARGUMENT, "the header would have %lld bytes, at most %d are allowed",
                       (long long)bytes, NN_SAFETENSORS_HEADER_BYTES);
    for (int i = 0; i < 8; i++) header->text[i] = (char)(bytes >> (8 * i) & 0xff);
    return NN_OK;
}

/* Where the bytes go. */
typedef struct output {
    nn_writer writer;
    bool sealed;
    nn_checksum now;      /* of the section at hand */
    unsigned char *table; /* the checksums of those before */
    int64_t n;            /* how many */
} output;

static nn_status put(output *o, const void *bytes, int64_t n)
{
    if (o->sealed) nn_checksum_add(&o->now, bytes, n);
    return nn_writer_add(&o->writer, bytes, n);
}

static void add_checksum(output *o, uint64_t sum)
{
    for (int i = 0; i < 8; i++) o->table[8 * o->n + i] = (unsigned char)(sum >> 8 * i & 0xff);
    o->n++;
}

/* The header, or a tensor, is complete. */
static void end_section(output *o)
{
    if (!o->sealed) return;
    add_checksum(o, nn_checksum_end(&o->now));
    nn_checksum_start(&o->now);
}

static nn_status write_pieces(output *o, const nn_weight *t, const nn_st_source *source,
                              char *piece)
{
    for (int64_t at = 0; at < t->bytes; at += NN_SAFETENSORS_PIECE) {
        int64_t n = nn_min(t->bytes - at, NN_SAFETENSORS_PIECE);
        NN_TRY(source->fetch(source->ctx, t, at, n, piece));
        NN_TRY(put(o, piece, n));
    }
    return NN_OK;
}

/* source NULL: the data is where it says. */
static nn_status write_data(output *o, const nn_weight *const *order, int64_t n,
                            const nn_st_source *source)
{
    nn_status status = NN_OK;
    char *piece = source ? nn_alloc(NN_SAFETENSORS_PIECE, 1) : NULL;
    if (source) NN_NEED(piece);
    for (int64_t i = 0; status == NN_OK && i < n; i++) {
        status = source ? write_pieces(o, order[i], source, piece)
                        : put(o, order[i]->data, order[i]->bytes);
        end_section(o);
    }
    nn_free(piece);
    return status;
}

static nn_status write_sections(output *o, const nn_text *header, const nn_weight *const *order,
                                int64_t n, const nn_st_source *source)
{
    nn_checksum_start(&o->now);
    NN_TRY(put(o, header->text, header->length));
    end_section(o);
    NN_TRY(write_data(o, order, n, source));
    if (!o->sealed) return NN_OK;
    add_checksum(o, nn_checksum_of(o->table, 8 * o->n));
    return nn_writer_add(&o->writer, o->table, 8 * o->n);
}

/* checksums: the tensor of them, which lies behind the others; NULL = none are written. */
static nn_status write_file(const char *path, const nn_text *header, const nn_weight *const *order,
                            int64_t n, const nn_st_source *source, const nn_weight *checksums)
{
    output o = { .sealed = checksums != NULL };
    if (o.sealed) NN_NEED(o.table = nn_alloc(checksums->bytes, 1));
    nn_status status = nn_writer_open(path, &o.writer);
    if (status == NN_OK) status = write_sections(&o, header, order, n, source);
    if (status == NN_OK)
        status = nn_writer_commit(&o.writer);
    else
        nn_writer_abort(&o.writer);
    nn_free(o.table);
    return status;
}

/* Behind the n tensors of the order, whatever its dtype. */
static nn_status add_checksums(const nn_weight **order, int64_t n, const nn_weight *checksums)
{
    for (int64_t i = 0; i < n; i++)
        if (strcmp(order[i]->name, checksums->name) == 0)
            return nn_fail(NN_ARGUMENT, "no tensor may be called %s", checksums->name);
    order[n] = checksums;
    return NN_OK;
}

/* order: room for one more than n. checksums NULL: a plain file. */
static nn_status write_all(const char *path, const nn_weight **order, int64_t n,
                           const nn_st_pair *metadata, int64_t n_metadata,
                           const nn_st_source *source, const nn_weight *checksums)
{
    nn_text header = { 0 };
    nn_status status = check_tensors(order, n);
    if (status == NN_OK && checksums) status = add_checksums(order, n, checksums);
    if (status == NN_OK)
        status = build_header(&header, order, n + (checksums != NULL), metadata, n_metadata);
    if (status == NN_OK)
        status = write_file(path, &header, order, n, source, checksums);
    else
        nn_fail_prefix(status, "%s: ", path);
    nn_text_free(&header);
    return status;
}

/* The order starts as the caller's, with room for one more. Owner: nn_free. */
static nn_status list_tensors(const nn_weight *tensors, int64_t n, const nn_weight ***order)
{
    NN_NEED(*order = nn_alloc(n + 1, sizeof(**order)));
    for (int64_t i = 0; i < n; i++) (*order)[i] = &tensors[i];
    return NN_OK;
}

nn_status nn_safetensors_write_from(const char *path, const nn_weight *tensors, int64_t n,
                                    const nn_st_pair *metadata, int64_t n_metadata,
                                    const nn_st_source *source)
{
    const nn_weight **order;
    NN_TRY(list_tensors(tensors, n, &order));
    nn_status status = write_all(path, order, n, metadata, n_metadata, source, NULL);
    nn_free(order);
    return status;
}

nn_status nn_safetensors_write_sealed(const char *path, const nn_weight *tensors, int64_t n,
                                      const nn_st_pair *metadata, int64_t n_metadata,
                                      const nn_st_source *source)
{
    const nn_weight checksums = { .name = NN_SAFETENSORS_CHECKSUMS,
                                  .dtype = NN_ST_U8,
                                  .rank = 2,
                                  .dim = { n + 2, 8 },
                                  .bytes = 8 * (n + 2) };
    const nn_weight **order;
    NN_TRY(list_tensors(tensors, n, &order));
    nn_status status = write_all(path, order, n, metadata, n_metadata, source, &checksums);
    nn_free(order);
    return status;
}

nn_status nn_safetensors_write(const char *path, const nn_weight *tensors, int64_t n,
                               const nn_st_pair *metadata, int64_t n_metadata)
{
    return nn_safetensors_write_from(path, tensors, n, metadata, n_metadata, NULL);
}
