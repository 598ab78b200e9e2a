/* The networks of the demo (tools/demo), trained for a few steps on a device by name: what the
 * tests of the cuda device hold against ref, and against itself. */
#ifndef TESTS_CUDA_DEMO_NETS_H
#define TESTS_CUDA_DEMO_NETS_H

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "engine/optim.h"
#include "models/captioner.h"
#include "models/stable_diffusion.h"
#include "tests/unit/engine_check.h"

/* The first step runs kernel by kernel, the second is recorded and repeated (engine/capture.c). */
enum { STEPS = 2, BATCH = 2, WORDS = 12, MOST_INPUTS = 5 };

static const double LR = 1e-3;

typedef struct pupil {
    sd_model sd; /* one of the two networks is taught */
    captioner_config captioner;
    nn_device *device;
    nn_params *params;
    nn_optimizer *optimizer;
    nn_graph *g;
    nn_plan *plan;
    nn_tensor *in[MOST_INPUTS], *loss;
} pupil;

/* A subject: the loss as a graph with its inputs in p->in, and the inputs of a step. */
typedef struct subject {
    const char *name;
    nn_tensor *(*build)(pupil *p, nn_graph *g);
    void (*feed)(pupil *p, int step);
} subject;

/* What training leaves, gradients being those of the first step; both flat, as in the store. */
typedef struct outcome {
    double loss[STEPS], norm[STEPS];
    float *gradients, *weights;
} outcome;

static inline void parse_config(const char *dir, const char *name, void *out,
                                nn_status (*parse)(const nn_json *, void *))
{
    nn_json json;
    OK(nn_json_open_config(dir, name, &json));
    OK(parse(&json, out));
    nn_json_close(&json);
}

static inline nn_status parse_unet(const nn_json *json, void *out)
{
    return unet_config_parse(json, out);
}

static inline nn_status parse_text(const nn_json *json, void *out)
{
    return clip_text_config_parse(json, out);
}

static inline nn_status parse_vae(const nn_json *json, void *out)
{
    return vae_config_parse(json, out);
}

static inline nn_status parse_captioner(const nn_json *json, void *out)
{
    return captioner_config_parse(json, out);
}

static inline sd_model demo_sd(void)
{
    sd_model m = { 0 };
    parse_config("tools/demo/diffusion", "unet/config.json", &m.unet, parse_unet);
    parse_config("tools/demo/diffusion", "text_encoder/config.json", &m.text, parse_text);
    parse_config("tools/demo/vae", "config.json", &m.vae, parse_vae);
    return m;
}

static inline captioner_config demo_captioner(void)
{
    captioner_config c = captioner_config_blip_base();
    parse_config("tools/demo/captioner", "config.json", &c, parse_captioner);
    return c;
}

static inline nn_device *open_computing(const char *name, nn_dtype dtype)
{
    nn_device *d;
    OK(nn_device_open(name, 1, &d));
    OK(nn_device_compute(d, dtype));
    return d;
}

/* Inputs: numbers drawn by the name of the input, the same on every device. */
static inline void write_normal(pupil *p, int which, int step)
{
    nn_tensor *t = p->in[which];
    int64_t n = nn_view_elems(&t->view);
    float *x = nn_alloc(n, sizeof(*x));
    nn_rng rng = nn_rng_make(7, t->name, (uint64_t)step);
    assert_non_null(x);
    nn_rng_normal_fill(&rng, x, n);
    OK(nn_plan_write(p->plan, t, x));
    nn_free(x);
}

