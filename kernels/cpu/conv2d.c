/* conv2d on the cpu: see onednn/conv2d.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/onednn/onednn.h"

const nn_kernel NN_CPU_NAME(conv2d)[] = {
    { .name = "conv2d_f32_winograd",
      .accepts = nn_dnnl_conv2d_winograd_accepts,
      .prepare = nn_dnnl_conv2d_winograd_prepare,
      .run = nn_dnnl_conv2d_winograd_run,
      .pack = nn_dnnl_conv2d_winograd_pack,
      .release = nn_dnnl_conv2d_winograd_release },
    NN_DNNL_KERNEL("conv2d_bf16_direct", nn_dnnl_conv2d_bf16_accepts, nn_dnnl_conv2d_bf16_prepare,
                   nn_dnnl_conv2d_run),
    NN_DNNL_KERNEL("conv2d_f32_direct", nn_dnnl_conv2d_accepts, nn_dnnl_conv2d_direct_prepare,
                   nn_dnnl_conv2d_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(conv2d_bwd_x)[] = {
    NN_DNNL_KERNEL("conv2d_bwd_x_f32_winograd", nn_dnnl_conv2d_bwd_x_winograd_accepts,
                   nn_dnnl_conv2d_bwd_x_winograd_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_x_bf16_direct", nn_dnnl_conv2d_bf16_accepts,
                   nn_dnnl_conv2d_bwd_x_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_x_f32_direct", nn_dnnl_conv2d_accepts,
                   nn_dnnl_conv2d_bwd_x_direct_prepare, nn_dnnl_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(conv2d_bwd_w)[] = {
    NN_DNNL_KERNEL("conv2d_bwd_w_f32_winograd", nn_dnnl_conv2d_bwd_w_winograd_accepts,
                   nn_dnnl_conv2d_bwd_w_winograd_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_w_bf16_direct", nn_dnnl_conv2d_bf16_accepts,
                   nn_dnnl_conv2d_bwd_w_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_w_f32_direct", nn_dnnl_conv2d_accepts,
                   nn_dnnl_conv2d_bwd_w_direct_prepare, nn_dnnl_run),
    { 0 }
};
