/* The residual convolution block of UNet and VAE. */
#ifndef MODELS_BLOCK_RESNET_H
#define MODELS_BLOCK_RESNET_H

#include "models/block/layers.h"

/* x [N, H, W, C], shift [N, out] (time_emb_proj of the time, see unet.c) or NULL -> [N, H, W, out].
 * Source: diffusers ResnetBlock2D. */
nn_tensor *resnet_block(nn_scope s, nn_tensor *x, nn_tensor *shift, int64_t out, int groups,
                        double eps);

/* Convolution with stride 2: symmetric padding (UNet), or one row and column of zeros right and
 * below (VAE). */
nn_tensor *downsample(nn_scope s, nn_tensor *x, bool symmetric);

/* Nearest neighbour to height x width, then a 3x3 convolution. */
nn_tensor *upsample(nn_scope s, nn_tensor *x, int64_t height, int64_t width);

#endif
