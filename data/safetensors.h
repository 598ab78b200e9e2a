/* The safetensors format: mapped reading with every rule checked, and atomic writing.
 *
 * File: u64 N little-endian | N bytes of JSON | tensor data, row-major, little-endian. Source: the
 * safetensors format description; limits of our own are named here and in data/weight.h. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include "data/weight.h"

enum { NN_SAFETENSORS_HEADER_BYTES = 100000000 }; /* set by the format */

extern const nn_weight_format nn_safetensors;

/* nn_weight_file_open_as for this format. */
nn_status nn_safetensors_open(const char *path, nn_weight_file *file) NN_CHECKED;

/* Write n tensors, ordered by dtype size (largest first) and name, with the given metadata, or
 * {"format": "pt"} when there is none (transformers wants it). The file appears completely or not
 * at all. A tensor whose bytes do not fit its shape, or a name given twice, is NN_ARGUMENT. */
nn_status nn_safetensors_write(const char *path, const nn_weight *tensors, int64_t n,
                               const nn_st_pair *metadata, int64_t n_metadata) NN_CHECKED;

/* Tensors whose data the host cannot read where it is, or not as it is to be written: fetch brings
 * bytes at .. at + n - 1 of a tensor to `out`, and alone makes something of its `data`. It is asked
 * for one piece after the other, of NN_SAFETENSORS_PIECE bytes or what is left. */
enum { NN_SAFETENSORS_PIECE = 4 << 20 };

typedef struct nn_st_source {
    nn_status (*fetch)(void *ctx, const nn_weight *tensor, int64_t at, int64_t n, void *out);
    void *ctx;
} nn_st_source;

/* nn_safetensors_write with such tensors, or with ordinary ones (source NULL); its memory does not
 * depend on their size. An error of the source is the error. */
nn_status nn_safetensors_write_from(const char *path, const nn_weight *tensors, int64_t n,
                                    const nn_st_pair *metadata, int64_t n_metadata,
                                    const nn_st_source *source) NN_CHECKED;

/* -- files that know their checksums: as the last tensor, U8 [n + 2, 8], little-endian XXH64 of the
 *    header with its length, of every tensor in the order of the data, and of these -- */

#define NN_SAFETENSORS_CHECKSUMS "checksums.xxh64"

nn_status nn_safetensors_write_sealed(const char *path, const nn_weight *tensors, int64_t n,
                                      const nn_st_pair *metadata, int64_t n_metadata,
                                      const nn_st_source *source) NN_CHECKED;

/* Read all of such a file. NN_FORMAT: it has no checksums, or there is damage, and where: the
 * tensor, the header or the checksums themselves. path: for the message. */
nn_status nn_safetensors_verify(const char *path, const nn_weight_file *file) NN_CHECKED;

#endif
