/* The command line of recap-sample. */
#include "tools/sample.h"

static sample_settings set = SAMPLE_DEFAULTS;

const char *const sample_rng_names[] = { "torch-cpu", "torch-cuda", "philox", NULL };
static const char *const spacings[] = { "default", "leading", "linspace", "trailing", NULL };
static const char *const long_prompts[] = { "truncate", "windows", NULL };
static const char *const tilings[] = { "auto", "on", "off", NULL };

const nn_option sample_options[] = {
    { .name = "model",
      .text = &set.model,
      .value = "DIR",
      .required = true,
      .help = "diffusers folder, or a single file of LDM (.safetensors, .ckpt)" },
    { .name = "tokenizer",
      .text = &set.tokenizer,
      .value = "DIR",
      .help = "vocab.json and merges.txt, or a tokenizer.json; without it the model's, and of a "
              "single file what lies beside it" },
    { .name = "prompt",
      .text = &set.prompt,
      .value = "TEXT",
      .excludes = "prompt-file",
      .help = "what to draw" },
    { .name = "prompt-file",
      .text = &set.prompt_file,
      .value = "FILE",
      .help =
          "one prompt a line, or JSON lines with \"prompt\", maybe \"negative_prompt\", \"seed\"" },
    { .name = "negative-prompt",
      .text = &set.negative,
      .value = "TEXT",
      .help = "what not to draw" },
    { .name = "prompt-weights",
      .flag = &set.weights,
      .help = "(word:1.2), (word), [word]: how much words count; BREAK: a new window" },
    { .name = "long-prompt",
      .choice = &set.long_prompt,
      .choices = long_prompts,
      .help =
          "what to do with more than 75 tokens: cut them, or give the UNet up to three windows" },
    { .name = "clip-skip",
      .integer = &set.clip_skip,
      .low = 0,
      .high = 100,
      .help = "last layers of the text encoder that are left out" },
    { .name = "scheduler",
      .text = &set.scheduler,
      .value = "NAME",
      .help = "ddim, ddpm, pndm, euler, euler_ancestral, heun, lms, dpmpp_2m, "
              "dpmpp_2m_sde, dpmpp_sde or unipc; without it the model's own" },
    { .name = "steps",
      .integer = &set.steps,
      .low = 1,
      .high = 1000,
      .help = "steps of the sampler" },
    { .name = "spacing",
      .choice = &set.spacing,
      .choices = spacings,
      .help = "how timesteps are spread; default: as the model says, else the scheduler's" },
    { .name = "karras", .flag = &set.karras, .help = "noise levels of Karras et al." },
    { .name = "eta",
      .real = &set.eta,
      .low = 0,
      .high = 1,
      .help = "share of fresh noise in ddim" },
    { .name = "guidance-scale",
      .real = &set.guidance,
      .low = 1,
      .high = 100,
      .help = "classifier-free guidance; 1 = one pass a step" },
    { .name = "guidance-rescale",
      .real = &set.rescale,
      .low = 0,
      .high = 1,
      .help = "how much of the contrast without guidance is restored" },
    { .name = "init-image",
      .text = &set.init_image,
      .value = "FILE",
      .help = "picture to start from" },
    { .name = "strength",
      .real = &set.strength,
      .low = 0,
      .high = 1,
      .help = "how far from --init-image: the share of the steps that is taken" },
    { .name = "mask-image",
      .text = &set.mask_image,
      .value = "FILE",
      .help = "white where --init-image is drawn anew, black where it stays" },
    { .name = "seed",
      .integer = &set.seed,
      .low = 0,
      .high = 1e15,
      .help = "seed of the first picture; the next has the next" },
    { .name = "rng",
      .choice = &set.rng,
      .choices = sample_rng_names,
      .help = "which generator a seed means" },
    { .name = "height",
      .integer = &set.height,
      .low = 0,
      .high = 8192,
      .help = "0 = of --init-image, or what the model was made for" },
    { .name = "width",
      .integer = &set.width,
      .low = 0,
      .high = 8192,
      .help = "0 = of --init-image, or what the model was made for" },
    { .name = "batch-size",
      .integer = &set.batch,
      .low = 1,
      .high = 1024,
      .help = "pictures drawn together" },
    { .name = "num-images-per-prompt",
      .integer = &set.per_prompt,
      .low = 1,
      .high = 1000,
      .help = "pictures of each prompt" },
    { .name = "vae-tiling",
      .choice = &set.tiling,
      .choices = tilings,
      .help = "decode in tiles, which takes less memory; auto: above 1024 x 1024" },
    { .name = "vae-tile-size",
      .integer = &set.tile,
      .low = 64,
      .high = 8192,
      .help = "side of a tile in pixels" },
    { .name = "output",
      .text = &set.output,
      .value = "FILE.png",
      .excludes = "output-dir",
      .help = "where a single picture goes" },
    { .name = "output-dir",
      .text = &set.output_dir,
      .value = "DIR",
      .help = "where many go, with samples.jsonl; pictures that are there already are not drawn "
              "again" },
    { .name = "preview-every",
      .integer = &set.preview_every,
      .low = 0,
      .high = 1000,
      .help = "after so many calls of the UNet write NAME.step-N.png" },
    { .name = "grid", .text = &set.grid, .value = "FILE.png", .help = "all pictures side by side" },
    { .name = "contact-sheet",
      .text = &set.sheet,
      .value = "FILE.png",
      .help = "all pictures side by side, made small" },
    { .name = "columns",
      .integer = &set.columns,
      .low = 0,
      .high = 1000,
      .help = "of grid and sheet; 0 = the pictures of a prompt, or a square" },
    { .name = "cell",
      .integer = &set.cell,
      .low = 8,
      .high = 4096,
      .help = "pixels of a picture in the contact sheet" },
    { .name = "fast",
      .flag = &set.fast,
      .incidental = true,
      .help = "spend memory: all networks are kept at once, from batch to batch" },
    DEVICE_OPTIONS(set.on),
    { 0 },
};

static nn_status check_text(const char *name, const char *text)
{
    int64_t n = 0;
    while (text && text[n]) n++;
    if (nn_utf8_valid(text, n)) return NN_OK;
    return nn_fail(NN_ARGUMENT, "--%s is not UTF-8 text", name);
}

nn_status sample_check(const sample_settings *s)
{
    if (!s->output == !s->output_dir)
        return nn_fail(NN_ARGUMENT, "give --output FILE.png or --output-dir DIR");
    if (!s->prompt == !s->prompt_file)
        return nn_fail(NN_ARGUMENT, "give --prompt TEXT or --prompt-file FILE");
    if (s->mask_image && !s->init_image)
        return nn_fail(NN_ARGUMENT, "--mask-image needs the --init-image that it lies on");
    if (s->prompt) NN_TRY(check_text("prompt", s->prompt));
    NN_TRY(check_text("negative-prompt", s->negative));
    return check_text("model", s->model);
}

nn_status sample_command(const nn_cli *cli)
{
    (void)cli;
    NN_TRY(sample_check(&set));
    return sample_run(&set);
}
