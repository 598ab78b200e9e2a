/* recap-sample: pictures from prompts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "models/sampler.h"
#include "models/stable_diffusion.h"
#include "tools/device.h"
#include "tools/prompts.h"
#include "tools/sample_output.h"

static const char *model_dir, *prompt, *prompt_file, *negative = "", *scheduler = "ddim", *output,
                                                     *output_dir;
static device_settings on = DEVICE_DEFAULTS;
static int64_t n_steps = 50, seed, height, width, batch_size = 1, per_prompt = 1;
static double guidance = 7.5, eta;
static bool karras;
static int rng_kind;
static const char *const rng_kinds[] = { "torch-cpu", "torch-cuda", "philox", NULL };
enum { TORCH_CPU, TORCH_CUDA, PHILOX };
enum {
    CUDA_THREADS = 108 * 2048
}; /* of an A100; larger latents than so many numbers differ by card */

static const nn_option options[] = {
    { .name = "model",
      .text = &model_dir,
      .value = "DIR",
      .required = true,
      .help = "diffusers folder" },
    { .name = "prompt",
      .text = &prompt,
      .value = "TEXT",
      .excludes = "prompt-file",
      .help = "what to draw" },
    { .name = "prompt-file",
      .text = &prompt_file,
      .value = "FILE",
      .help = "one prompt a line, or JSON lines with \"prompt\" and optionally \"seed\"" },
    { .name = "negative-prompt", .text = &negative, .value = "TEXT", .help = "what not to draw" },
    { .name = "scheduler",
      .text = &scheduler,
      .value = "NAME",
      .help = "ddim, ddpm, pndm, euler, euler_ancestral, heun, lms, dpmpp_2m or unipc" },
    { .name = "steps",
      .integer = &n_steps,
      .low = 1,
      .high = 1000,
      .help = "steps of the sampler" },
    { .name = "karras", .flag = &karras, .help = "noise levels of Karras et al." },
    { .name = "eta", .real = &eta, .low = 0, .high = 1, .help = "share of fresh noise in ddim" },
    { .name = "guidance-scale",
      .real = &guidance,
      .low = 0,
      .high = 100,
      .help = "classifier-free guidance; 1 = one pass a step" },
    { .name = "seed",
      .integer = &seed,
      .low = 0,
      .high = 1e15,
      .help = "seed of the first picture; the next has the next" },
    { .name = "rng",
      .choice = &rng_kind,
      .choices = rng_kinds,
      .help = "which generator a seed means" },
    { .name = "height",
      .integer = &height,
      .low = 0,
      .high = 4096,
      .help = "0 = what the model was made for" },
    { .name = "width",
      .integer = &width,
      .low = 0,
      .high = 4096,
      .help = "0 = what the model was made for" },
    { .name = "batch-size",
      .integer = &batch_size,
      .low = 1,
      .high = 1024,
      .help = "pictures drawn together" },
    { .name = "num-images-per-prompt",
      .integer = &per_prompt,
      .low = 1,
      .high = 1000,
      .help = "pictures of each prompt" },
    { .name = "output",
      .text = &output,
      .value = "FILE.png",
      .excludes = "output-dir",
      .help = "where a single picture goes" },
    { .name = "output-dir",
      .text = &output_dir,
      .value = "DIR",
      .help = "where many go, with samples.jsonl; pictures that are there already are not drawn "
              "again" },
    DEVICE_OPTIONS(on),
    { 0 },
};

typedef struct job {
    nn_device *device;
    sd_model model;
    sd_session *session;
    sd_codec *codec;
    prompts list;
    int64_t elems, latent_h, latent_w; /* elems: of one latent */
    float *x, *input, *predicted, *noise, *images;
    int32_t *ids, *negative_ids;
    nn_torch_rng *torch; /* one a picture, so that pictures do not depend on their batch */
    nn_torch_cuda_rng *torch_cuda;
} job;

static uint64_t seed_of(const job *j, int64_t picture)
{
    const prompt_line *line = &j->list.lines[picture / per_prompt];
    uint64_t base = line->has_seed ? line->seed
                                   : (uint64_t)seed + (uint64_t)(picture / per_prompt * per_prompt);
    return base + (uint64_t)(picture % per_prompt);
}

