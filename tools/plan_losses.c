/* The losses of the trainers, and what planning must know of them. */
#include "tools/plan_losses.h"

nn_tensor *diffusion_loss(const sd_model *m, nn_graph *g, nn_params *params, int64_t n,
                          int64_t side, bool weighted, bool recompute, diffusion_inputs *in)
{
    const int64_t c = m->unet.in_channels;
    in->latent = nn_input(g, "latent", NN_F32, NN_DIMS(n, side, side, c));
    in->target = nn_input(g, "target", NN_F32, NN_DIMS(n, side, side, c));
    in->t = nn_input(g, "t", NN_F32, NN_DIMS(n));
    in->ids = nn_input(g, "ids", NN_I32, NN_DIMS(n, m->text.max_positions));
    in->weight = weighted ? nn_input(g, "weight", NN_F32, NN_DIMS(n)) : NULL;
    nn_tensor *context =
        clip_text(nn_root(g, params, "text.text_model"), &m->text, in->ids, recompute);
    nn_tensor *predicted =
        unet(nn_root(g, params, "unet"), &m->unet, in->latent, in->t, context, recompute);
    return nn_mse(g, predicted, in->target, in->weight);
}

int64_t diffusion_latent_bytes(const sd_model *m, int64_t side)
{
    return 2 * side * side * m->vae.latent_channels * (int64_t)sizeof(float);
}

int64_t diffusion_sample_bytes(const sd_model *m, int64_t side)
{
    return 2 * diffusion_latent_bytes(m, side) +
           (2 + m->text.max_positions) * (int64_t)sizeof(float);
}

nn_tensor *captioner_train_loss(const captioner_config *c, nn_graph *g, nn_params *params,
                                nn_params *vision, int64_t n, int64_t length, captioner_inputs *in)
{
    const int64_t size = c->vision.image_size;
    in->pixels = nn_input(g, "pixels", NN_F32, NN_DIMS(n, size, size, 3));
    in->ids = nn_input(g, "ids", NN_I32, NN_DIMS(n, length));
    in->labels = nn_input(g, "labels", NN_I32, NN_DIMS(n, length));
    in->seen = nn_input(g, "seen", NN_I32, NN_DIMS(n, length));
    const nn_scope text = nn_root(g, params, "");
    nn_tensor *image = captioner_encode(nn_root(g, vision, ""), c, in->pixels);
    return captioner_text_loss(text, c, image, in->ids, in->seen, in->labels);
}

/* -- diffusion --------------------------------------------------------------------------------- */

static nn_tensor *build_diffusion(void *ctx, nn_graph *g, const plan_stores *p, int64_t batch,
                                  bool recompute)
{
    const diffusion_plan *d = ctx;
    diffusion_inputs in;
    return diffusion_loss(d->model, g, p->trained, batch, d->side, d->weighted, recompute, &in);
}

/* The codec, both ways. */
static void declare_codec(void *ctx, nn_graph *g, const plan_stores *p)
{
    const vae_config *c = &((const diffusion_plan *)ctx)->model->vae;
    const int64_t side = vae_stride(c);
    vae_encode(nn_root(g, p->beside, ""), c,
               nn_input(g, "image", NN_F32, NN_DIMS(1, side, side, c->in_channels)));
    vae_decode(nn_root(g, p->beside, ""), c,
               nn_input(g, "code", NN_F32, NN_DIMS(1, 1, 1, c->latent_channels)));
}

plan_task diffusion_task(diffusion_plan *p, bool average)
{
    return (plan_task){ .build = build_diffusion,
                        .declare = declare_codec,
                        .ctx = p,
                        .recomputes = true,
                        .average = average,
                        .sample_bytes = diffusion_sample_bytes(p->model, p->side) };
}

/* -- captioner --------------------------------------------------------------------------------- */

static nn_tensor *build_captioner(void *ctx, nn_graph *g, const plan_stores *p, int64_t batch,
                                  bool recompute)
{
    const captioner_plan *c = ctx;
    captioner_inputs in;
    (void)recompute;
    return captioner_train_loss(c->config, g, p->trained, c->freeze_vision ? p->beside : p->trained,
                                batch, c->length, &in);
}

/* The model that training starts from and that is saved: all of it, as f32. */
static void declare_model(void *ctx, nn_graph *g, const plan_stores *p)
{
    const captioner_plan *c = ctx;
    captioner_inputs in;
    p->beside->exact = true;
    captioner_train_loss(c->config, g, p->beside, p->beside, 1, c->length, &in);
}

plan_task captioner_task(captioner_plan *p, bool average)
{
    const int64_t size = p->config->vision.image_size;
    return (plan_task){ .build = build_captioner,
                        .declare = declare_model,
                        .ctx = p,
                        .average = average,
                        .sample_bytes = 3 * (size * size + p->length) * (int64_t)sizeof(float) };
}
