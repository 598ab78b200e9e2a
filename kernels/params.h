/* Parameters of the ops: one plain struct each, copied into the node. Ops without parameters have
 * none. */
#ifndef KERNELS_PARAMS_H
#define KERNELS_PARAMS_H

#include "kernels/kernel.h"

typedef enum nn_act {
    NN_ACT_RELU,
    NN_ACT_SILU, /* x * sigmoid(x) */
    NN_ACT_GELU, /* exact, erf */
    NN_ACT_GELU_TANH,
    NN_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    NN_ACT_SIGMOID,
    NN_ACT_TANH,
    NN_ACT_EXP,
    NN_ACT_ABS,
    NN_ACT_SQUARE
} nn_act;

typedef struct nn_activation_params {
    nn_act kind;
} nn_activation_params;

/* Of attention and attention_bwd. Query i sees key j if j < prefix or j <= i + Tk - Tq, or always
 * where causal is off. */

typedef struct nn_attention_params {
    double scale;
    bool causal;
    int64_t prefix;
} nn_attention_params;

typedef struct nn_concat_params {
    int axis;
} nn_concat_params;

typedef struct nn_conv2d_params {
    int stride;
    int top, left, bottom, right; /* zero padding */
    int64_t height, width;        /* of x, for its gradient */
    int64_t kh, kw;               /* of w, for its gradient */
} nn_conv2d_params;

typedef struct nn_upsample_params {
    int64_t height, width; /* of the result: y forward, dx backward */
} nn_upsample_params;

/* Nearest neighbour: the source of place `dst` when `in` places become `out`. Source: torch
 * nearest_neighbor_compute_source_index, f32. */
static inline int64_t nn_upsample_source(int64_t dst, int64_t in, int64_t out)
{
    int64_t src = (int64_t)((float)dst * ((float)in / (float)out));
    return src < in ? src : in - 1;
}

typedef struct nn_split_params {
    int parts; /* of the last dimension */
} nn_split_params;

typedef struct nn_copy_params {
    nn_dtype dtype; /* of the result */
} nn_copy_params;

typedef struct nn_dropout_params {
    double p; /* probability of being dropped, [0, 1) */
} nn_dropout_params;

typedef struct nn_embedding_bwd_params {
    int64_t rows; /* of the table */
} nn_embedding_bwd_params;

typedef struct nn_fill_params {
    double value;
    nn_dtype dtype;
    int rank;
    int64_t dim[NN_MAX_RANK];
} nn_fill_params;

typedef struct nn_focal_params {
    double gamma;
} nn_focal_params;

typedef struct nn_groupnorm_params {
    int groups;
    double eps;
    bool silu;
} nn_groupnorm_params;

typedef struct nn_layernorm_params {
    double eps;
} nn_layernorm_params;

typedef struct nn_scale_params {
    double factor, offset; /* y = factor * x + offset */
} nn_scale_params;

typedef struct nn_softmax_xent_params {
    double smoothing;
} nn_softmax_xent_params;

typedef struct nn_sum_params { /* the shape to reduce to: each dim that of x, or 1 */
    int rank;
    int64_t dim[NN_MAX_RANK];
} nn_sum_params;

typedef struct nn_timestep_params {
    int64_t dim; /* even */
} nn_timestep_params;

typedef enum nn_view_kind { NN_RESHAPE, NN_PERMUTE, NN_SLICE, NN_BROADCAST } nn_view_kind;

typedef struct nn_view_params { /* the result as seen in the memory of the source */
    nn_view_kind kind;
    int rank;
    int64_t dim[NN_MAX_RANK], stride[NN_MAX_RANK];
    int64_t offset;         /* elements */
    int order[NN_MAX_RANK]; /* of a permutation */
    int axis;               /* of a slice */
    int64_t begin;
} nn_view_params;

typedef struct nn_adamw_params {
    double beta1, beta2, eps, weight_decay;
    double clip_norm; /* 0 = no clipping */
} nn_adamw_params;

/* What changes with the step, in an input of the graph: the learning rate, 1 - beta^t of both
 * moments, and 1 - decay of the moving average (not the decay: 1 - 0.9999f has lost its digits). */
enum { NN_HYPER_LR, NN_HYPER_CORRECT1, NN_HYPER_CORRECT2, NN_HYPER_EMA, NN_HYPER_COUNT };

#endif
