/* Pictures' latents from prompts: noise, the loop over the sampler's calls, pictures to start from
 * and masks. The formulas and the order of the random draws are those of diffusers'
 * StableDiffusionPipeline, ...Img2ImgPipeline and ...InpaintPipeline (UNets of 4 and of 9
 * channels), with a generator for each picture. */
#ifndef MODELS_SD_DRAW_H
#define MODELS_SD_DRAW_H

#include "engine/base/rng.h"
#include "models/sampler.h"
#include "models/sd_session.h"

/* Whose generator a seed means. */
typedef enum sd_rng { SD_RNG_TORCH_CPU, SD_RNG_TORCH_CUDA, SD_RNG_PHILOX } sd_rng;

/* The noise of one picture, which its seed alone decides. */
typedef struct sd_noise {
    sd_rng kind;
    uint64_t seed;
    nn_torch_rng torch;
    nn_torch_cuda_rng torch_cuda;
} sd_noise;

void sd_noise_init(sd_noise *n, sd_rng kind, uint64_t seed);

/* [h, w, c] of N(0, 1). Of SD_RNG_PHILOX the numbers of (stream, index); torch's generators go on
 * where they are, and their numbers come in the order [c, h, w]. scratch has as many as out. */
void sd_noise_draw(sd_noise *n, const char *stream, uint64_t index, int64_t h, int64_t w, int64_t c,
                   float *scratch, float *out);

/* A picture to start from. */
typedef struct sd_canvas {
    const float *moments; /* [h, w, 2L] from the codec's encoder; NULL = start from noise */
    const uint8_t *mask;  /* [h, w]: 0 = the picture stays; NULL = all is drawn anew */
    double strength;      /* 0 .. 1: the share of the steps that is taken */
    const float *grey;    /* as moments, of the picture that is 0 where it is drawn anew; used by
                           * UNets that fill in alone (sd_fills_in), which need it and the mask */
} sd_canvas;

typedef struct sd_draw_options {
    const char *scheduler;
    nn_sampler_options sampler;
    int n_steps;
    double guidance, rescale; /* see nn_guide */
    sd_rng rng;
} sd_draw_options;

/* Called before every call of the sampler; x0 [batch, h, w, L] is the clean latent that the last
 * one stood for in the calls that `every` divides, NULL in the others. An error ends the drawing.
 */
typedef struct sd_watch {
    nn_status (*look)(void *ctx, int done, int n_calls, const float *x0);
    void *ctx;
    int every; /* 0 = never an x0 */
} sd_watch;

/* Latents [n, h, w, L] as the codec's decoder takes them (sd_codec_decode) for n <= batch pictures
 * with the prompts that the session holds; the rest of the batch repeats the last. seeds [n]. With
 * a mask, latents outside it are at every step those of the canvas at that noise level, and at the
 * end exactly those of the canvas; a UNet that fills in is told of the canvas instead, and what it
 * draws is the result. canvas and watch may be NULL. Errors: those of nn_sampler_create;
 * NN_ARGUMENT when strength leaves no step, or a UNet that fills in has nothing to fill. */
nn_status sd_draw(sd_session *s, const sd_draw_options *o, int64_t n, const uint64_t *seeds,
                  const sd_canvas *canvas, const sd_watch *watch, float *latents) NN_CHECKED;

#endif
