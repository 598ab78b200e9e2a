/* linear on the cpu: see linear_few.c and onednn/linear.c. */
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/linear_few.h"
#include "kernels/cpu/onednn/onednn.h"

const nn_kernel NN_CPU_NAME(linear)[] = {
#ifdef NN_CPU_BF16
    { .name = "linear_bf16_few",
      .accepts = NN_CPU_NAME(linear_few_bf16_accepts),
      .prepare = NN_CPU_NAME(linear_few_bf16_prepare),
      .run = NN_CPU_NAME(linear_few_bf16_run),
      .pack = NN_CPU_NAME(linear_few_bf16_pack) },
#endif
    NN_DNNL_KERNEL("linear_bf16_matmul", nn_dnnl_linear_bf16_accepts, nn_dnnl_linear_bf16_prepare,
                   nn_dnnl_linear_run),
    { .name = "linear_f32_few",
      .accepts = NN_CPU_NAME(linear_few_accepts),
      .run = NN_CPU_NAME(linear_few_run) },
    NN_DNNL_KERNEL("linear_f32_matmul", nn_dnnl_linear_accepts, nn_dnnl_linear_prepare,
                   nn_dnnl_linear_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(linear_bwd_x)[] = {
    NN_DNNL_KERNEL("linear_bwd_x_bf16_matmul", nn_dnnl_linear_bf16_accepts,
                   nn_dnnl_linear_bwd_x_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("linear_bwd_x_f32_matmul", nn_dnnl_linear_accepts, nn_dnnl_linear_bwd_x_prepare,
                   nn_dnnl_run),
    { 0 }
};
const nn_kernel NN_CPU_NAME(linear_bwd_w)[] = {
    NN_DNNL_KERNEL("linear_bwd_w_bf16_inner_product", nn_dnnl_linear_bf16_accepts,
                   nn_dnnl_linear_bwd_w_bf16_prepare, nn_dnnl_run),
    NN_DNNL_KERNEL("linear_bwd_w_f32_inner_product", nn_dnnl_linear_accepts,
                   nn_dnnl_linear_bwd_w_prepare, nn_dnnl_run),
    { 0 }
};
