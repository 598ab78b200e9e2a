/* All that a kernel can see: views of borrowed memory, the parameters of its op, and reserved
 * scratch space.
 *
 * A kernel never allocates, never waits and never looks at a graph. A list of kernels per op and
 * backend is ordered best first; the first that accepts a call runs it. */
#ifndef KERNELS_KERNEL_H
#define KERNELS_KERNEL_H

#include "engine/base/pool.h"
#include "engine/base/status.h"

enum { NN_MAX_RANK = 6, NN_MAX_IN = 8, NN_MAX_OUT = 6 };

typedef enum nn_dtype { NN_NONE, NN_F32, NN_F64, NN_BF16, NN_F16, NN_I32 } nn_dtype;

typedef struct nn_view { /* borrowed memory; never owns */
    void *data;
    nn_dtype dtype; /* NN_NONE = an optional operand that is absent */
    int rank;
    int64_t dim[NN_MAX_RANK];    /* elements, outermost first */
    int64_t stride[NN_MAX_RANK]; /* elements; 0 = broadcast */
} nn_view;

/* One name per op, from the list. */
typedef enum nn_op_id {
#define NN_OP(ID, name) NN_OP_##ID,
#include "kernels/ops.def"
#undef NN_OP
    NN_OP_COUNT
} nn_op_id;

typedef struct nn_call {
    nn_view in[NN_MAX_IN], out[NN_MAX_OUT];
    int n_in, n_out;
    const void *params; /* nn_<op>_params */
    nn_pool *pool;      /* host backends: the team that computes */
    void *stream;       /* cuda: the stream to enqueue on */
    uint64_t seed;      /* key of the counter-based generator: same seed, same bits, any grid */
    void *workspace;    /* reserved by the plan, shared by all nodes, 64-byte aligned */
    size_t workspace_bytes;
    bool frozen;        /* weights change only when `repack` says so: they may be kept packed */
    bool deterministic; /* equal runs must give equal bits: no sums whose order depends on timing */
    nn_dtype arithmetic; /* NN_BF16: products round their f32 operands to it first, where the
                            backend computes in bf16 without storing it */
    bool repack;         /* first run, or the weights changed since the last */
    void *packed;        /* memory of this node for packed weights, kept between runs */
    size_t packed_bytes; /* what prepare asked for */
    size_t repack_bytes; /* by prepare: workspace where `repack` is set, if more than always */
    unsigned packed_in; /* by prepare: bit i: in[i] is read where `repack` is set, and only there */
    void *state;        /* what prepare built: primitives of a library */
    /* Device memory. If not NULL, the key of random kernels is nn_mix(*run_seed, stream_id), to be
     * read by the running kernel: the call may be of an earlier run, and `seed` with it. */
    const uint64_t *run_seed;
    uint64_t stream_id;
} nn_call;

typedef struct nn_kernel {
    const char *name;                   /* "<op>_<dtype>_<strategy>", never a number */
    bool (*accepts)(const nn_call *c);  /* every precondition as code; NULL = takes all that infer
                                           allows. Memory  is not placed yet: of an address only the
                                           alignment, up to 64 bytes,  is true */
    nn_status (*run)(const nn_call *c); /* enqueue; never sync, never allocate */
    size_t (*workspace)(const nn_call *c); /* bytes wanted; NULL = none */
    nn_status (*prepare)(nn_call *c);      /* once per plan, before memory exists; may set state,
                                              packed_bytes,      packed_in, repack_bytes and raise
                                              workspace_bytes; NULL =      nothing to prepare */
    void (*release)(nn_call *c);           /* frees state; NULL = nothing to free */
    /* Fills `packed`: before run where `repack` is set, or earlier. NULL = run does it. */
    nn_status (*pack)(const nn_call *c);
    /* Bytes that it moves beyond reading each operand and writing each result once: parts of sums,
     * rearranged copies, operands that a second launch reads again. NULL = what workspace asked for
     * is written and read once. */
    double (*extra_bytes)(const nn_call *c);
    bool strided_out; /* results may be parts of larger ones, where accepts says so; those of other
                         kernels are always packed */
} nn_kernel;

int64_t nn_dtype_bytes(nn_dtype dtype);
const char *nn_dtype_name(nn_dtype dtype);

/* A contiguous view; data is NULL. */
nn_view nn_view_make(nn_dtype dtype, int rank, const int64_t *dim);
int64_t nn_view_elems(const nn_view *v);
int64_t nn_view_bytes(const nn_view *v); /* elements times size, whatever the strides */
bool nn_view_contiguous(const nn_view *v);
bool nn_view_same_shape(const nn_view *a, const nn_view *b);

/* All dims from `from` on are packed without gaps (the stride of the dims before is free). */
bool nn_view_packed_from(const nn_view *v, int from);

/* Strides of x seen with the dims of v; false where that takes a copy. */
bool nn_view_restride(const nn_view *x, nn_view *v);

/* "f32 [2,64,320]" by value, for messages. */
typedef struct nn_shape_text {
    char s[96];
} nn_shape_text;
nn_shape_text nn_view_text(const nn_view *v);

static inline bool nn_present(const nn_view *v)
{
    return v->dtype != NN_NONE;
}

/* Dims from the end: nn_last(v, 0) is the innermost. */
static inline int64_t nn_last(const nn_view *v, int i)
{
    return v->dim[v->rank - 1 - i];
}

#endif
