/* oneDNN behind nn_kernel: `prepare` builds a program of primitives into nn_call.state, `run`
 * executes it, `release` frees it.
 *
 * A program never allocates tensor memory: weights in a layout of the library's own go to
 * nn_call.packed when the plan is frozen, every other copy and the primitives' scratchpads to
 * nn_call.workspace. The threads are those of the call's pool (both are GNU OpenMP's), and work is
 * cut by index, so that results do not depend on timing. */
#ifndef KERNELS_CPU_ONEDNN_ONEDNN_H
#define KERNELS_CPU_ONEDNN_ONEDNN_H

#include <dnnl.h>

#include "kernels/backend.h"
#include "kernels/params.h"

/* Engine and stream of a device, in nn_device.stream; limited to the instruction set that
 * nn_cpu_level allows. */
nn_status nn_dnnl_open(nn_device *d) NN_CHECKED;
void nn_dnnl_close(nn_device *d);

/* Whether products in bf16 are faster than in f32: the processor has instructions for them. After a
 * device was opened. */
bool nn_dnnl_has_bf16(void);

typedef enum nn_dnnl_where {
    NN_DNNL_IN,        /* `at` counts inputs of the call */
    NN_DNNL_OUT,       /* `at` counts outputs */
    NN_DNNL_WORKSPACE, /* `at` is in bytes */
    NN_DNNL_PACKED,
    NN_DNNL_SCRATCH /* behind the copies in the workspace; `at` is 0 */
} nn_dnnl_where;

/* An operand: a layout, where it lies, and which argument of its primitive it is. */
typedef struct nn_dnnl_arg {
    int arg; /* DNNL_ARG_... */
    nn_dnnl_where where;
    size_t at;
    dnnl_memory_desc_t md;
} nn_dnnl_arg;

/* The same layout with elements of another type. */
dnnl_memory_desc_t nn_dnnl_of(const dnnl_memory_desc_t *md, dnnl_data_type_t type);

/* f32 layouts. A dim of size 1 may have any stride in a view; here it gets a regular one. */
dnnl_memory_desc_t nn_dnnl_strided(int rank, const int64_t *dim, const int64_t *stride);
dnnl_memory_desc_t nn_dnnl_any(const dnnl_memory_desc_t *like); /* the library chooses; same type */

/* An empty program. */
nn_status nn_dnnl_begin(nn_call *c) NN_CHECKED;

/* How the library would do it, NULL (and NN_UNSUPPORTED) if it cannot. accumulate: the result is
 * added to what the output holds. hint: the forward pass, for gradients. Owner: the caller. */
nn_status nn_dnnl_describe(const nn_call *c, const void *op_desc, bool accumulate,
                           const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out) NN_CHECKED;

/* The operand in the layout `want`, aligned as the library needs it: as it is if possible, else a
 * copy in the workspace, made in every run. */
nn_status nn_dnnl_arrange(nn_call *c, nn_dnnl_arg *a, const dnnl_memory_desc_t *want) NN_CHECKED;

/* The same for weights: in a frozen plan the copy is packed memory, made again only on repack. */
nn_status nn_dnnl_pack(nn_call *c, nn_dnnl_arg *a, const dnnl_memory_desc_t *want) NN_CHECKED;

/* Append a primitive. The scratchpad is added. */
nn_status nn_dnnl_append(nn_call *c, const_dnnl_primitive_desc_t pd, int n,
                         const nn_dnnl_arg *args) NN_CHECKED;

/* Append a primitive whose last argument is its result: if the library's layout of that differs, it
 * goes through the workspace. accumulate: the copy adds to what the output holds. */
nn_status nn_dnnl_append_to(nn_call *c, const_dnnl_primitive_desc_t pd, int n, nn_dnnl_arg *args,
                            const dnnl_memory_desc_t *layout, bool accumulate) NN_CHECKED;

nn_status nn_dnnl_run(const nn_call *c) NN_CHECKED;
nn_status nn_dnnl_run_packing(const nn_call *c) NN_CHECKED; /* as nn_kernel.pack */
void nn_dnnl_release(nn_call *c);

/* NN_OK, or the library's refusal in words. */
nn_status nn_dnnl_check(dnnl_status_t status, const char *doing) NN_CHECKED;

/* A kernel that is a program. */
#define NN_DNNL_KERNEL(label, accepts_it, prepare_it, run_it)                                      \
    {                                                                                              \
        .name = (label), .accepts = (accepts_it), .prepare = (prepare_it), .run = (run_it),        \
        .pack = nn_dnnl_run_packing, .release = nn_dnnl_release                                    \
    }

/* "bf16": operands in f32 are rounded to bf16 on the way (weights of a frozen plan once), sums and
 * results are f32. Accepted where nn_call.arithmetic asks for it. */
bool nn_dnnl_linear_accepts(const nn_call *c); /* all three */
bool nn_dnnl_linear_bf16_accepts(const nn_call *c);
nn_status nn_dnnl_linear_run(const nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_bwd_x_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_bwd_w_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_bf16_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_bwd_x_bf16_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_linear_bwd_w_bf16_prepare(nn_call *c) NN_CHECKED;

bool nn_dnnl_conv2d_accepts(const nn_call *c); /* the direct ones */
bool nn_dnnl_conv2d_bf16_accepts(const nn_call *c);
nn_status nn_dnnl_conv2d_run(const nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_direct_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_x_direct_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_w_direct_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bf16_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_x_bf16_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_w_bf16_prepare(nn_call *c) NN_CHECKED;

/* conv2d_columns.c; where they are faster as well. */
bool nn_dnnl_conv2d_columns_accepts(const nn_call *c);
bool nn_dnnl_conv2d_bwd_x_columns_accepts(const nn_call *c);
bool nn_dnnl_conv2d_bwd_w_columns_accepts(const nn_call *c);
nn_status nn_dnnl_conv2d_columns_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_x_columns_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_w_columns_prepare(nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_columns_run(const nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_x_columns_run(const nn_call *c) NN_CHECKED;
nn_status nn_dnnl_conv2d_bwd_w_columns_run(const nn_call *c) NN_CHECKED;

/* What the forward convolution adds to is in the result: shift and residual. */
void nn_dnnl_conv2d_prefill(const nn_call *c);

bool nn_dnnl_conv2d_bwd_w_winograd_accepts(const nn_call *c); /* where it is faster as well */
nn_status nn_dnnl_conv2d_bwd_w_winograd_prepare(nn_call *c) NN_CHECKED;

#endif
