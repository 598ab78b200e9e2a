/* attention_bwd. */
#include "kernels/cuda/attention.cuh"

extern "C" const nn_kernel nn_cuda_attention_bwd[] = { { .name = "attention_bwd_any",
                                                         .accepts = nn_attention_any_bwd_accepts,
                                                         .run = nn_attention_any_run_bwd,
                                                         .workspace = nn_attention_stats_bytes },
                                                       {} };
