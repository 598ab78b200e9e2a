/* Training steps: loss, gradients and AdamW, against the reference's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/optim.h"
#include "models/captioner.h"
#include "models/clip_text.h"
#include "models/diffusion.h"
#include "models/unet.h"
#include "tools/verify.h"

enum { MOST_STEPS = 16 };

/* What a training case adds: its graph and what goes into it at each step. */
typedef struct trainee {
    unet_config unet;
    clip_text_config clip;
    captioner_config blip;
    bool tied;
    verify_tensor latent, ids, labels, pixels;
    nn_tensor *x, *target, *t, *words, *mask, *answer; /* inputs of the graph */
    nn_tensor *loss;
    void (*build)(struct trainee *r, nn_graph *g, nn_params *params);
    nn_status (*feed)(struct trainee *r, const verify_case *v, nn_plan *plan, int step);
    const char *strip[2];
    int n_strip;
} trainee;

static double number_at(const json_t *args, const char *key, double otherwise)
{
    const json_t *j = json_object_get(args, key);
    return j ? json_number_value(j) : otherwise;
}

static int64_t find_at(const json_t *named, const char *name, json_t **at)
{
    *at = json_object_get(json_object_get(named, name), "at");
    return (int64_t)json_object_size(*at);
}

/* Samples of a tensor under expect.<what>. */
static nn_status expect_samples(verify_case *v, const char *what, const nn_param *p,
                                const float *values, double abs, double rel)
{
    json_t *at, *want;
    const char *key;
    const json_t *named = json_object_get(json_object_get(v->json, "expect"), what);
    if (!find_at(named, p->name, &at)) return NN_OK;
    json_object_foreach(at, key, want)
    {
        int64_t i = strtoll(key, NULL, 10);
        char label[256];
        if (i < 0 || i >= nn_view_elems(&p->view))
            return nn_fail(NN_FORMAT, "%s: %s has no element %s", v->name, p->name, key);
        snprintf(label, sizeof(label), "%s %s[%s]", what, p->name, key);
        verify_number(v, label, values[i], json_number_value(want), abs, rel);
    }
    return NN_OK;
}

static nn_status each_expected(verify_case *v, const char *what, nn_params *params,
                               nn_status (*check)(verify_case *, nn_params *, nn_param *,
                                                  const json_t *))
{
    json_t *want;
    const char *name;
    json_object_foreach(json_object_get(json_object_get(v->json, "expect"), what), name, want)
    {
        nn_param *p = nn_params_find(params, name);
        if (!p) return nn_fail(NN_NOT_FOUND, "%s: the networks have no tensor %s", v->name, name);
        NN_TRY(check(v, params, p, want));
    }
    return NN_OK;
}

typedef nn_status read_fn(const nn_params *params, const nn_param *p, void *dst);

/* Owner: nn_free. */
static nn_status bring(const nn_params *params, const nn_param *p, read_fn *read, float **out)
{
    *out = nn_alloc(nn_view_elems(&p->view), sizeof(**out));
    NN_NEED(*out);
    nn_status status = read(params, p, *out);
    if (status != NN_OK) nn_free(*out);
    return status;
}

static nn_status check_norm(verify_case *v, nn_params *params, nn_param *p, const json_t *want)
{
    double sum = 0;
    char label[256];
    float *g;
    NN_TRY(bring(params, p, nn_params_read_gradient, &g));
    for (int64_t i = 0; i < nn_view_elems(&p->view); i++) sum += (double)g[i] * g[i];
    nn_free(g);
    snprintf(label, sizeof(label), "norm of the gradient of %s", p->name);
    verify_number(v, label, sqrt(sum), json_number_value(want), 1e-9, 1e-3 + v->share);
    return NN_OK;
}