static inline void write_ids(pupil *p, int which, int step, int32_t first, int32_t end)
{
    nn_tensor *t = p->in[which];
    int64_t n = nn_view_elems(&t->view);
    int32_t *ids = nn_alloc(n, sizeof(*ids));
    nn_rng rng = nn_rng_make(8, t->name, (uint64_t)step);
    assert_non_null(ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = first + (int32_t)nn_rng_below(&rng, (uint64_t)(end - first));
    OK(nn_plan_write(p->plan, t, ids));
    nn_free(ids);
}

/* -- diffusion: UNet and text encoder -- */

static inline nn_tensor *build_diffusion(pupil *p, nn_graph *g)
{
    int64_t side = p->sd.unet.sample_size, c = p->sd.unet.in_channels;
    p->in[0] = nn_input(g, "latent", NN_F32, NN_DIMS(BATCH, side, side, c));
    p->in[1] = nn_input(g, "target", NN_F32, NN_DIMS(BATCH, side, side, c));
    p->in[2] = nn_input(g, "t", NN_F32, NN_DIMS(BATCH));
    p->in[3] = nn_input(g, "ids", NN_I32, NN_DIMS(BATCH, p->sd.text.max_positions));
    p->in[4] = nn_input(g, "weight", NN_F32, NN_DIMS(BATCH));
    nn_tensor *context = sd_text(&p->sd, g, p->in[3], false);
    return nn_mse(g, sd_unet(&p->sd, g, p->in[0], p->in[2], context, false), p->in[1], p->in[4]);
}

static inline void feed_diffusion(pupil *p, int step)
{
    const float t[BATCH] = { 17.0f + 300 * (float)step, 999 }, weight[BATCH] = { 1, 0.25f };
    write_normal(p, 0, step);
    write_normal(p, 1, step);
    OK(nn_plan_write(p->plan, p->in[2], t));
    write_ids(p, 3, step, 0, (int32_t)p->sd.text.vocab_size);
    OK(nn_plan_write(p->plan, p->in[4], weight));
}

/* -- captioner, with dropout -- */

static inline nn_tensor *build_captioner(pupil *p, nn_graph *g)
{
    int64_t size = p->captioner.vision.image_size;
    p->in[0] = nn_input(g, "pixels", NN_F32, NN_DIMS(BATCH, size, size, 3));
    p->in[1] = nn_input(g, "ids", NN_I32, NN_DIMS(BATCH, WORDS));
    p->in[2] = nn_input(g, "seen", NN_I32, NN_DIMS(BATCH, WORDS));
    p->in[3] = nn_input(g, "labels", NN_I32, NN_DIMS(BATCH, WORDS));
    return captioner_loss(nn_root(g, p->params, ""), &p->captioner, p->in[0], p->in[1], p->in[2],
                          p->in[3]);
}

static inline void feed_captioner(pupil *p, int step)
{
    int32_t seen[BATCH * WORDS];
    for (int i = 0; i < BATCH * WORDS; i++) seen[i] = i < BATCH * WORDS - 3; /* three of padding */
    write_normal(p, 0, step);
    write_ids(p, 1, step, 0, (int32_t)p->captioner.text.vocab_size);
    OK(nn_plan_write(p->plan, p->in[2], seen));
    write_ids(p, 3, step, -100, (int32_t)p->captioner.text.vocab_size);
}

static const subject subjects[] = { { "diffusion", build_diffusion, feed_diffusion },
                                    { "captioner", build_captioner, feed_captioner } };

/* -- lessons -- */

static inline void enrol(pupil *p, const subject *s, const char *device, nn_dtype dtype)
{
    nn_adamw_options options = NN_ADAMW_DEFAULTS;
    options.clip_norm = 1;
    *p = (pupil){ .sd = demo_sd(), .captioner = demo_captioner() };
    p->captioner.text.dropout = 0.1;
    p->device = open_computing(device, dtype);
    p->device->deterministic = true;
    OK(nn_params_create(&p->params));
    p->sd.params = p->params;
    OK(nn_graph_create(&p->g));
    s->build(p, p->g);
    OK(nn_graph_status(p->g));
    nn_graph_destroy(p->g);
    OK(nn_params_alloc(p->params, p->device, true));
    OK(nn_params_init(p->params, 5));
    OK(nn_optimizer_create(p->params, &options, &p->optimizer));
    OK(nn_graph_create(&p->g));
    nn_graph_training(p->g);
    nn_graph_compute(p->g, nn_device_storage(p->device));
    p->loss = s->build(p, p->g);
    nn_keep(p->loss);
    nn_backward(p->g, p->loss, 1, false);
    nn_optimizer_add(p->optimizer, p->g);
    OK(nn_plan_create(p->g, p->device, NULL, &p->plan));
}

static inline void leave(pupil *p)
{
    nn_plan_destroy(p->plan);
    nn_graph_destroy(p->g);
    nn_optimizer_destroy(p->optimizer);
    nn_params_destroy(p->params);
    nn_device_close(p->device);
}

/* A flat buffer of the store. */
static inline float *read_flat(const nn_params *params, const float *flat)
{
    float *all = nn_alloc(params->n_elems, sizeof(*all));
    assert_non_null(all);
    OK(params->device->backend->read(params->device, all, flat,
                                     params->n_elems * (int64_t)sizeof(*all)));
    return all;
}

static inline void learn(pupil *p, const subject *s, outcome *out)
{
    for (int step = 0; step < STEPS; step++) {
        float loss, norm;
        s->feed(p, step);
        OK(nn_optimizer_begin(p->optimizer, p->plan, LR));
        OK(nn_plan_run(p->plan, (uint64_t)step));
        OK(nn_optimizer_end(p->optimizer, p->plan, &norm));
        OK(nn_plan_read(p->plan, p->loss, &loss));
        out->loss[step] = (double)loss;
        out->norm[step] = (double)norm;
        if (!step) out->gradients = read_flat(p->params, p->params->grads);
    }
    out->weights = read_flat(p->params, p->params->values);
}

static inline void outcome_free(outcome *o)
{
    nn_free(o->gradients);
    nn_free(o->weights);
}

#endif
