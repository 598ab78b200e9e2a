/* The safetensors format: mapped reading with every rule checked, and atomic writing.
 *
 * File: u64 N little-endian | N bytes of JSON | tensor data, row-major, little-endian. Source: the
 * safetensors format description; limits of our own are named below. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/status.h"

enum {
    NN_SAFETENSORS_MOST = 100000,           /* tensors in a file */
    NN_SAFETENSORS_RANK = 8,                /* dimensions of a tensor */
    NN_SAFETENSORS_HEADER_BYTES = 100000000 /* set by the format */
};

/* X(name, bits). Names as they stand in the file. */
#define NN_ST_DTYPES(X)                                                                            \
    X(F64, 64)                                                                                     \
    X(I64, 64)                                                                                     \
    X(U64, 64)                                                                                     \
    X(C64, 64)                                                                                     \
    X(F32, 32)                                                                                     \
    X(I32, 32)                                                                                     \
    X(U32, 32)                                                                                     \
    X(F16, 16)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(I16, 16)                                                                                     \
    X(U16, 16)                                                                                     \
    X(BOOL, 8)                                                                                     \
    X(U8, 8)                                                                                       \
    X(I8, 8)                                                                                       \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E4M3, 8)                                                                                  \
    X(F8_E8M0, 8)                                                                                  \
    X(F8_E5M2FNUZ, 8)                                                                              \
    X(F8_E4M3FNUZ, 8)                                                                              \
    X(F6_E2M3, 6)                                                                                  \
    X(F6_E3M2, 6)                                                                                  \
    X(F4, 4)

typedef enum nn_st_dtype {
#define X(name, bits) NN_ST_##name,
    NN_ST_DTYPES(X)
#undef X
        NN_ST_COUNT
} nn_st_dtype;

const char *nn_st_dtype_name(nn_st_dtype dtype); /* "BF16" */
int nn_st_dtype_bits(nn_st_dtype dtype);

/* A tensor in a file (borrowed from it) or one to be written (borrowed from the caller). A rank of
 * 0 is a scalar. `data` need not be aligned for the dtype: the format does not promise it. */
typedef struct nn_safetensor {
    const char *name;
    nn_st_dtype dtype;
    int rank;
    int64_t dim[NN_SAFETENSORS_RANK]; /* outermost first */
    const void *data;
    int64_t bytes;
} nn_safetensor;

int64_t nn_safetensor_elements(const nn_safetensor *tensor);

/* Convert F32, F16, BF16 or F64 to out[elements]; other dtypes are NN_UNSUPPORTED. */
nn_status nn_safetensor_to_f32(const nn_safetensor *tensor, float *out) NN_CHECKED;

/* The same of n elements from `first` on. */
nn_status nn_safetensor_part_to_f32(const nn_safetensor *tensor, int64_t first, int64_t n,
                                    float *out) NN_CHECKED;

/* One entry of "__metadata__". */
typedef struct nn_st_pair {
    const char *key, *value;
} nn_st_pair;

/* An open file. tensor[0..n) is sorted by name (bytes) and may be walked directly. */
typedef struct nn_safetensors {
    nn_safetensor *tensor;
    int64_t n;
    nn_st_pair *metadata;
    int64_t n_metadata;
    nn_map map;
    nn_arena arena;
} nn_safetensors;

/* Map and check a file. A violated rule is NN_FORMAT with a message of its own. On failure nothing
 * needs to be closed. */
nn_status nn_safetensors_open(const char *path, nn_safetensors *file) NN_CHECKED;
void nn_safetensors_close(nn_safetensors *file);

/* The tensor of that name, or NULL. */
const nn_safetensor *nn_safetensors_find(const nn_safetensors *file, const char *name);

/* The metadata under a key, or NULL. */
const char *nn_safetensors_metadata(const nn_safetensors *file, const char *key);

/* Write n tensors, ordered by dtype size (largest first) and name, with the given metadata, or
 * {"format": "pt"} when there is none (transformers wants it). The file appears completely or not
 * at all. A tensor whose bytes do not fit its shape, or a name given twice, is NN_ARGUMENT. */
nn_status nn_safetensors_write(const char *path, const nn_safetensor *tensors, int64_t n,
                               const nn_st_pair *metadata, int64_t n_metadata) NN_CHECKED;

/* Tensors whose data the host cannot read where it is, or not as it is to be written: fetch brings
 * bytes at .. at + n - 1 of a tensor to `out`, and alone makes something of its `data`. It is asked
 * for one piece after the other, of NN_SAFETENSORS_PIECE bytes or what is left. */
enum { NN_SAFETENSORS_PIECE = 4 << 20 };

typedef struct nn_st_source {
    nn_status (*fetch)(void *ctx, const nn_safetensor *tensor, int64_t at, int64_t n, void *out);
    void *ctx;
} nn_st_source;

/* nn_safetensors_write with such tensors; its memory does not depend on their size. An error of the
 * source is the error. */
nn_status nn_safetensors_write_from(const char *path, const nn_safetensor *tensors, int64_t n,
                                    const nn_st_pair *metadata, int64_t n_metadata,
                                    const nn_st_source *source) NN_CHECKED;

#endif
