/* A split runs no kernel: the plan resolves it. The list is empty. */
#include "kernels/ref/ref.h"

const nn_kernel nn_ref_split[] = { { 0 } };
