/* The published networks at their full size: forward passes, a step of sampling, a step of
 * training. */
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "tools/bench.h"

/* Of a step of DDIM in the middle: x = keep * x + turn * noise. */
static const double guidance = 7.5, keep = 1.04, turn = -0.06;

/* dim: batch, latent side */
static nn_tensor *build_unet(const bench_case *c, nn_scope s)
{
    const unet_config config = unet_config_sd14();
    int64_t n = c->dim[0], side = c->dim[1];
    nn_tensor *latent = bench_input(c, s, "latent", NN_DIMS(n, side, side, config.in_channels));
    nn_tensor *t = nn_input(s.g, "t", NN_F32, NN_DIMS(n));
    nn_tensor *context = bench_input(c, s, "context", NN_DIMS(n, 77, config.cross_attention_dim));
    return unet(s, &config, latent, t, context, false);
}

/* The keys and values of all cross-attentions: what sampling computes once a prompt, not once a
 * step. dim: rows */
static nn_tensor *build_unet_text(const bench_case *c, nn_scope s)
{
    const unet_config config = unet_config_sd14();
    unet_text text = { 0 };
    unet_project_text(
        s, &config,
        bench_input(c, s, "context", NN_DIMS(c->dim[0], 77, config.cross_attention_dim)), &text);
    for (int i = 0; i < text.n; i++) {
        nn_keep(text.of[i].k);
        nn_keep(text.of[i].v);
    }
    return text.of[text.n - 1].v;
}

/* dim: batch, latent side */
static nn_tensor *build_decoder(const bench_case *c, nn_scope s)
{
    const vae_config config = vae_config_sd14();
    return vae_decode(
        s, &config,
        bench_input(c, s, "latent",
                    NN_DIMS(c->dim[0], c->dim[1], c->dim[1], config.latent_channels)));
}

/* dim: batch */
static nn_tensor *build_clip(const bench_case *c, nn_scope s)
{
    const clip_text_config config = clip_text_config_sd14();
    nn_tensor *ids = bench_ids(s, "ids", NN_DIMS(c->dim[0], config.max_positions));
    return clip_text(nn_at(s, "text_model"), &config, ids, false);
}

/* dim: batch */
static nn_tensor *build_vision(const bench_case *c, nn_scope s)
{
    const captioner_config config = captioner_config_blip_base();
    int64_t side = config.vision.image_size;
    return captioner_encode(s, &config,
                            bench_input(c, s, "pixels", NN_DIMS(c->dim[0], side, side, 3)));
}

/* One step of DDIM with guidance: both halves of the batch through the UNet, and the latent of the
 * next step. dim: pictures, latent side */
static nn_tensor *build_sampling(const bench_case *c, nn_scope s)
{
    const unet_config config = unet_config_sd14();
    int64_t n = c->dim[0], side = c->dim[1];
    nn_tensor *x = nn_input(s.g, "latent", NN_F32, NN_DIMS(n, side, side, config.in_channels));
    nn_tensor *t = nn_input(s.g, "t", NN_F32, NN_DIMS(2 * n));
    nn_tensor *context =
        nn_input(s.g, "context", NN_F32, NN_DIMS(2 * n, 77, config.cross_attention_dim));
    nn_tensor *both = nn_concat(s.g, 2, (nn_tensor *[]){ x, x }, 0);
    nn_tensor *noise = nn_precise(s.g, unet(s, &config, both, t, context, false));
    nn_tensor *without = nn_slice(s.g, noise, 0, 0, n), *with = nn_slice(s.g, noise, 0, n, 2 * n);
    nn_tensor *guided =
        nn_add(s.g, without, nn_scale(s.g, nn_sub(s.g, with, without), guidance, 0));
    return nn_add(s.g, nn_scale(s.g, x, keep, 0), nn_scale(s.g, guided, turn, 0));
}

/* What RECAP trains: UNet and text encoder under the loss of the noise. dim: pictures, latent side
 */
static nn_tensor *build_training(const bench_case *c, nn_scope s)
{
    const unet_config config = unet_config_sd14();
    const clip_text_config text = clip_text_config_sd14();
    int64_t n = c->dim[0], side = c->dim[1];
    const int64_t dim[] = { n, side, side, config.in_channels };
    nn_tensor *x = nn_input(s.g, "latent", NN_F32, 4, dim);
    nn_tensor *noise = nn_input(s.g, "noise", NN_F32, 4, dim);
    nn_tensor *t = nn_input(s.g, "t", NN_F32, NN_DIMS(n));
    nn_tensor *ids = bench_ids(s, "ids", NN_DIMS(n, text.max_positions));
    nn_tensor *context = clip_text(nn_root(s.g, s.params, "text.text_model"), &text, ids, false);
    nn_tensor *predicted =
        unet(nn_root(s.g, s.params, "unet"), &config, x, t, context, c->dim[2] != 0);
    return nn_mse(s.g, nn_precise(s.g, predicted), noise, NULL);
}

const bench_case bench_nets[] = {
    { .name = "unet_sd14_512", .build = build_unet, .dim = { 1, 64 }, .unit = "samples" },
    { .name = "unet_sd14_256", .build = build_unet, .dim = { 1, 32 } },
    { .name = "unet_sd14_text_b2", .build = build_unet_text, .dim = { 2 } },
    { .name = "vae_decode_512", .build = build_decoder, .dim = { 1, 64 }, .unit = "images" },
    { .name = "clip_text_b2", .build = build_clip, .dim = { 2 }, .unit = "texts" },
    { .name = "blip_vision_384", .build = build_vision, .dim = { 1 }, .unit = "images" },
    { .name = "blip_vision_384_b4", .build = build_vision, .dim = { 4 }, .unit = "images" },
    { 0 },
};

const bench_case bench_steps_of_nets[] = {
    { .name = "unet_sd14_sampling_512",
      .build = build_sampling,
      .dim = { 1, 64 },
      .unit = "pairs",
      .of_device = true },
    { .name = "unet_sd14_train_512",
      .build = build_training,
      .dim = { 1, 64, 0 },
      .training = true,
      .optimize = BENCH_UPDATE,
      .unit = "images",
      .of_device = true },
    { .name = "unet_sd14_train_512_recompute",
      .build = build_training,
      .dim = { 1, 64, 1 },
      .training = true,
      .optimize = BENCH_UPDATE,
      .unit = "images",
      .of_device = true },
    { 0 },
};
