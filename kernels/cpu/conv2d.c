/* conv2d on the cpu: see conv2d_winograd.c, onednn/conv2d_columns.c and onednn/conv2d.c. */
#include "kernels/cpu/conv2d_winograd.h"
#include "kernels/cpu/onednn/onednn.h"

const nn_kernel NN_CPU_NAME(conv2d)[] = {
    { .name = "conv2d_bf16_winograd",
      .accepts = NN_CPU_NAME(conv2d_winograd_bf16_accepts),
      .prepare = NN_CPU_NAME(conv2d_winograd_prepare),
      .workspace = NN_CPU_NAME(conv2d_winograd_workspace),
      .run = NN_CPU_NAME(conv2d_winograd_run),
      .pack = NN_CPU_NAME(conv2d_winograd_pack) },
    { .name = "conv2d_f32_winograd",
      .accepts = NN_CPU_NAME(conv2d_winograd_accepts),
      .prepare = NN_CPU_NAME(conv2d_winograd_prepare),
      .workspace = NN_CPU_NAME(conv2d_winograd_workspace),
      .run = NN_CPU_NAME(conv2d_winograd_run),
      .pack = NN_CPU_NAME(conv2d_winograd_pack) },
    NN_DNNL_KERNEL("conv2d_f32_columns", nn_dnnl_conv2d_columns_accepts,
                   nn_dnnl_conv2d_columns_prepare, nn_dnnl_conv2d_columns_run),
    NN_DNNL_KERNEL("conv2d_bf16_direct", nn_dnnl_conv2d_bf16_accepts, nn_dnnl_conv2d_bf16_prepare,
                   nn_dnnl_conv2d_run),
    NN_DNNL_KERNEL("conv2d_f32_direct", nn_dnnl_conv2d_accepts, nn_dnnl_conv2d_direct_prepare,
                   nn_dnnl_conv2d_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(conv2d_bwd_x)[] = {
    { .name = "conv2d_bwd_x_f32_winograd",
      .accepts = NN_CPU_NAME(conv2d_bwd_x_winograd_accepts),
      .workspace = NN_CPU_NAME(conv2d_bwd_x_winograd_workspace),
      .run = NN_CPU_NAME(conv2d_bwd_x_winograd_run) },
    NN_DNNL_KERNEL("conv2d_bwd_x_f32_columns", nn_dnnl_conv2d_bwd_x_columns_accepts,
                   nn_dnnl_conv2d_bwd_x_columns_prepare, nn_dnnl_conv2d_bwd_x_columns_run),
    NN_DNNL_KERNEL("conv2d_bwd_x_bf16_direct", nn_dnnl_conv2d_bf16_accepts,
                   nn_dnnl_conv2d_bwd_x_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_x_f32_direct", nn_dnnl_conv2d_accepts,
                   nn_dnnl_conv2d_bwd_x_direct_prepare, nn_dnnl_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(conv2d_bwd_w)[] = {
    NN_DNNL_KERNEL("conv2d_bwd_w_f32_winograd", nn_dnnl_conv2d_bwd_w_winograd_accepts,
                   nn_dnnl_conv2d_bwd_w_winograd_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_w_f32_columns", nn_dnnl_conv2d_bwd_w_columns_accepts,
                   nn_dnnl_conv2d_bwd_w_columns_prepare, nn_dnnl_conv2d_bwd_w_columns_run),
    NN_DNNL_KERNEL("conv2d_bwd_w_bf16_direct", nn_dnnl_conv2d_bf16_accepts,
                   nn_dnnl_conv2d_bwd_w_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("conv2d_bwd_w_f32_direct", nn_dnnl_conv2d_accepts,
                   nn_dnnl_conv2d_bwd_w_direct_prepare, nn_dnnl_run),
    { 0 }
};
