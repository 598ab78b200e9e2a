/* Forward passes of single networks. */
#include <string.h>

#include "engine/base/alloc.h"
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/unet.h"
#include "models/vae.h"
#include "tools/verify.h"

enum { MOST_INPUTS = 3 };

/* One forward pass: what a network adds is its configuration and its graph. */
typedef struct forward {
    union {
        unet_config unet;
        vae_config vae;
        clip_text_config clip;
        captioner_config blip;
    } c;
    const char *input_names[MOST_INPUTS]; /* NULL ends */
    verify_tensor inputs[MOST_INPUTS];
    nn_tensor *fed[MOST_INPUTS];
    const char *out_names[2];
    nn_tensor *outs[2];
    void (*build)(struct forward *f, nn_graph *g, nn_params *params); /* sets outs */
    nn_status (*after)(verify_case *v, const struct forward *f,
                       const float *first); /* more from outs[0]; or NULL */
} forward;

/* Images come as NCHW in the file and as NHWC into the graph. */
static nn_tensor *feed(forward *f, nn_graph *g, int i)
{
    const verify_tensor *t = &f->inputs[i];
    int64_t dim[NN_MAX_RANK];
    memcpy(dim, t->dim, sizeof(dim));
    if (t->rank == 4) dim[1] = t->dim[2], dim[2] = t->dim[3], dim[3] = t->dim[1];
    f->fed[i] = nn_input(g, f->input_names[i], t->ids ? NN_I32 : NN_F32, t->rank, dim);
    return f->fed[i];
}

static nn_status write_input(const forward *f, nn_plan *plan, int i)
{
    const verify_tensor *t = &f->inputs[i];
    if (t->ids) return nn_plan_write(plan, f->fed[i], t->ids);
    float *packed = nn_alloc(t->n, sizeof(*packed));
    NN_NEED(packed);
    verify_to_nhwc(t->values, t->rank, t->dim, packed);
    nn_status status = nn_plan_write(plan, f->fed[i], packed);
    nn_free(packed);
    return status;
}

static nn_status check_output(verify_case *v, const forward *f, nn_plan *plan, int k)
{
    const nn_view *w = &f->outs[k]->view;
    int64_t n = nn_view_elems(w), dim[NN_MAX_RANK];
    float *got = nn_alloc(2 * n, sizeof(*got));
    NN_NEED(got);
    memcpy(dim, w->dim, sizeof(dim));
    if (w->rank == 4) dim[1] = w->dim[3], dim[2] = w->dim[1], dim[3] = w->dim[2];
    nn_status status = nn_plan_read(plan, f->outs[k], got);
    verify_to_nchw(got, w->rank, dim, got + n);
    if (status == NN_OK) status = verify_expect(v, f->out_names[k], got + n, w->rank, dim);
    if (status == NN_OK && f->after && k == 0) status = f->after(v, f, got + n);
    nn_free(got);
    return status;
}

static nn_status run_plan(verify_case *v, forward *f, nn_graph *g, nn_params *params)
{
    nn_plan *plan = NULL;
    nn_graph_compute(g, nn_device_storage(v->device));
    f->build(f, g, params);
    for (int k = 0; k < 2 && f->out_names[k]; k++) nn_keep(f->outs[k] = nn_precise(g, f->outs[k]));
    NN_TRY(nn_plan_create(g, v->device, &(nn_plan_options){ .frozen = true }, &plan));
    nn_status status = NN_OK;
    for (int i = 0; i < MOST_INPUTS && f->input_names[i] && status == NN_OK; i++)
        status = write_input(f, plan, i);
    if (status == NN_OK) status = nn_plan_run(plan, 0);
    for (int k = 0; k < 2 && f->out_names[k] && status == NN_OK; k++)
        status = check_output(v, f, plan, k);
    nn_plan_destroy(plan);
    return status;
}

/* Built once to learn the parameters, and again when they have memory. */
static nn_status run_graphs(verify_case *v, forward *f, nn_params *params)
{
    nn_graph *g = NULL;
    NN_TRY(nn_graph_create(&g));
    f->build(f, g, params);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(params, v->device, false));
    NN_TRY(verify_fill(v, params, NULL, 0));
    NN_TRY(nn_graph_create(&g));
    status = run_plan(v, f, g, params);
    nn_graph_destroy(g);
    return status;
}

static nn_status run_forward(verify_case *v, forward *f)
{
    nn_params *params = NULL;
    nn_status status = NN_OK;
    for (int i = 0; i < MOST_INPUTS && f->input_names[i] && status == NN_OK; i++)
        status = verify_input(v, f->input_names[i], 0, &f->inputs[i]);
    if (status == NN_OK) status = nn_params_create(&params);
    if (status == NN_OK) status = run_graphs(v, f, params);
    nn_params_destroy(params);
    for (int i = 0; i < MOST_INPUTS; i++) verify_tensor_free(&f->inputs[i]);
    return status;
}

static void build_time(forward *f, nn_graph *g, nn_params *params)
{
    nn_scope s = nn_root(g, params, "");
    f->outs[0] = nn_timestep(g, feed(f, g, 0), f->c.unet.block_out_channels[0]);
    f->outs[1] = unet_time_embedding(nn_at(s, "time_embedding"), &f->c.unet, f->outs[0]);
}

static void build_unet(forward *f, nn_graph *g, nn_params *params)
{
    nn_tensor *latent = feed(f, g, 0), *context = feed(f, g, 1), *t = feed(f, g, 2);
    f->outs[0] = unet(nn_root(g, params, ""), &f->c.unet, latent, t, context, false);
}