/* [c, h, w] as torch draws it -> [h, w, c] as we keep it */
static void to_nhwc(const job *j, const float *from, float *to)
{
    int64_t c = j->model.unet.in_channels, hw = j->latent_h * j->latent_w;
    for (int64_t p = 0; p < hw; p++)
        for (int64_t k = 0; k < c; k++) to[p * c + k] = from[k * hw + p];
}

/* Draw number `call` of the noise for place i of the batch. */
static void draw(job *j, int64_t i, int64_t picture, int call, float *out)
{
    if (rng_kind == PHILOX) {
        nn_rng rng = nn_rng_make(seed_of(j, picture), "sample", (uint64_t)call);
        nn_rng_normal_fill(&rng, out, j->elems);
        return;
    }
    float *drawn = j->input; /* free between steps */
    if (rng_kind == TORCH_CPU)
        nn_torch_randn(&j->torch[i], drawn, j->elems);
    else
        nn_torch_cuda_randn(&j->torch_cuda[i], drawn, j->elems);
    to_nhwc(j, drawn, out);
}

static nn_status set_prompts(job *j, int64_t first, int64_t n)
{
    int64_t t = j->model.text.max_positions;
    for (int64_t i = 0; i < batch_size; i++) {
        const prompt_line *line = &j->list.lines[(first + nn_min(i, n - 1)) / per_prompt];
        bool cut;
        NN_TRY(sd_tokenize(&j->model, line->text, j->ids + i * t, &cut));
        if (cut)
            nn_log(NN_LOG_WARN, "a prompt has more than %lld tokens and was cut: %s", (long long)t,
                   line->text);
        NN_TRY(sd_tokenize(&j->model, negative, j->negative_ids + i * t, &cut));
    }
    return sd_session_prompt(j->session, j->ids, j->negative_ids);
}

static nn_status denoise(job *j, nn_sampler *s, int64_t first, int64_t n)
{
    int64_t all = batch_size * j->elems;
    float sigma = nn_sampler_init_noise_sigma(s);
    for (int64_t i = 0; i < batch_size; i++) {
        int64_t picture = first + nn_min(i, n - 1);
        nn_torch_seed(&j->torch[i], seed_of(j, picture));
        j->torch_cuda[i] =
            (nn_torch_cuda_rng){ .seed = seed_of(j, picture), .max_threads = CUDA_THREADS };
        draw(j, i, picture, 0, j->x + i * j->elems);
    }
    for (int64_t k = 0; k < all; k++) j->x[k] *= sigma;
    for (int call = 0; call < nn_sampler_calls(s) && !nn_cli_interrupted(); call++) {
        bool noisy = nn_sampler_needs_noise(s, call);
        nn_sampler_scale_input(s, call, j->x, j->input);
        NN_TRY(sd_session_predict(j->session, j->input, nn_sampler_timestep(s, call), guidance,
                                  j->predicted));
        for (int64_t i = 0; noisy && i < batch_size; i++)
            draw(j, i, first + nn_min(i, n - 1), call + 1, j->noise + i * j->elems);
        nn_sampler_step(s, call, j->predicted, j->x, noisy ? j->noise : NULL);
    }
    return NN_OK;
}

static nn_status save_pictures(job *j, int64_t first, int64_t n)
{
    int64_t pixels = height * width * 3;
    for (int64_t i = 0; i < n; i++) {
        const prompt_line *line = &j->list.lines[(first + i) / per_prompt];
        sample_info info = { .prompt = line->text,
                             .negative = negative,
                             .scheduler = scheduler,
                             .steps = n_steps,
                             .guidance = guidance,
                             .seed = seed_of(j, first + i),
                             .width = width,
                             .height = height,
                             .model = model_dir };
        char *path = output
                         ? nn_strdup(output)
                         : nn_format("%s/%06lld.png", output_dir, (long long)first + (long long)i);
        NN_NEED(path);
        nn_status status = sample_write_png(path, j->images + i * pixels, &info);
        nn_free(path);
        NN_TRY(status);
    }
    return NN_OK;
}

static nn_status draw_batch(job *j, int64_t first, int64_t n)
{
    nn_sampler *s;
    nn_sampler_options o = { .karras = karras, .eta = eta };
    NN_TRY(
        nn_sampler_create(scheduler, &o, &j->model.noise, (int)n_steps, batch_size * j->elems, &s));
    nn_status status = set_prompts(j, first, n);
    if (status == NN_OK) status = denoise(j, s, first, n);
    nn_sampler_destroy(s);
    NN_TRY(status);
    if (nn_cli_interrupted())
        return nn_fail(NN_INTERRUPTED,
                       "interrupted; finished pictures are kept, the same command draws the rest");
    NN_TRY(sd_codec_decode(j->codec, n, j->x, j->images));
    return save_pictures(j, first, n);
}

