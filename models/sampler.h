/* Samplers: from noise to a latent in a few calls of the denoiser.
 *
 *     for (int i = 0; i < nn_sampler_calls(s); i++) {
 *         nn_sampler_scale_input(s, i, x, input);
 *         output = model(input, nn_sampler_timestep(s, i));
 *         nn_sampler_step(s, i, output, x, nn_sampler_needs_noise(s, i) ? draw() : NULL);
 *     }
 *
 * x starts as N(0, 1) noise times nn_sampler_init_noise_sigma. Elements are f32, coefficients
 * double from the f32 tables of the schedule. All numbers of a batch are one vector.
 *
 * Families and their default spacing, as the diffusers classes of these names:
 *     ddpm, ddim, pndm                                leading
 *     euler, euler_ancestral, heun, lms, dpmpp_sde    linspace, fractional timesteps
 *     dpmpp_2m, dpmpp_2m_sde, unipc                   linspace, whole timesteps */
#ifndef MODELS_SAMPLER_H
#define MODELS_SAMPLER_H

#include "models/diffusion.h"

typedef enum nn_spacing {
    NN_SPACING_DEFAULT, /* of the family */
    NN_SPACING_LEADING,
    NN_SPACING_LINSPACE,
    NN_SPACING_TRAILING
} nn_spacing;

typedef struct nn_sampler_options {
    nn_spacing spacing;
    bool karras; /* noise levels of Karras et al. 2022, rho 7; not for ddpm, ddim, pndm */
    double eta;  /* ddim: 0 is deterministic, 1 has the noise of ddpm */
} nn_sampler_options;

/* timestep_spacing and use_karras_sigmas of a published scheduler_config.json. What the file says
 * holds for every family that has it, as in diffusers' from_config; what it does not say is the
 * family's default. NN_UNSUPPORTED for an unknown spacing. */
nn_status nn_sampler_options_parse(const nn_json *json, nn_sampler_options *out) NN_CHECKED;

/* The family of the class that the file names; NULL if it names none. NN_UNSUPPORTED for a class
 * without one, and for settings of that class that none of the families has. */
nn_status nn_sampler_name_parse(const nn_json *json, const char **name) NN_CHECKED;

typedef struct nn_sampler nn_sampler;

/* Name of family k = 0, 1, ..., or NULL behind the last. */
const char *nn_sampler_name(int k);

/* What the programs of this field call it ("Euler a"), in the texts that they put into pictures. */
const char *nn_sampler_title(const nn_sampler *s);

/* Has the family of that name (or class) Karras' noise levels? */
bool nn_sampler_has_karras(const char *name);

/* A sampler of n_steps steps on vectors of n_elems. `name` is a family or the diffusers class
 * ("DDIMScheduler"). The schedule is borrowed for the sampler's life. Owner: nn_sampler_destroy.
 * Errors: NN_NOT_FOUND, NN_ARGUMENT for options or step numbers that the family cannot have. */
nn_status nn_sampler_create(const char *name, const nn_sampler_options *options,
                            const nn_noise_schedule *schedule, int n_steps, int64_t n_elems,
                            nn_sampler **out) NN_CHECKED;
void nn_sampler_destroy(nn_sampler *s);

/* Calls of the model: n_steps, but n_steps + 1 for pndm, 2 n_steps - 1 for heun and dpmpp_sde. */
int nn_sampler_calls(const nn_sampler *s);

/* The call with which step k of the n_steps begins. Calls between only complete a step. */
int nn_sampler_call_of_step(const nn_sampler *s, int k);

/* What the model is given as time in call i; may be fractional. */
float nn_sampler_timestep(const nn_sampler *s, int i);
float nn_sampler_init_noise_sigma(const nn_sampler *s);

/* The model's input of call i; out may be x. */
void nn_sampler_scale_input(const nn_sampler *s, int i, const float *x, float *out);

/* The clean latent that the model's output of call i on x stands for; out may be output or x. */
void nn_sampler_denoise(const nn_sampler *s, int i, const float *output, const float *x,
                        float *out);

/* Does step i take N(0, 1) noise? */
bool nn_sampler_needs_noise(const nn_sampler *s, int i);

/* Advance x in place by the model's output of call i. noise [n_elems] is read when step i needs it,
 * NULL otherwise. Steps come in order; output, x and noise are three different arrays. */
void nn_sampler_step(nn_sampler *s, int i, const float *output, float *x, const float *noise);

/* Forget the past; the next call is i, with which a step begins. With nn_sampler_add_noise this
 * starts from a picture. */
void nn_sampler_restart(nn_sampler *s, int i);

/* A clean latent x0 with the noise level at which call i starts; out may be x0 or noise. */
void nn_sampler_add_noise(const nn_sampler *s, int i, const float *x0, const float *noise,
                          float *out);

/* Classifier-free guidance (Ho & Salimans 2022): out = uncond + scale (cond - uncond) for n_samples
 * of n_elems. rescale (Lin et al. 2024, eq. 15-16): the share of the result whose standard
 * deviation per sample is brought back to cond's; 0 is off. out may be cond or uncond. */
void nn_guide(const float *uncond, const float *cond, double scale, double rescale, int n_samples,
              int64_t n_elems, float *out);

#endif