static void build_encoder(forward *f, nn_graph *g, nn_params *params)
{
    f->outs[0] = vae_encode(nn_root(g, params, ""), &f->c.vae, feed(f, g, 0));
}

static void build_decoder(forward *f, nn_graph *g, nn_params *params)
{
    f->outs[0] = vae_decode(nn_root(g, params, ""), &f->c.vae, feed(f, g, 0));
}

static void build_clip(forward *f, nn_graph *g, nn_params *params)
{
    f->outs[0] = clip_text(nn_root(g, params, "text_model"), &f->c.clip, feed(f, g, 0), false);
}

static void build_vision(forward *f, nn_graph *g, nn_params *params)
{
    f->outs[0] = captioner_encode(nn_root(g, params, ""), &f->c.blip, feed(f, g, 0));
}

static void build_blip(forward *f, nn_graph *g, nn_params *params)
{
    nn_scope s = nn_root(g, params, "");
    nn_tensor *image = captioner_encode(s, &f->c.blip, feed(f, g, 0));
    f->outs[0] = captioner_logits(s, &f->c.blip, image, feed(f, g, 1), NULL);
}

/* The row of each sentence at its first end token, the largest id. first: hidden [B, T, C]. */
static nn_status expect_pooled(verify_case *v, const forward *f, const float *first)
{
    const verify_tensor *ids = &f->inputs[0];
    int64_t t = ids->dim[1], width = nn_last(&f->outs[0]->view, 0);
    float *pooled = nn_alloc(ids->dim[0] * width, sizeof(*pooled));
    NN_NEED(pooled);
    for (int64_t b = 0; b < ids->dim[0]; b++) {
        int64_t end = 0;
        for (int64_t i = 1; i < t; i++)
            if (ids->ids[b * t + i] > ids->ids[b * t + end]) end = i;
        memcpy(pooled + b * width, first + (b * t + end) * width, (size_t)width * sizeof(float));
    }
    nn_status status = verify_expect(v, "pooled", pooled, 2, (int64_t[]){ ids->dim[0], width });
    nn_free(pooled);
    return status;
}

typedef nn_status parse_fn(const nn_json *json, void *out);

static nn_status configure(const verify_case *v, const char *preset, parse_fn *parse, void *out)
{
    nn_json json;
    bool is_preset;
    NN_TRY(verify_config(v, preset, NULL, &is_preset, &json));
    return is_preset ? NN_OK : parse(&json, out);
}

static nn_status parse_unet(const nn_json *json, void *out)
{
    return unet_config_parse(json, out);
}

static nn_status parse_vae(const nn_json *json, void *out)
{
    return vae_config_parse(json, out);
}

static nn_status parse_clip(const nn_json *json, void *out)
{
    return clip_text_config_parse(json, out);
}

static nn_status parse_blip(const nn_json *json, void *out)
{
    return captioner_config_parse(json, out);
}

nn_status verify_time_embedding(verify_case *v)
{
    forward f = { .c.unet = unet_config_sd14(), .input_names = { "t" }, .build = build_time };
    NN_TRY(configure(v, "sd14", parse_unet, &f.c.unet));
    f.out_names[0] = "sinusoidal";
    f.out_names[1] = "embedding";
    return run_forward(v, &f);
}

nn_status verify_unet(verify_case *v)
{
    forward f = { .c.unet = unet_config_sd14(),
                  .input_names = { "latent", "context", "t" },
                  .build = build_unet };
    NN_TRY(configure(v, "sd14", parse_unet, &f.c.unet));
    f.out_names[0] = "sample";
    return run_forward(v, &f);
}

nn_status verify_vae_encoder(verify_case *v)
{
    forward f = { .c.vae = vae_config_sd14(), .input_names = { "image" }, .build = build_encoder };
    NN_TRY(configure(v, "sd14", parse_vae, &f.c.vae));
    f.out_names[0] = "moments";
    return run_forward(v, &f);
}

nn_status verify_vae_decoder(verify_case *v)
{
    forward f = { .c.vae = vae_config_sd14(), .input_names = { "latent" }, .build = build_decoder };
    NN_TRY(configure(v, "sd14", parse_vae, &f.c.vae));
    f.out_names[0] = "image";
    return run_forward(v, &f);
}

nn_status verify_clip_text(verify_case *v)
{
    forward f = { .c.clip = clip_text_config_sd14(),
                  .input_names = { "ids" },
                  .build = build_clip,
                  .after = expect_pooled };
    NN_TRY(configure(v, "sd14", parse_clip, &f.c.clip));
    f.out_names[0] = "hidden";
    return run_forward(v, &f);
}

nn_status verify_blip_vision(verify_case *v)
{
    forward f = { .c.blip = captioner_config_blip_base(),
                  .input_names = { "pixels" },
                  .build = build_vision };
    NN_TRY(configure(v, "blip-base", parse_blip, &f.c.blip));
    f.out_names[0] = "hidden";
    return run_forward(v, &f);
}

nn_status verify_blip_decoder(verify_case *v)
{
    forward f = { .c.blip = captioner_config_blip_base(),
                  .input_names = { "pixels", "ids" },
                  .build = build_blip };
    NN_TRY(configure(v, "blip-base", parse_blip, &f.c.blip));
    f.out_names[0] = "logits";
    return run_forward(v, &f);
}
