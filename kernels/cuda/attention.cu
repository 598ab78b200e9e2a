/* attention. */
#include "kernels/cuda/attention.cuh"

extern "C" const nn_kernel nn_cuda_attention[] = {
    { .name = "attention_any", .accepts = nn_attention_any_accepts, .run = nn_attention_any_run },
    {}
};