static nn_status check_gradient(verify_case *v, nn_params *params, nn_param *p, const json_t *want)
{
    (void)want;
    /* relative to the value; the smallest ones stand in the shadow of the tensor's rounding: its
     * largest gradient */
    float *g;
    double largest = 0;
    NN_TRY(bring(params, p, nn_params_read_gradient, &g));
    for (int64_t i = 0; i < nn_view_elems(&p->view); i++)
        largest = fmax(largest, fabs((double)g[i]));
    nn_status status = expect_samples(v, "grads", p, g, (1e-6 + v->share) * largest, 1e-3);
    nn_free(g);
    return status;
}

static nn_status check_value(verify_case *v, nn_params *params, nn_param *p, const json_t *want)
{
    (void)want;
    float *values;
    const json_t *args = json_object_get(v->json, "args");
    /* in bf16 a small gradient may have the other sign, and AdamW's first steps see only that */
    double moved = number_at(args, "lr", 1e-5) *
                   number_at(args, "steps", 1); /* one hundredth of the movement */
    NN_TRY(bring(params, p, nn_params_read, &values));
    nn_status status = expect_samples(v, "params", p, values, (v->share > 0 ? 2 : 0.01) * moved, 0);
    nn_free(values);
    return status;
}

static void expect_in_list(verify_case *v, const char *what, int step, double got, double abs,
                           double rel)
{
    char label[64];
    const json_t *list = json_object_get(json_object_get(v->json, "expect"), what);
    const json_t *want = json_array_get(list, (size_t)step);
    snprintf(label, sizeof(label), "%s of step %d", what, step);
    if (want) verify_number(v, label, got, json_number_value(want), abs, rel);
}

static nn_status run_steps(verify_case *v, trainee *r, nn_params *params, nn_optimizer *o,
                           nn_plan *plan)
{
    const json_t *args = json_object_get(v->json, "args");
    int steps = (int)number_at(args, "steps", 1);
    if (steps < 1 || steps > MOST_STEPS) return nn_fail(NN_FORMAT, "%s: %d steps", v->name, steps);
    for (int step = 0; step < steps; step++) {
        float loss, norm;
        NN_TRY(r->feed(r, v, plan, step));
        NN_TRY(nn_optimizer_begin(o, plan, number_at(args, "lr", 1e-5)));
        NN_TRY(nn_plan_run(plan, 0));
        NN_TRY(nn_plan_read(plan, r->loss, &loss));
        NN_TRY(nn_plan_read(plan, o->norm, &norm));
        expect_in_list(v, "loss", step, loss, 1e-4, 1e-4 + v->share);
        expect_in_list(v, "grad_norm", step, norm, 1e-6, 1e-3 + v->share);
        if (step) continue;
        NN_TRY(each_expected(v, "grad_norms", params, check_norm));
        NN_TRY(each_expected(v, "grads", params, check_gradient));
    }
    return each_expected(v, "params", params, check_value);
}

static nn_status run_training(verify_case *v, trainee *r, nn_params *params)
{
    const json_t *args = json_object_get(v->json, "args"), *betas = json_object_get(args, "betas");
    nn_adamw_options options = NN_ADAMW_DEFAULTS;
    nn_optimizer *o = NULL;
    nn_graph *g = NULL;
    nn_plan *plan = NULL;
    if (betas) {
        options.beta1 = json_number_value(json_array_get(betas, 0));
        options.beta2 = json_number_value(json_array_get(betas, 1));
    }
    options.eps = number_at(args, "eps", options.eps);
    options.weight_decay = number_at(args, "weight_decay", options.weight_decay);
    nn_status status = nn_optimizer_create(params, &options, &o);
    if (status == NN_OK) status = nn_graph_create(&g);
    if (status == NN_OK) {
        nn_graph_training(g);
        nn_graph_compute(g, nn_device_storage(v->device));
        r->build(r, g, params);
        nn_keep(r->loss);
        nn_backward(g, r->loss, 1, false);
        nn_optimizer_add(o, g);
        status = nn_plan_create(g, v->device, NULL, &plan);
    }
    if (status == NN_OK) status = run_steps(v, r, params, o, plan);
    nn_plan_destroy(plan);
    nn_graph_destroy(g);
    nn_optimizer_destroy(o);
    return status;
}

