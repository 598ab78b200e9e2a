/* conv2d and its gradients: the kernels, best first. */
#include "kernels/cuda/conv2d.cuh"

extern "C" const nn_kernel nn_cuda_conv2d[] = {
    { .name = "conv2d_gemm",
      .accepts = conv2d_gemm_accepts,
      .run = conv2d_gemm_run,
      .workspace = conv2d_gemm_workspace,
      .prepare = conv2d_gemm_prepare },
    { .name = "conv2d_any", .accepts = conv2d_any_accepts, .run = conv2d_any_run },
    {}
};
extern "C" const nn_kernel nn_cuda_conv2d_bwd_x[] = { { .name = "conv2d_bwd_x_gemm",
                                                        .accepts = conv2d_bwd_x_gemm_accepts,
                                                        .run = conv2d_bwd_x_gemm_run,
                                                        .workspace = conv2d_bwd_x_gemm_workspace,
                                                        .prepare = conv2d_bwd_x_gemm_prepare },
                                                      { .name = "conv2d_bwd_x_any",
                                                        .accepts = conv2d_bwd_x_any_accepts,
                                                        .run = conv2d_bwd_x_any_run },
                                                      {} };
extern "C" const nn_kernel nn_cuda_conv2d_bwd_w[] = { { .name = "conv2d_bwd_w_gemm",
                                                        .accepts = conv2d_bwd_w_gemm_accepts,
                                                        .run = conv2d_bwd_w_gemm_run,
                                                        .workspace = conv2d_bwd_w_gemm_workspace },
                                                      { .name = "conv2d_bwd_w_any",
                                                        .accepts = conv2d_bwd_w_any_accepts,
                                                        .run = conv2d_bwd_w_any_run },
                                                      {} };
