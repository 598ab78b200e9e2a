/* The operands that a test's `build` asks for. */
#include "tests/ops/op_test.h"

#include <stdio.h>

#include "engine/base/status.h"

static nn_tensor *add_input(op_case *c, nn_dtype dtype, int rank, const int64_t *dim)
{
    int64_t wide[NN_MAX_RANK];
    char name[16];
    NN_ASSERT(c->n_inputs < OP_MAX_INPUTS);
    bool slice = c->strided && dtype != NN_I32 && rank > 0;
    for (int i = 0; i < rank; i++) wide[i] = dim[i];
    if (slice) wide[rank - 1] += 5;
    snprintf(name, sizeof(name), "in%d", c->n_inputs);
    nn_tensor *t = nn_input(c->g, name, dtype, rank, wide);
    c->inputs[c->n_inputs] = t;
    if (slice) t = nn_slice(c->g, t, rank - 1, 2, 2 + dim[rank - 1]);
    c->seen[c->n_inputs++] = t;
    return t;
}

nn_tensor *op_in_range(op_case *c, float low, float high, int rank, const int64_t *dim)
{
    c->low[c->n_inputs] = low;
    c->high[c->n_inputs] = high;
    nn_tensor *t = add_input(c, c->dtype, rank, dim);
    nn_require_grad(t);
    return t;
}

nn_tensor *op_in(op_case *c, int rank, const int64_t *dim)
{
    return op_in_range(c, -1, 1, rank, dim);
}

nn_tensor *op_fixed(op_case *c, float low, float high, int rank, const int64_t *dim)
{
    c->low[c->n_inputs] = low;
    c->high[c->n_inputs] = high;
    c->fixed[c->n_inputs] = true;
    return add_input(c, c->dtype, rank, dim);
}

static nn_dtype exact_dtype(const op_case *c)
{
    return c->dtype == NN_BF16 ? NN_F32 : c->dtype;
}

nn_tensor *op_exact(op_case *c, float low, float high, int rank, const int64_t *dim)
{
    c->low[c->n_inputs] = low;
    c->high[c->n_inputs] = high;
    c->fixed[c->n_inputs] = c->exact[c->n_inputs] = true;
    return add_input(c, exact_dtype(c), rank, dim);
}

nn_tensor *op_vector(op_case *c, float low, float high, int64_t n)
{
    c->low[c->n_inputs] = low;
    c->high[c->n_inputs] = high;
    c->exact[c->n_inputs] = true;
    nn_tensor *t = add_input(c, exact_dtype(c), 1, &n);
    nn_require_grad(t);
    return t;
}

nn_tensor *op_ids(op_case *c, int64_t from, int64_t n, int rank, const int64_t *dim)
{
    c->n_ids[c->n_inputs] = n - from;
    c->ids_from[c->n_inputs] = from;
    c->fixed[c->n_inputs] = true;
    return add_input(c, NN_I32, rank, dim);
}
