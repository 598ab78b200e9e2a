/* conv2d and its gradients: the kernels, best first; behind the one that takes all, those that run
 * only where a device prefers them. */
#include "kernels/cuda/cudnn/conv2d.cuh"

extern "C" const nn_kernel nn_cuda_conv2d[] = {
    { .name = "conv2d_gemm",
      .accepts = conv2d_gemm_accepts,
      .run = conv2d_gemm_run,
      .workspace = conv2d_gemm_workspace,
      .prepare = conv2d_gemm_prepare,
      .strided_out = true },
    { .name = "conv2d_any", .accepts = conv2d_any_accepts, .run = conv2d_any_run },
#ifdef NN_CUDNN
    CONV2D_CUDNN("conv2d", CONV2D_FORWARD),
#endif
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
#ifdef NN_CUDNN
                                                      CONV2D_CUDNN("conv2d_bwd_x", CONV2D_BWD_X),
#endif
                                                      {} };
extern "C" const nn_kernel nn_cuda_conv2d_bwd_w[] = { { .name = "conv2d_bwd_w_gemm",
                                                        .accepts = conv2d_bwd_w_gemm_accepts,
                                                        .run = conv2d_bwd_w_gemm_run,
                                                        .workspace = conv2d_bwd_w_gemm_workspace },
                                                      { .name = "conv2d_bwd_w_any",
                                                        .accepts = conv2d_bwd_w_any_accepts,
                                                        .run = conv2d_bwd_w_any_run },
#ifdef NN_CUDNN
                                                      CONV2D_CUDNN("conv2d_bwd_w", CONV2D_BWD_W),
#endif
                                                      {} };
