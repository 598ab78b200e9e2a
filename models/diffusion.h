/* The forward process: how much signal and noise a latent has at each training timestep.
 *
 * x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise, a_t the running product of 1 - beta (alpha_bar here,
 * alphas_cumprod in diffusers). Source: Ho et al. 2020; diffusers DDPMScheduler. */
#ifndef MODELS_DIFFUSION_H
#define MODELS_DIFFUSION_H

#include "data/json.h"
#include "engine/base/status.h"

typedef enum nn_beta_schedule {
    NN_BETA_LINEAR,
    NN_BETA_SCALED_LINEAR, /* linear in sqrt(beta): Stable Diffusion */
    NN_BETA_COSINE,        /* squaredcos_cap_v2: Nichol & Dhariwal 2021, beta at most 0.999 */
    NN_BETA_TRAINED        /* a list in the configuration */
} nn_beta_schedule;

/* What the model predicts: the noise, the velocity sqrt(a) noise - sqrt(1 - a) x0 (Salimans & Ho
 * 2022), or x0. */
typedef enum nn_prediction { NN_PREDICT_EPSILON, NN_PREDICT_V, NN_PREDICT_SAMPLE } nn_prediction;

enum { NN_DIFFUSION_MAX_STEPS = 10000 };

typedef struct nn_noise_config {
    int n_timesteps; /* of training: 1000 */
    double beta_start, beta_end;
    nn_beta_schedule beta_schedule;
    nn_prediction prediction;
    bool set_alpha_to_one; /* DDIM and PNDM: alpha_bar before timestep 0 is 1, else alpha_bar[0] */
    int steps_offset;      /* added to the timesteps of the "leading" spacing */
} nn_noise_config;

/* Stable Diffusion 1.4's. */
nn_noise_config nn_noise_config_sd14(void);

/* NN_ARGUMENT when no schedule can be made of it. */
nn_status nn_noise_config_check(const nn_noise_config *c) NN_CHECKED;

/* The published scheduler_config.json; absent keys have SD 1.4's values. NN_UNSUPPORTED for what
 * would change the numbers silently: unknown schedules, zero-SNR rescaling, clipping and
 * thresholding. With trained_betas the schedule is NN_BETA_TRAINED, of as many timesteps. */
nn_status nn_noise_config_parse(const nn_json *json, nn_noise_config *out) NN_CHECKED;

typedef struct nn_noise_schedule {
    nn_noise_config config;
    float *beta, *alpha_bar; /* [n_timesteps] */
} nn_noise_schedule;

/* The tables, in f32 with torch's rounding: SD 1.4's equal torch's bit for bit. NN_BETA_TRAINED
 * has no formula: NN_ARGUMENT. */
nn_status nn_noise_schedule_init(nn_noise_schedule *s, const nn_noise_config *config) NN_CHECKED;

/* The tables of a published scheduler_config.json, trained_betas included. */
nn_status nn_noise_schedule_parse(const nn_json *json, nn_noise_schedule *s) NN_CHECKED;
void nn_noise_schedule_deinit(nn_noise_schedule *s);

/* x_t of n elements; out may be x0 or noise. t is in [0, n_timesteps) here and below. */
void nn_noise_schedule_add(const nn_noise_schedule *s, int t, int64_t n, const float *x0,
                           const float *noise, float *out);

/* What the model should have said for that x_t: noise, velocity or x0. out may be x0 or noise. */
void nn_noise_schedule_target(const nn_noise_schedule *s, int t, int64_t n, const float *x0,
                              const float *noise, float *out);

/* Signal-to-noise ratio a / (1 - a). */
double nn_noise_schedule_snr(const nn_noise_schedule *s, int t);

/* Weight of the squared error at t so that every target is trained with min(snr, gamma) on x0
 * (min-SNR, Hang et al. 2023). gamma 0 is off: 1. */
double nn_noise_schedule_weight(const nn_noise_schedule *s, int t, double gamma);

/* The training timestep of a sample in a step, uniform; depends on nothing else. */
int nn_noise_schedule_draw(const nn_noise_schedule *s, uint64_t seed, uint64_t sample,
                           uint64_t step);

#endif
