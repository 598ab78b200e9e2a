/* Whole captions of BLIP base: what the encoder sees of the pictures and every word after it, by
 * greedy search. */
#include <stdio.h>

#include "engine/base/alloc.h"
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "models/captioner.h"
#include "tools/bench.h"

/* dim: pictures, words */
typedef struct job {
    const bench_case *what;
    bench_result *out;
    nn_device *device;
    captioner_config config;
    nn_params *params;
    captioner_session *session;
    float *pixels;       /* [pictures, S, S, 3] */
    int32_t *ids;        /* [pictures, room] */
    int32_t *prompt;     /* [pictures] */
    nn_decoded *decoded; /* [pictures] */
    bench_clock clock;
} job;

static int64_t room(const job *j)
{
    return j->what->dim[1] + 1;
}

static nn_status make_params(job *j)
{
    nn_graph *g;
    int64_t side = j->config.vision.image_size;
    NN_TRY(nn_params_create(&j->params));
    NN_TRY(nn_graph_create(&g));
    nn_scope s = nn_root(g, j->params, "");
    nn_tensor *pixels = nn_input(g, "pixels", NN_F32, NN_DIMS(1, side, side, 3));
    nn_tensor *ids = nn_input(g, "ids", NN_I32, NN_DIMS(1, room(j)));
    nn_tensor *image = captioner_encode(s, &j->config, pixels);
    (void)captioner_logits(s, &j->config, image, ids, NULL);
    nn_status status = nn_graph_status(g);
    nn_graph_destroy(g);
    NN_TRY(status);
    NN_TRY(nn_params_alloc(j->params, j->device, false));
    j->out->parameter_bytes = j->params->n_elems * nn_dtype_bytes(nn_device_storage(j->device));
    return nn_params_init(j->params, 1);
}

static nn_status reserve(job *j)
{
    int64_t n = j->what->dim[0], side = j->config.vision.image_size;
    j->pixels = nn_alloc(n * side * side * 3, sizeof(*j->pixels));
    NN_NEED(j->pixels);
    j->ids = nn_alloc(n * room(j), sizeof(*j->ids));
    NN_NEED(j->ids);
    j->prompt = nn_alloc(n, sizeof(*j->prompt));
    NN_NEED(j->prompt);
    j->decoded = nn_alloc(n, sizeof(*j->decoded));
    NN_NEED(j->decoded);
    nn_rng rng = nn_rng_make(1, "pixels", 0);
    nn_rng_normal_fill(&rng, j->pixels, n * side * side * 3);
    for (int64_t i = 0; i < n; i++) j->prompt[i] = j->config.text.bos;
    j->out->batch_bytes = n * side * side * 3 * (int64_t)sizeof(*j->pixels);
    return NN_OK;
}

/* One look and one step for each word, the last of which is not fed back. */
static void count(const job *j)
{
    bench_result step = { 0 };
    bench_count_plan(captioner_session_look_plan(j->session), j->out);
    bench_count_plan(captioner_session_step_plan(j->session), &step);
    double words = (double)j->what->dim[1];
    j->out->gflop += words * step.gflop;
    j->out->bytes += words * step.bytes;
    j->out->activation_bytes += step.activation_bytes;
    j->out->workspace_bytes += step.workspace_bytes;
    j->out->packed_bytes += step.packed_bytes;
    j->out->program_bytes += step.program_bytes;
    j->out->n_launches += j->what->dim[1] * step.n_launches;
    j->out->n_fallbacks += step.n_fallbacks;
}

static nn_status caption(job *j)
{
    nn_decode_options o = nn_decode_defaults();
    o.method = NN_DECODE_GREEDY;
    o.max_length = o.min_length = (int)room(j); /* random weights would end where they like */
    o.eos = j->config.text.eos;
    const nn_decode_input in = { .step = captioner_session_step,
                                 .ctx = j->session,
                                 .n_images = (int)j->what->dim[0],
                                 .vocab = (int)j->config.text.vocab_size,
                                 .n_prompt = 1,
                                 .prompt = j->prompt };
    NN_TRY(captioner_session_look(j->session, j->pixels));
    return nn_decode(&o, &in, j->ids, j->decoded);
}

static nn_status time_captions(job *j, const bench_settings *set)
{
    NN_TRY(make_params(j));
    NN_TRY(reserve(j));
    double start = nn_clock_cpu_seconds();
    NN_TRY(captioner_session_create(&j->config, j->params, j->device, j->what->dim[0], 1, room(j),
                                    &j->session));
    j->out->create_seconds = nn_clock_cpu_seconds() - start;
    count(j);
    snprintf(j->out->shape, sizeof(j->out->shape), "%lld pictures -> %lld words each",
             (long long)j->what->dim[0], (long long)j->what->dim[1]);
    start = nn_clock_cpu_seconds();
    NN_TRY(caption(j));
    j->out->first_seconds = nn_clock_cpu_seconds() - start;
    bench_clock_start(&j->clock);
    for (int64_t i = 0; i < set->runs; i++) {
        NN_TRY(caption(j));
        bench_clock_lap(&j->clock);
    }
    bench_clock_result(&j->clock, j->out);
    return NN_OK;
}

static nn_status run(const bench_case *c, const bench_settings *set, nn_device *device,
                     bench_result *out)
{
    job *j = nn_alloc(1, sizeof(*j));
    NN_NEED(j);
    j->what = c;
    j->out = out;
    j->device = device;
    j->config = captioner_config_blip_base();
    nn_status status = time_captions(j, set);
    captioner_session_destroy(j->session);
    nn_params_destroy(j->params);
    nn_free(j->pixels);
    nn_free(j->ids);
    nn_free(j->prompt);
    nn_free(j->decoded);
    nn_free(j);
    return status;
}

const bench_case bench_captions[] = {
    { .name = "blip_caption", .dim = { 1, 40 }, .run = run },
    { .name = "blip_caption_b16", .dim = { 16, 40 }, .run = run },
    { 0 },
};
