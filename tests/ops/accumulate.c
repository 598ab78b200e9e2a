/* accumulate: adds into its first operand, in memory outside the plan. The gradient of a parameter
 * that is used by two micro-batches goes through it; tests/unit/test_autograd.c looks at the sums.
 */
#include "tests/ops/op_test.h"

const op_test nn_test_accumulate = { .covered_by = "test_autograd" };
