/* One list of cases serves conformance and gradients of every op on every backend.
 *
 * A test file has a `build` that makes its op from a row of integers, and the rows. The harness
 * builds the same graph on ref in f64 (the truth) and on each backend in f32 and in bf16, runs
 * forward and backward with the same random data and a random cotangent, and compares every output
 * and every gradient, for each kernel that accepts and for packed and strided operands, with
 * outputs pre-filled with NaN between guard bands. What bf16 may be off by is measured on ref:
 * twice the error that it makes in bf16. In gradient mode ref in f64 is held against central
 * differences. */
#ifndef TESTS_OPS_OP_TEST_H
#define TESTS_OPS_OP_TEST_H

#include "engine/nn.h"

enum { OP_MAX_INPUTS = 12, OP_MAX_ARGS = 10 };

typedef struct op_case {
    nn_graph *g;
    nn_dtype dtype;   /* of the float operands: F64 (the truth), F32 or BF16 */
    bool rounded;     /* the data of operands that may be BF16 are numbers that BF16 has */
    bool strided;     /* operands are slices of something larger */
    const int64_t *a; /* the row */
    int n_inputs;
    nn_tensor *inputs[OP_MAX_INPUTS]; /* what the host fills */
    nn_tensor *seen[OP_MAX_INPUTS];   /* what the op gets: the input or a view of it */
    int64_t n_ids[OP_MAX_INPUTS];     /* > 0: i32 ids below it, minus `ids_from` */
    int64_t ids_from[OP_MAX_INPUTS];
    float low[OP_MAX_INPUTS], high[OP_MAX_INPUTS];
    bool fixed[OP_MAX_INPUTS]; /* gets no gradient */
    bool exact[OP_MAX_INPUTS]; /* F32 where the others are BF16 */
} op_case;

/* A random operand in [-1, 1), or in [low, high); op_fixed: one that gets no gradient. */
nn_tensor *op_in(op_case *c, int rank, const int64_t *dim);
nn_tensor *op_in_range(op_case *c, float low, float high, int rank, const int64_t *dim);
nn_tensor *op_fixed(op_case *c, float low, float high, int rank, const int64_t *dim);

/* The same of what stays f32 in networks that compute in bf16: vectors of parameters; targets and
 * whatever else gets no gradient. */
nn_tensor *op_vector(op_case *c, float low, float high, int64_t n);
nn_tensor *op_exact(op_case *c, float low, float high, int rank, const int64_t *dim);

/* Random i32 ids in [from, n). Never strided. */
nn_tensor *op_ids(op_case *c, int64_t from, int64_t n, int rank, const int64_t *dim);

typedef struct op_test {
    const char *covered_by; /* a gradient row names the test that runs it; the rest is then empty */
    nn_tensor *(*build)(op_case *c); /* reads c->a, returns the op's first output */
    const int64_t (*rows)[OP_MAX_ARGS];
    int n_rows;
    double tolerance;      /* f32 against f64, relative to the largest value; 0 = 1e-5 */
    double grad_tolerance; /* central differences in f64; 0 = 1e-6 */
    bool no_grad;          /* the op has no gradient */
    bool no_strided;       /* operands are always packed */
    bool bf16;             /* a product: backends that keep f32 may round its operands to bf16 */
} op_test;

#define OP_ROWS(table) .rows = (table), .n_rows = (int)(sizeof(table) / sizeof((table)[0]))

#endif
