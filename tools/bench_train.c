/* Whole training steps, of the demo's networks and of Stable Diffusion 1.4: the trainers' loop with
 * their loss, their optimizer and their preparation of a batch, on random samples that are in
 * memory already, as they are from the second epoch on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "models/captioner_folder.h"
#include "models/stable_diffusion.h"
#include "tools/bench.h"
#include "tools/trainer.h"

enum { CAPTION_IDS = 40, IDS = 1000, DUE_STEP = 10 };

typedef struct job {
    const bench_case *what;
    bench_result *out;
    bench_clock clock;
    nn_params *params;
    int64_t batch;
    uint8_t *bytes; /* pictures [batch, pixels] of the captioner */
    float *numbers; /* diffusion: moments, x0, noise, x, answer [batch, elems]; captioner: pixels */
    float *t_now, *weight_now;
    int32_t *ids_now, *labels_now, *seen_now;
    nn_tensor *image, *answer, *t, *weight, *ids, *labels, *seen; /* inputs of the graph */
    captioner_config captioner;
    sd_model model;        /* its configurations and its schedule */
    int64_t elems, places; /* of a latent */
    double start;          /* CPU time at the first step's begin */
} job;

/* -- the loop */

static nn_status after(void *ctx, trainer *t, int64_t step)
{
    job *j = ctx;
    if (step > 1) {
        bench_clock_lap(&j->clock);
        return NN_OK;
    }
    bench_count_plan(t->pass, j->out);
    if (t->update) bench_count_plan(t->update, j->out);
    j->out->first_seconds = nn_clock_cpu_seconds() - j->start;
    bench_clock_start(&j->clock);
    return NN_OK;
}

static void begin(job *j, int64_t step)
{
    if (step) return;
    j->start = nn_clock_cpu_seconds();
    snprintf(j->out->shape, sizeof(j->out->shape), "%s -> loss", nn_view_text(&j->image->view).s);
}

/* Values, two moments, gradients unless they pass by, and the moving average where there is one. */
static void count_params(const job *j, const trainer_settings *s)
{
    const int copies = 3 + !s->fuse + (s->ema_decay > 0);
    j->out->parameter_bytes = j->params->n_elems * (int64_t)sizeof(float) * copies;
}

static void remove_directory(const char *dir)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/trace.json", dir);
    remove(path);
    rmdir(dir);
}

/* The trainer wants a directory; a run that is not interrupted writes no more than its trace. */
static nn_status train(job *j, const bench_settings *set, trainer *t)
{
    char dir[] = "/tmp/recap-bench-XXXXXX";
    int64_t runs = j->what->dim[1] ? j->what->dim[1] - 1 : set->runs;
    if (!mkdtemp(dir)) return nn_fail(NN_IO, "%s: no such directory can be made", dir);
    t->set.output = dir;
    t->set.batch = j->batch;
    t->set.steps = runs + 1;
    t->set.checkpoint_every = t->set.steps;
    t->set.profile = set->profile;
    t->what = j->what->name;
    t->params = j->params;
    t->ctx = j;
    t->after = after;
    count_params(j, &t->set);
    nn_status status = trainer_run(t);
    remove_directory(dir);
    NN_TRY(status);
    bench_clock_result(&j->clock, j->out);
    return NN_OK;
}

static void random_ids(const char *name, int64_t n, int32_t *ids)
{
    nn_rng rng = nn_rng_make(1, name, 0);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)nn_rng_below(&rng, IDS);
}

/* -- diffusion */

static nn_tensor *build_diffusion(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    int64_t n = j->batch, side = j->model.unet.sample_size, c = j->model.unet.in_channels;
    j->image = nn_input(g, "latent", NN_F32, NN_DIMS(n, side, side, c));
    j->answer = nn_input(g, "target", NN_F32, NN_DIMS(n, side, side, c));
    j->t = nn_input(g, "t", NN_F32, NN_DIMS(n));
    j->ids = nn_input(g, "ids", NN_I32, NN_DIMS(n, j->model.text.max_positions));
    j->weight = nn_input(g, "weight", NN_F32, NN_DIMS(n));
    bool recompute = j->what->dim[4] != 0;
    nn_tensor *context = clip_text(nn_root(g, params, "text"), &j->model.text, j->ids, recompute);
    nn_tensor *predicted =
        unet(nn_root(g, params, "unet"), &j->model.unet, j->image, j->t, context, recompute);
    return nn_mse(g, predicted, j->answer, j->weight);
}