/* Learn the parameters from a graph, give them memory and values, train. */
static nn_status train(verify_case *v, trainee *r)
{
    nn_graph *g = NULL;
    nn_params *params = NULL;
    NN_TRY(nn_params_create(&params));
    nn_status status = nn_graph_create(&g);
    if (status == NN_OK) {
        r->build(r, g, params);
        status = nn_graph_status(g);
    }
    nn_graph_destroy(g);
    if (status == NN_OK) status = nn_params_alloc(params, v->device, true);
    if (status == NN_OK) status = verify_fill(v, params, r->strip, r->n_strip);
    if (status == NN_OK) status = run_training(v, r, params);
    nn_params_destroy(params);
    return status;
}

/* -- diffusion -- */

static void build_diffusion(trainee *r, nn_graph *g, nn_params *params)
{
    const int64_t *d = r->latent.dim;
    int64_t nhwc[] = { d[0], d[2], d[3], d[1] };
    r->x = nn_input(g, "x", NN_F32, 4, nhwc);
    r->target = nn_input(g, "noise", NN_F32, 4, nhwc);
    r->t = nn_input(g, "t", NN_F32, 1, d);
    r->words = nn_input(g, "ids", NN_I32, 2, r->ids.dim);
    nn_tensor *context =
        clip_text(nn_root(g, params, "text.text_model"), &r->clip, r->words, false);
    nn_tensor *noise = unet(nn_root(g, params, "unet"), &r->unet, r->x, r->t, context, false);
    r->loss = nn_mse(g, noise, r->target, NULL);
}

static nn_status feed_noise(trainee *r, nn_plan *plan, const verify_tensor *noise,
                            const verify_tensor *t)
{
    int64_t n = r->latent.n, each = n / r->latent.dim[0];
    nn_noise_schedule schedule;
    nn_noise_config config = nn_noise_config_sd14();
    if (noise->n != n || t->n != r->latent.dim[0])
        return nn_fail(NN_SHAPE, "noise or t does not fit the latent");
    float *x = nn_alloc(2 * n, sizeof(*x));
    NN_NEED(x);
    nn_status status = nn_noise_schedule_init(&schedule, &config);
    if (status != NN_OK) {
        nn_free(x);
        return status;
    }
    for (int64_t b = 0; b < r->latent.dim[0]; b++)
        nn_noise_schedule_add(&schedule, (int)t->values[b], each, r->latent.values + b * each,
                              noise->values + b * each, x + n + b * each);
    nn_noise_schedule_deinit(&schedule);
    verify_to_nhwc(x + n, 4, r->latent.dim, x);
    status = nn_plan_write(plan, r->x, x);
    verify_to_nhwc(noise->values, 4, r->latent.dim, x);
    if (status == NN_OK) status = nn_plan_write(plan, r->target, x);
    if (status == NN_OK) status = nn_plan_write(plan, r->t, t->values);
    nn_free(x);
    return status;
}

static nn_status feed_diffusion(trainee *r, const verify_case *v, nn_plan *plan, int step)
{
    verify_tensor noise, t = { 0 };
    NN_TRY(verify_input(v, "noise", step, &noise));
    nn_status status = verify_input(v, "t", step, &t);
    if (status == NN_OK) status = feed_noise(r, plan, &noise, &t);
    if (status == NN_OK) status = nn_plan_write(plan, r->words, r->ids.ids);
    verify_tensor_free(&noise);
    verify_tensor_free(&t);
    return status;
}

