/* Broadcasting rules shared by the binary ops. */
#ifndef ENGINE_OPS_BROADCAST_H
#define ENGINE_OPS_BROADCAST_H

#include "engine/graph.h"

/* Shape of a binary op on a and b; an error at the node if they do not broadcast. */
nn_status nn_broadcast_shape(const nn_node *n, const nn_view *a, const nn_view *b,
                             nn_view *out) NN_CHECKED;

/* Of an f32 and a bf16 operand the second becomes f32. */
void nn_promote(nn_graph *g, nn_tensor **a, nn_tensor **b);

/* Sum a gradient down to the shape of the operand it belongs to. */
nn_tensor *nn_sum_like(nn_graph *g, nn_tensor *dy, const nn_view *operand);

#endif