/* Pictures that an earlier run drew come first without gaps, since batches are saved in order. */
static int64_t already_there(int64_t total)
{
    int64_t n = 0;
    while (output_dir && n < total) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%06lld.png", output_dir, (long long)n);
        if (!nn_file_exists(path)) break;
        n++;
    }
    return n;
}

static nn_status draw_all(job *j)
{
    int64_t total = j->list.n * per_prompt, done = already_there(total);
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, "samples", "picture", done, total);
    while (done < total && status == NN_OK) {
        int64_t n = nn_min(batch_size, total - done);
        status = draw_batch(j, done, n);
        if (status == NN_OK) nn_progress_step(&progress, done += n, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status == NN_OK && output_dir ? sample_write_list(output_dir, &j->list, per_prompt)
                                         : status;
}

static nn_status reserve(job *j)
{
    int64_t n = batch_size * j->elems, t = j->model.text.max_positions;
    j->x = nn_alloc(4 * n + batch_size * height * width * 3, sizeof(float));
    NN_NEED(j->x);
    j->input = j->x + n;
    j->predicted = j->x + 2 * n;
    j->noise = j->x + 3 * n;
    j->images = j->x + 4 * n;
    j->ids = nn_alloc(2 * batch_size * t, sizeof(int32_t));
    NN_NEED(j->ids);
    j->negative_ids = j->ids + batch_size * t;
    j->torch = nn_alloc(batch_size, sizeof(*j->torch));
    NN_NEED(j->torch);
    j->torch_cuda = nn_alloc(batch_size, sizeof(*j->torch_cuda));
    NN_NEED(j->torch_cuda);
    return NN_OK;
}

static nn_status open_job(job *j)
{
    if (!output == !output_dir)
        return nn_fail(NN_ARGUMENT, "give --output FILE.png or --output-dir DIR");
    if (!prompt == !prompt_file)
        return nn_fail(NN_ARGUMENT, "give --prompt TEXT or --prompt-file FILE");
    NN_TRY(prompt ? prompts_one(prompt, &j->list) : prompts_read(prompt_file, &j->list));
    if (output && j->list.n * per_prompt != 1)
        return nn_fail(NN_ARGUMENT, "%lld pictures do not fit into --output; give --output-dir",
                       (long long)(j->list.n * per_prompt));
    NN_TRY(device_open(&on, &j->device));
    NN_TRY(sd_model_open(model_dir, j->device, SD_LOAD, 0, false, &j->model));
    int64_t stride = vae_stride(&j->model.vae), usual = j->model.unet.sample_size * stride;
    height = height ? height : usual;
    width = width ? width : usual;
    j->latent_h = height / stride;
    j->latent_w = width / stride;
    j->elems = j->latent_h * j->latent_w * j->model.unet.in_channels;
    batch_size = nn_min(batch_size, j->list.n * per_prompt);
    NN_TRY(sd_codec_create(&j->model.vae, j->model.vae_params, j->device, nn_min(batch_size, 8),
                           height, width, &j->codec));
    NN_TRY(sd_session_create(&j->model, j->device, batch_size, j->latent_h, j->latent_w,
                             guidance != 1, &j->session));
    if (output_dir) NN_TRY(nn_file_make_dir(output_dir));
    return reserve(j);
}

static nn_status run(const nn_cli *cli)
{
    job j = { 0 };
    (void)cli;
    nn_status status = open_job(&j);
    if (status == NN_OK) status = draw_all(&j);
    sd_session_destroy(j.session);
    sd_codec_destroy(j.codec);
    sd_model_close(&j.model);
    nn_device_close(j.device);
    prompts_free(&j.list);
    nn_free(j.x);
    nn_free(j.ids);
    nn_free(j.torch);
    nn_free(j.torch_cuda);
    return status;
}

static const nn_command commands[] = {
    { .summary = "Draws pictures from prompts with a Stable Diffusion 1.x model.",
      .example = "recap-sample --model sd14 --prompt 'a photo of a cat' --seed 7 --output cat.png",
      .options = options,
      .run = run },
    { 0 },
};

static const nn_program program = { "recap-sample", "Draws pictures from prompts.", commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