/* The noise, the timestep and the latent of one place in the batch. */
static void prepare_latent(job *j, int64_t i, int64_t step)
{
    const nn_noise_schedule *s = &j->model.noise;
    int64_t n = j->elems, all = j->batch * n;
    const float *moments = j->numbers + 2 * i * n;
    float *x0 = j->numbers + 2 * all + i * n, *noise = x0 + all, *x = noise + all, *y = x + all;
    nn_rng rng = nn_rng_make(1, "latent", nn_mix((uint64_t)i, (uint64_t)step));
    nn_rng_normal_fill(&rng, noise, n);
    sd_latent(&j->model.vae, j->places, moments, noise, x0);
    rng = nn_rng_make(1, "noise", nn_mix((uint64_t)i, (uint64_t)step));
    nn_rng_normal_fill(&rng, noise, n);
    int t = nn_noise_schedule_draw(s, 1, (uint64_t)i, (uint64_t)step);
    nn_noise_schedule_add(s, t, n, x0, noise, x);
    nn_noise_schedule_target(s, t, n, x0, noise, y);
    j->t_now[i] = (float)t;
    j->weight_now[i] = (float)nn_noise_schedule_weight(s, t, 5);
}

static nn_status feed_diffusion(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    job *j = ctx;
    begin(j, pass->update);
    for (int64_t i = 0; i < j->batch; i++) prepare_latent(j, i, pass->update);
    int64_t all = j->batch * j->elems;
    NN_TRY(nn_plan_write(plan, j->image, j->numbers + 4 * all));
    NN_TRY(nn_plan_write(plan, j->answer, j->numbers + 5 * all));
    NN_TRY(nn_plan_write(plan, j->t, j->t_now));
    NN_TRY(nn_plan_write(plan, j->weight, j->weight_now));
    return nn_plan_write(plan, j->ids, j->ids_now);
}

static nn_status reserve_diffusion(job *j)
{
    int64_t ids = j->batch * j->model.text.max_positions;
    j->places = j->model.unet.sample_size * j->model.unet.sample_size;
    j->elems = j->places * j->model.unet.in_channels;
    j->numbers = nn_alloc(6 * j->batch * j->elems + 2 * j->batch, sizeof(float));
    NN_NEED(j->numbers);
    j->t_now = j->numbers + 6 * j->batch * j->elems;
    j->weight_now = j->t_now + j->batch;
    j->ids_now = nn_alloc(ids, sizeof(int32_t));
    NN_NEED(j->ids_now);
    nn_rng rng = nn_rng_make(1, "moments", 0);
    nn_rng_normal_fill(&rng, j->numbers, 2 * j->batch * j->elems);
    random_ids("ids", ids, j->ids_now);
    j->out->batch_bytes = (6 * j->batch * j->elems + 2 * j->batch + ids) * (int64_t)sizeof(float);
    return NN_OK;
}

static nn_status configure_demo(job *j, const bench_settings *set)
{
    char *dir = nn_format("%s/diffusion", set->config_dir);
    NN_NEED(dir);
    nn_status status = sd_model_configure(dir, set->config_dir, &j->model);
    nn_free(dir);
    return status;
}

/* Stable Diffusion 1.4, latents of another size. */
static nn_status configure_published(job *j)
{
    const nn_noise_config noise = nn_noise_config_sd14();
    j->model.unet = unet_config_sd14();
    j->model.unet.sample_size = j->what->dim[2];
    j->model.text = clip_text_config_sd14();
    j->model.vae = vae_config_sd14();
    return nn_noise_schedule_init(&j->model.noise, &noise);
}

static nn_status time_diffusion(job *j, const bench_settings *set, nn_device *device)
{
    trainer t = { .set = { TRAINER_DEFAULTS, .lr = 2e-3 },
                  .device = device,
                  .build = build_diffusion,
                  .feed = feed_diffusion };
    if (j->what->dim[2]) {
        NN_TRY(configure_published(j));
        t.set.clip_norm = 0;
        t.set.fuse = j->what->dim[3] != 0;
    } else {
        NN_TRY(configure_demo(j, set));
        t.set.ema_decay = 0.99;
    }
    NN_TRY(reserve_diffusion(j));
    NN_TRY(trainer_make_params(build_diffusion, j, device, &j->params));
    NN_TRY(nn_params_init(j->params, 1));
    return train(j, set, &t);
}

/* -- captioner */

static nn_tensor *build_captioner(void *ctx, nn_graph *g, nn_params *params)
{
    job *j = ctx;
    int64_t n = j->batch, size = j->captioner.vision.image_size;
    j->image = nn_input(g, "pixels", NN_F32, NN_DIMS(n, size, size, 3));
    j->ids = nn_input(g, "ids", NN_I32, NN_DIMS(n, CAPTION_IDS));
    j->labels = nn_input(g, "labels", NN_I32, NN_DIMS(n, CAPTION_IDS));
    j->seen = nn_input(g, "seen", NN_I32, NN_DIMS(n, CAPTION_IDS));
    return captioner_loss(nn_root(g, params, ""), &j->captioner, j->image, j->ids, j->seen,
                          j->labels);
}

