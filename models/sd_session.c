/* The networks on their store, and sampling: the prompts once, then the UNet once a step. */
#include <string.h>

#include "engine/base/alloc.h"
#include "models/stable_diffusion.h"

struct sd_session {
    const sd_model *m;
    nn_device *device;
    int64_t batch, passes; /* passes: 2 where guided */
    int64_t latent_elems;  /* of one picture */
    nn_graph *text_graph, *unet_graph;
    nn_plan *text, *unet;
    nn_tensor *ids, *context_out, *latent, *t, *context, *predicted;
    float *both, *context_now; /* model output of all passes, and the prompts' context */
};

nn_tensor *sd_text(const sd_model *m, nn_graph *g, nn_tensor *ids, bool recompute)
{
    return clip_text(nn_root(g, m->params, "text.text_model"), &m->text, ids, recompute);
}

nn_tensor *sd_unet(const sd_model *m, nn_graph *g, nn_tensor *latent, nn_tensor *t,
                   nn_tensor *context, bool recompute)
{
    return unet(nn_root(g, m->params, "unet"), &m->unet, latent, t, context, recompute);
}

static nn_status make_text(sd_session *s)
{
    NN_TRY(nn_graph_create(&s->text_graph));
    nn_graph_compute(s->text_graph, nn_device_storage(s->device));
    s->ids = nn_input(s->text_graph, "ids", NN_I32,
                      NN_DIMS(s->batch * s->passes, s->m->text.max_positions));
    s->context_out = nn_precise(s->text_graph, sd_text(s->m, s->text_graph, s->ids, false));
    nn_keep(s->context_out);
    return nn_plan_create(s->text_graph, s->device, &(nn_plan_options){ .frozen = true }, &s->text);
}

static nn_status make_unet(sd_session *s, int64_t height, int64_t width)
{
    int64_t n = s->batch * s->passes;
    nn_graph *g;
    NN_TRY(nn_graph_create(&s->unet_graph));
    g = s->unet_graph;
    nn_graph_compute(g, nn_device_storage(s->device));
    s->latent = nn_input(g, "latent", NN_F32, NN_DIMS(n, height, width, s->m->unet.in_channels));
    s->t = nn_input(g, "t", NN_F32, NN_DIMS(n));
    s->context = nn_input(g, "context", NN_F32,
                          NN_DIMS(n, s->m->text.max_positions, s->m->text.hidden_size));
    s->predicted = nn_precise(g, sd_unet(s->m, g, s->latent, s->t, s->context, false));
    nn_keep(s->predicted);
    return nn_plan_create(g, s->device, &(nn_plan_options){ .frozen = true }, &s->unet);
}

static nn_status open_session(sd_session *s, int64_t height, int64_t width)
{
    NN_TRY(make_text(s));
    NN_TRY(make_unet(s, height, width));
    s->latent_elems = height * width * s->m->unet.in_channels;
    s->both = nn_alloc(s->batch * s->passes * s->latent_elems, sizeof(*s->both));
    NN_NEED(s->both);
    s->context_now = nn_alloc(nn_view_elems(&s->context->view), sizeof(*s->context_now));
    NN_NEED(s->context_now);
    return NN_OK;
}

nn_status sd_session_create(const sd_model *m, nn_device *device, int64_t batch,
                            int64_t latent_height, int64_t latent_width, bool guided,
                            sd_session **out)
{
    sd_session *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    s->m = m;
    s->device = device;
    s->batch = batch;
    s->passes = guided ? 2 : 1;
    nn_status status = open_session(s, latent_height, latent_width);
    if (status != NN_OK) {
        sd_session_destroy(s);
        return status;
    }
    *out = s;
    return NN_OK;
}

void sd_session_destroy(sd_session *s)
{
    if (!s) return;
    nn_plan_destroy(s->text);
    nn_plan_destroy(s->unet);
    nn_graph_destroy(s->text_graph);
    nn_graph_destroy(s->unet_graph);
    nn_free(s->both);
    nn_free(s->context_now);
    nn_free(s);
}

nn_status sd_session_prompt(sd_session *s, const int32_t *ids, const int32_t *negative)
{
    int64_t t = s->m->text.max_positions, n = s->batch * t;
    int32_t *all = nn_alloc(s->passes * n, sizeof(*all));
    NN_NEED(all);
    if (s->passes == 2) memcpy(all, negative, (size_t)n * sizeof(*all));
    memcpy(all + (s->passes - 1) * n, ids, (size_t)n * sizeof(*all));
    nn_status status = nn_plan_write(s->text, s->ids, all);
    if (status == NN_OK) status = nn_plan_run(s->text, 0);
    if (status == NN_OK) status = nn_plan_read(s->text, s->context_out, s->context_now);
    if (status == NN_OK) status = nn_plan_write(s->unet, s->context, s->context_now);
    nn_free(all);
    return status;
}

nn_status sd_session_predict(sd_session *s, const float *latents, float t, double guidance,
                             float *out)
{
    int64_t n = s->batch * s->latent_elems, rows = s->batch * s->passes;
    for (int64_t p = 0; p < s->passes; p++)
        memcpy(s->both + p * n, latents, (size_t)n * sizeof(float));
    NN_TRY(nn_plan_write(s->unet, s->latent, s->both));
    for (int64_t i = 0; i < rows; i++) s->both[i] = t; /* rows <= elements of a batch of latents */
    NN_TRY(nn_plan_write(s->unet, s->t, s->both));
    NN_TRY(nn_plan_run(s->unet, 0));
    NN_TRY(nn_plan_read(s->unet, s->predicted, s->both));
    const float *free_of_text = s->both, *with_text = s->both + (s->passes - 1) * n;
    for (int64_t i = 0; i < n; i++)
        out[i] = s->passes == 1
                     ? with_text[i]
                     : free_of_text[i] + (float)guidance * (with_text[i] - free_of_text[i]);
    return NN_OK;
}
