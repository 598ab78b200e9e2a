/* Ancestral sampling of the trained chain (DDPM, Ho et al. 2020) and the implicit family around it
 * (DDIM, Song et al. 2021). Sources: diffusers DDPMScheduler, variance fixed_small; DDIMScheduler.
 */
#include "models/sampler_internal.h"

static void ddpm_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    const int t = (int)s->timestep[i];
    const float a = nn_sampler_alpha_bar(s, t);
    const float before =
        i + 1 < s->n_calls ? nn_sampler_alpha_bar(s, (int)s->timestep[i + 1]) : 1.0f;
    const float signal = sqrtf(a), level = sqrtf(1.0f - a);
    const float alpha = a / before, beta = 1.0f - alpha;
    const float of_x0 = sqrtf(before) * beta / (1.0f - a);
    const float of_x = sqrtf(alpha) * (1.0f - before) / (1.0f - a);
    const float variance = fmaxf((1.0f - before) / (1.0f - a) * beta, 1e-20f);
    const float of_noise = t > 0 ? sqrtf(variance) : 0.0f;
    for (int64_t e = 0; e < s->n_elems; e++) {
        float x0 = nn_sampler_x0(s->schedule->config.prediction, signal, level, output[e], x[e]);
        x[e] = of_x0 * x0 + of_x * x[e];
        if (t > 0) x[e] += of_noise * noise[e];
    }
}

static bool ddpm_needs_noise(const nn_sampler *s, int i)
{
    return s->timestep[i] > 0;
}

static void ddim_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    const nn_prediction p = s->schedule->config.prediction;
    const int t = (int)s->timestep[i];
    const float a = nn_sampler_alpha_bar(s, t);
    const float before = nn_sampler_alpha_bar(s, t - s->schedule->config.n_timesteps / s->n_steps);
    const float signal = sqrtf(a), level = sqrtf(1.0f - a);
    const float variance = fmaxf((1.0f - before) / (1.0f - a) * (1.0f - a / before), 0.0f);
    const float sigma = (float)s->o.eta * sqrtf(variance);
    const float of_x0 = sqrtf(before), of_eps = sqrtf(fmaxf(1.0f - before - sigma * sigma, 0.0f));
    for (int64_t e = 0; e < s->n_elems; e++) {
        float x0 = nn_sampler_x0(p, signal, level, output[e], x[e]);
        float eps = nn_sampler_eps(p, signal, level, output[e], x[e]);
        x[e] = of_x0 * x0 + of_eps * eps;
        if (s->o.eta > 0) x[e] += sigma * noise[e];
    }
}

static bool ddim_needs_noise(const nn_sampler *s, int i)
{
    (void)i;
    return s->o.eta > 0;
}

const nn_sampler_family nn_sampler_ddpm = { .name = "ddpm",
                                            .title = "DDPM",
                                            .class_name = "DDPMScheduler",
                                            .spacing = NN_SPACING_LEADING,
                                            .prepare = nn_sampler_prepare_alpha,
                                            .needs_noise = ddpm_needs_noise,
                                            .step = ddpm_step };

const nn_sampler_family nn_sampler_ddim = { .name = "ddim",
                                            .title = "DDIM",
                                            .class_name = "DDIMScheduler",
                                            .spacing = NN_SPACING_LEADING,
                                            .prepare = nn_sampler_prepare_alpha,
                                            .needs_noise = ddim_needs_noise,
                                            .step = ddim_step };