static nn_status feed_captioner(void *ctx, nn_plan *plan, const trainer_pass *pass)
{
    job *j = ctx;
    int size = (int)j->captioner.vision.image_size, pixels = 3 * size * size;
    begin(j, pass->update);
    for (int64_t i = 0; i < j->batch; i++) {
        const nn_image square = { .width = size, .height = size, .rgb = j->bytes + i * pixels };
        captioner_pixels(&square, j->numbers + i * pixels);
    }
    NN_TRY(nn_plan_write(plan, j->image, j->numbers));
    NN_TRY(nn_plan_write(plan, j->ids, j->ids_now));
    NN_TRY(nn_plan_write(plan, j->labels, j->labels_now));
    return nn_plan_write(plan, j->seen, j->seen_now);
}

static nn_status reserve_captioner(job *j)
{
    int64_t size = j->captioner.vision.image_size, n = j->batch * CAPTION_IDS;
    int64_t pixels = j->batch * 3 * size * size;
    j->bytes = nn_alloc(pixels, 1);
    NN_NEED(j->bytes);
    j->numbers = nn_alloc(pixels, sizeof(float));
    NN_NEED(j->numbers);
    j->ids_now = nn_alloc(3 * n, sizeof(int32_t));
    NN_NEED(j->ids_now);
    j->labels_now = j->ids_now + n;
    j->seen_now = j->labels_now + n;
    nn_rng rng = nn_rng_make(1, "pixels", 0);
    for (int64_t i = 0; i < pixels; i++) j->bytes[i] = (uint8_t)nn_rng_below(&rng, 256);
    random_ids("ids", n, j->ids_now);
    memcpy(j->labels_now, j->ids_now, (size_t)n * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) j->seen_now[i] = 1;
    j->out->batch_bytes = pixels + (pixels + 3 * n) * (int64_t)sizeof(float);
    return NN_OK;
}

static nn_status time_captioner(job *j, const bench_settings *set, nn_device *device)
{
    nn_json json;
    trainer t = { .set = { TRAINER_DEFAULTS, .lr = 4e-5 },
                  .device = device,
                  .build = build_captioner,
                  .feed = feed_captioner };
    NN_TRY(nn_json_open_config(set->config_dir, "captioner/config.json", &json));
    nn_status status = captioner_config_parse(&json, &j->captioner);
    nn_json_close(&json);
    NN_TRY(status);
    j->captioner.text.dropout = 0.1;
    NN_TRY(reserve_captioner(j));
    NN_TRY(trainer_make_params(build_captioner, j, device, &j->params));
    NN_TRY(nn_params_init(j->params, 1));
    return train(j, set, &t);
}

/* -- the cases; dim: batch, steps (0 = as many as runs are asked for), side of the latents of the
 * published networks (0 = the demo's); those are trained with AdamW alone, fused into backward (1)
 * or not, and with activations computed again (1) or not */

typedef nn_status time_steps(job *j, const bench_settings *set, nn_device *device);

static nn_status time_job(const bench_case *c, const bench_settings *set, nn_device *device,
                          time_steps *run, bench_result *out)
{
    job *j = nn_alloc(1, sizeof(*j));
    NN_NEED(j);
    j->what = c;
    j->out = out;
    j->batch = c->dim[0];
    nn_status status = run(j, set, device);
    nn_params_destroy(j->params);
    sd_model_close(&j->model);
    nn_free(j->bytes);
    nn_free(j->numbers);
    nn_free(j->ids_now);
    nn_free(j);
    return status;
}

static nn_status run_diffusion(const bench_case *c, const bench_settings *set, nn_device *device,
                               bench_result *out)
{
    return time_job(c, set, device, time_diffusion, out);
}

static nn_status run_captioner(const bench_case *c, const bench_settings *set, nn_device *device,
                               bench_result *out)
{
    return time_job(c, set, device, time_captioner, out);
}

/* Step 2 and the last one, step 10, ask for memory equally often. */
static nn_status run_steps(const bench_case *c, const bench_settings *set, nn_device *device,
                           bench_result *out)
{
    NN_TRY(time_job(c, set, device, time_diffusion, out));
    if (out->early_allocations != out->late_allocations)
        return nn_fail(NN_NUMERIC, "%lld allocations in step 2, %lld in step %d",
                       (long long)out->early_allocations, (long long)out->late_allocations,
                       DUE_STEP);
    return NN_OK;
}

const bench_case bench_trainings[] = {
    { .name = "demo_unet_train", .dim = { 64 }, .training = true, .run = run_diffusion },
    { .name = "demo_captioner_train", .dim = { 64 }, .training = true, .run = run_captioner },
    { .name = "unet_clip_train_256", .dim = { 1, 0, 32 }, .training = true, .run = run_diffusion },
    { .name = "unet_clip_train_256_fused",
      .dim = { 1, 0, 32, 1 },
      .training = true,
      .run = run_diffusion },
    { .name = "unet_clip_train_256_fused_recompute",
      .dim = { 1, 0, 32, 1, 1 },
      .training = true,
      .run = run_diffusion },
    { .name = "steps", .dim = { 2, DUE_STEP }, .training = true, .run = run_steps },
    { 0 },
};
