/* The residual convolution block of UNet and VAE, and the changes of resolution between blocks. */
#include "models/block/resnet.h"

static const nn_conv same3 = { 1, 1, 1, 1, 1 };

nn_tensor *resnet_block(nn_scope s, nn_tensor *x, nn_tensor *shift, int64_t out, int groups,
                        double eps)
{
    nn_tensor *skip = x;
    if (nn_last(&x->view, 0) != out) skip = conv_same(nn_at(s, "conv_shortcut"), x, out, 1);
    nn_tensor *h = groupnorm_silu(nn_at(s, "norm1"), x, groups, eps); /* [N, H, W, C]   */
    h = conv(nn_at(s, "conv1"), h, out, 3, same3, shift, NULL);       /* [N, H, W, out] */
    h = groupnorm_silu(nn_at(s, "norm2"), h, groups, eps);
    return conv(nn_at(s, "conv2"), h, out, 3, same3, NULL, skip); /* + skip         */
}

nn_tensor *downsample(nn_scope s, nn_tensor *x, bool symmetric)
{
    nn_conv how = symmetric ? (nn_conv){ 2, 1, 1, 1, 1 } : (nn_conv){ 2, 0, 0, 1, 1 };
    return conv(nn_at(s, "conv"), x, nn_last(&x->view, 0), 3, how, NULL, NULL);
}

nn_tensor *upsample(nn_scope s, nn_tensor *x, int64_t height, int64_t width)
{
    nn_enter(s);
    x = nn_upsample(s.g, x, height, width);
    return conv_same(nn_at(s, "conv"), x, nn_last(&x->view, 0), 3);
}