static nn_status configure_diffusion(const verify_case *v, trainee *r)
{
    bool preset;
    nn_json json;
    NN_TRY(verify_config(v, "sd14", "unet", &preset, &json));
    if (preset) return NN_OK;
    NN_TRY(unet_config_parse(&json, &r->unet));
    NN_TRY(verify_config(v, "sd14", "text", &preset, &json));
    return clip_text_config_parse(&json, &r->clip);
}

nn_status verify_train_diffusion(verify_case *v)
{
    trainee r = { .unet = unet_config_sd14(),
                  .clip = clip_text_config_sd14(),
                  .build = build_diffusion,
                  .feed = feed_diffusion,
                  .strip = { "unet.", "text." },
                  .n_strip = 2 };
    NN_TRY(configure_diffusion(v, &r));
    nn_status status = verify_input(v, "latent", 0, &r.latent);
    if (status == NN_OK) status = verify_input(v, "ids", 0, &r.ids);
    if (status == NN_OK) status = train(v, &r);
    verify_tensor_free(&r.latent);
    verify_tensor_free(&r.ids);
    return status;
}

/* -- captioner -- */

static void build_captioner(trainee *r, nn_graph *g, nn_params *params)
{
    const int64_t *d = r->pixels.dim;
    r->x = nn_input(g, "pixels", NN_F32, NN_DIMS(d[0], d[2], d[3], d[1]));
    r->words = nn_input(g, "ids", NN_I32, 2, r->ids.dim);
    r->mask = nn_input(g, "key_mask", NN_I32, 2, r->ids.dim);
    r->answer = nn_input(g, "labels", NN_I32, 2, r->ids.dim);
    r->loss = captioner_loss(nn_root(g, params, ""), &r->blip, r->x, r->words, r->mask, r->answer);
}

static nn_status feed_captioner(trainee *r, const verify_case *v, nn_plan *plan, int step)
{
    (void)v, (void)step;
    float *x = nn_alloc(r->pixels.n, sizeof(*x));
    NN_NEED(x);
    verify_to_nhwc(r->pixels.values, 4, r->pixels.dim, x);
    nn_status status = nn_plan_write(plan, r->x, x);
    nn_free(x);
    int32_t *mask = status == NN_OK ? nn_alloc(r->ids.n, sizeof(*mask)) : NULL;
    if (!mask) return status == NN_OK ? NN_MEMORY : status;
    for (int64_t i = 0; i < r->ids.n; i++) mask[i] = r->ids.ids[i] != r->blip.text.pad;
    status = nn_plan_write(plan, r->mask, mask);
    nn_free(mask);
    NN_TRY(status);
    NN_TRY(nn_plan_write(plan, r->words, r->ids.ids));
    return nn_plan_write(plan, r->answer, r->labels.ids);
}

static nn_status configure_captioner(const verify_case *v, trainee *r)
{
    const json_t *args = json_object_get(v->json, "args");
    bool preset;
    nn_json json;
    NN_TRY(verify_config(v, "blip-base", NULL, &preset, &json));
    if (!preset) NN_TRY(captioner_config_parse(&json, &r->blip));
    r->blip.text.label_smoothing = number_at(args, "label_smoothing", r->blip.text.label_smoothing);
    r->blip.text.dropout = 0;
    if (json_object_get(args, "tied"))
        r->blip.text.tied = json_is_true(json_object_get(args, "tied"));
    return NN_OK;
}

nn_status verify_train_captioner(verify_case *v)
{
    trainee r = { .blip = captioner_config_blip_base(),
                  .build = build_captioner,
                  .feed = feed_captioner };
    NN_TRY(configure_captioner(v, &r));
    nn_status status = verify_input(v, "pixels", 0, &r.pixels);
    if (status == NN_OK) status = verify_input(v, "ids", 0, &r.ids);
    if (status == NN_OK) status = verify_input(v, "labels", 0, &r.labels);
    if (status == NN_OK) status = train(v, &r);
    verify_tensor_free(&r.pixels);
    verify_tensor_free(&r.ids);
    verify_tensor_free(&r.labels);
    return status;
}
