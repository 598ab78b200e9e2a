/* Layers: an op with its parameters, named after the place in the name tree.
 *
 * Initial values are torch's defaults for the same module, so that training from scratch starts
 * where users expect. */
#ifndef MODELS_BLOCK_LAYERS_H
#define MODELS_BLOCK_LAYERS_H

#include "engine/nn.h"

enum { NO_BIAS = 0, BIAS = 1 };

/* x [..., I] -> [..., out]. Parameters s.weight [out, I], s.bias [out]. */
nn_tensor *linear(nn_scope s, nn_tensor *x, int64_t out, int bias);

/* The same, with bias, added to a residual [..., out]. */
nn_tensor *linear_onto(nn_scope s, nn_tensor *x, nn_tensor *residual);

/* n layers of one input, each out wide, as one product: y[i] [..., out] is a view of its result.
 * Parameters are those of linear(at[i], x, out, bias). n <= LINEAR_MOST. */
enum { LINEAR_MOST = NN_MAX_OUT };
void linear_split(int n, const nn_scope at[], nn_tensor *x, int64_t out, int bias, nn_tensor *y[]);

/* x [N, H, W, I] -> [N, Ho, Wo, out]. Parameters s.weight [out, I, size, size], s.bias [out].
 * shift, residual: see nn_conv2d; NULL = none. */
nn_tensor *conv(nn_scope s, nn_tensor *x, int64_t out, int size, nn_conv how, nn_tensor *shift,
                nn_tensor *residual);

/* The same convolution with stride 1 and size/2 of padding on every side, nothing added. */
nn_tensor *conv_same(nn_scope s, nn_tensor *x, int64_t out, int size);

/* Over the last dimension. Parameters s.weight, s.bias [C]. */
nn_tensor *layernorm(nn_scope s, nn_tensor *x, double eps);

/* x [N, ..., C]. Parameters s.weight, s.bias [C]. */
nn_tensor *groupnorm(nn_scope s, nn_tensor *x, int groups, double eps);
nn_tensor *groupnorm_silu(nn_scope s, nn_tensor *x, int groups, double eps);

/* ids (i32) -> [..., width]. Parameter s.weight [rows, width], drawn with the standard deviation
 * std. */
nn_tensor *embedding(nn_scope s, nn_tensor *ids, int64_t rows, int64_t width, double std);

/* [B, T, C] seen as [B, T, heads, C / heads], and back. Views where x is packed along C. */
nn_tensor *split_heads(nn_graph *g, nn_tensor *x, int heads);
nn_tensor *join_heads(nn_graph *g, nn_tensor *x);

#endif
