/* Forward passes of the published networks at their full size. */
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "tools/bench.h"

/* dim: batch, latent side */
static nn_tensor *build_unet(const bench_case *c, nn_scope s)
{
    const unet_config config = unet_config_sd14();
    int64_t n = c->dim[0], side = c->dim[1];
    nn_tensor *latent = bench_input(c, s, "latent", NN_DIMS(n, side, side, config.in_channels));
    nn_tensor *t = bench_input(c, s, "t", NN_DIMS(n));
    nn_tensor *context = bench_input(c, s, "context", NN_DIMS(n, 77, config.cross_attention_dim));
    return unet(s, &config, latent, t, context, false);
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

const bench_case bench_nets[] = {
    { .name = "unet_sd14_512", .build = build_unet, .dim = { 1, 64 } },
    { .name = "unet_sd14_256", .build = build_unet, .dim = { 1, 32 } },
    { .name = "vae_decode_512", .build = build_decoder, .dim = { 1, 64 } },
    { .name = "clip_text_b2", .build = build_clip, .dim = { 2 } },
    { .name = "blip_vision_384", .build = build_vision, .dim = { 1 } },
    { 0 },
};
