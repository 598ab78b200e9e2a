/* Pseudo linear multistep (PNDM without Runge-Kutta steps, Liu et al. 2022), Stable Diffusion 1.4's
 * default. Source: diffusers PNDMScheduler, step_plms. The second call repeats the first step from
 * its end, as the multistep formulas need a start; its output is not remembered. */
#include <string.h>

#include "models/sampler_internal.h"

enum { PAST = 4, START = PAST }; /* buffer[0..3]: past outputs, newest first; then the start of x */

static nn_status prepare(nn_sampler *s)
{
    if (s->schedule->config.prediction == NN_PREDICT_SAMPLE)
        return nn_fail(NN_ARGUMENT, "pndm: the model predicts the sample; noise or velocity is "
                                    "needed, or another sampler");
    NN_TRY(nn_sampler_prepare_alpha(s));
    if (s->n_steps == 1) return NN_OK;
    s->n_calls = s->n_steps + 1;
    for (int i = s->n_calls - 1; i > 1; i--) { /* the second timestep comes twice */
        s->timestep[i] = s->timestep[i - 1];
        s->sigma[i] = s->sigma[i - 1];
    }
    return NN_OK;
}

/* The multistep formula of order k. */
static float combine(float *const past[], int k, int64_t e)
{
    switch (k) {
    case 1:
        return past[0][e];
    case 2:
        return (3 * past[0][e] - past[1][e]) / 2;
    case 3:
        return (23 * past[0][e] - 16 * past[1][e] + 5 * past[2][e]) / 12;
    default:
        return (55 * past[0][e] - 59 * past[1][e] + 37 * past[2][e] - 9 * past[3][e]) / 24;
    }
}

static void step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    const bool v = s->schedule->config.prediction == NN_PREDICT_V, again = i == 1 && s->n_past == 1;
    const int stride = s->schedule->config.n_timesteps / s->n_steps;
    const int to = (int)s->timestep[i] - (again ? 0 : stride), from = to + stride;
    const int64_t n = s->n_elems;
    if (s->n_past == 0) {
        s->order = 0;
        memcpy(s->buffer[START], x, (size_t)n * sizeof(float));
    }
    if (!again) {
        memcpy(nn_sampler_push(s, PAST), output, (size_t)n * sizeof(float));
        s->order = (int)nn_min(s->order + 1, PAST);
    }

    const float a = nn_sampler_alpha_bar(s, from), before = nn_sampler_alpha_bar(s, to);
    const float signal = sqrtf(a), level = sqrtf(1.0f - a);
    const float of_x = sqrtf(before / a);
    const float of_eps = (before - a) / (a * sqrtf(1.0f - before) + sqrtf(a * (1.0f - a) * before));
    for (int64_t e = 0; e < n; e++) {
        float start = again ? s->buffer[START][e] : x[e];
        float m = combine(s->buffer, s->order, e);
        if (again) m = (output[e] + m) / 2;
        float eps = v ? signal * m + level * start : m;
        x[e] = of_x * start - of_eps * eps;
    }
}

/* Call 1 completes the first step. */
static bool begins(const nn_sampler *s, int i)
{
    return i != 1 || s->n_steps == 1;
}

const nn_sampler_family nn_sampler_pndm = { .name = "pndm",
                                            .title = "PLMS",
                                            .class_name = "PNDMScheduler",
                                            .spacing = NN_SPACING_LEADING,
                                            .n_buffers = PAST + 1,
                                            .prepare = prepare,
                                            .begins = begins,
                                            .step = step };
