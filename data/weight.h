/* Tensors as they lie in weight files, whatever the format of the file. */
#ifndef DATA_WEIGHT_H
#define DATA_WEIGHT_H

#include "engine/base/arena.h"
#include "engine/base/file.h"
#include "engine/base/status.h"

enum {
    NN_WEIGHT_FILE_MOST = 100000, /* tensors in a file */
    NN_WEIGHT_RANK = 8            /* dimensions of a tensor */
};

/* X(name, bits). Names as safetensors files have them. */
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

/* A tensor in a file (borrowed from it) or one to be written (borrowed from the caller), row-major.
 * A rank of 0 is a scalar. `data` need not be aligned for the dtype: no format promises it. */
typedef struct nn_weight {
    const char *name;
    nn_st_dtype dtype;
    int rank;
    int64_t dim[NN_WEIGHT_RANK]; /* outermost first */
    const void *data;
    int64_t bytes;
} nn_weight;

int64_t nn_weight_elements(const nn_weight *tensor);
bool nn_weight_is_float(const nn_weight *tensor); /* F32, F16, BF16 or F64 */

/* The shape as "[320,4,3,3]". */
typedef struct nn_weight_shape {
    char s[NN_WEIGHT_RANK * 21 + 3];
} nn_weight_shape;
nn_weight_shape nn_weight_shape_text(int rank, const int64_t *dim);

/* Convert n elements from `first` on to F32, F16 or BF16, rounding to nearest even. Of dtypes that
 * are no float: NN_UNSUPPORTED. */
nn_status nn_weight_convert(const nn_weight *tensor, int64_t first, int64_t n, nn_st_dtype dtype,
                            void *out) NN_CHECKED;

/* The whole tensor as f32: out[elements]. */
nn_status nn_weight_to_f32(const nn_weight *tensor, float *out) NN_CHECKED;

/* What a file says about itself: "__metadata__" of safetensors, scalars beside the weights in a
 * torch file. */
typedef struct nn_st_pair {
    const char *key, *value;
} nn_st_pair;

/* An open file. tensor[0..n) is sorted by name (bytes) and may be walked directly; data lies in the
 * map. Owner: nn_weight_file_close. */
typedef struct nn_weight_file {
    const struct nn_weight_format *format;
    nn_weight *tensor;
    int64_t n;
    nn_st_pair *metadata;
    int64_t n_metadata;
    nn_map map;
    nn_arena arena;
} nn_weight_file;

/* A format of weight files. read fills a file whose map is open already, and checks everything
 * before it allocates in proportion to what the file claims. */
typedef struct nn_weight_format {
    const char *name;
    bool (*recognises)(const nn_map *map); /* by its first bytes */
    nn_status (*read)(const char *path, nn_weight_file *file);
} nn_weight_format;

/* Map a file and read it as the format that recognises it (none: as safetensors, whose messages
 * then say what is wrong). A violated rule is NN_FORMAT with a message of its own. On failure
 * nothing needs to be closed. */
nn_status nn_weight_file_open(const char *path, nn_weight_file *file) NN_CHECKED;

/* The same for a file that must have the given format. */
nn_status nn_weight_file_open_as(const char *path, const nn_weight_format *format,
                                 nn_weight_file *file) NN_CHECKED;
void nn_weight_file_close(nn_weight_file *file);

/* The tensor of that name, or NULL. */
const nn_weight *nn_weight_file_find(const nn_weight_file *file, const char *name);

/* The metadata under a key, or NULL. */
const char *nn_weight_file_metadata(const nn_weight_file *file, const char *key);

#endif
