/* DPM-Solver++ (SDE): the second-order single step with ancestral noise of k-diffusion's
 * sample_dpmpp_sde (ratio 1/2, eta 1). Source: diffusers DPMSolverSDEScheduler.
 *
 * Call 2k steps from level k to the middle of the step in log sigma, call 2k + 1 repeats the step
 * whole with what the model said there; the last step is Euler's. The two steps see one Brownian
 * path: the noise of the whole step is made of that of its halves. */
#include <string.h>

#include "models/sampler_internal.h"

enum { START, HALF }; /* x and the noise of the first half */

static nn_status prepare(nn_sampler *s)
{
    NN_TRY(nn_sampler_prepare_sigma(s));
    nn_sampler_double(s);
    for (int i = 1; i < s->n_calls; i += 2) {
        const double middle = sqrt((double)s->sigma[i - 1] * (double)s->sigma[i + 1]);
        s->timestep[i] = (float)nn_sampler_time_of(s->schedule, middle);
        s->sigma[i] = (float)middle;
    }
    return NN_OK;
}

/* The denoised x at element e. */
static float x0_of(const nn_sampler *s, float sigma, float output, float x)
{
    const float signal = (float)nn_sampler_signal((double)sigma);
    return nn_sampler_x0(s->schedule->config.prediction, signal, sigma * signal, output,
                         signal * x);
}

static void step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    float *start = s->buffer[START], *half = s->buffer[HALF];
    const float sigma = s->sigma[i];
    const bool whole = i % 2 == 1;
    const double from = (double)s->sigma[whole ? i - 1 : i], to = (double)s->sigma[i + 1];
    const nn_ancestral a = nn_sampler_ancestral(from, to);
    const float of_x = (float)(a.down / from), up = (float)a.up;
    /* Shares of the two halves in the noise of the whole step: their lengths in sigma. */
    const double first = (from - (double)sigma) / (from - to);
    const float of_half = (float)sqrt(first), of_noise = (float)sqrt(1 - first);
    if (!whole && noise) {
        memcpy(start, x, (size_t)s->n_elems * sizeof(float));
        memcpy(half, noise, (size_t)s->n_elems * sizeof(float));
    }
    for (int64_t e = 0; e < s->n_elems; e++) {
        const float x0 = x0_of(s, sigma, output[e], x[e]);
        const float z = !noise ? 0 : whole ? of_half * half[e] + of_noise * noise[e] : noise[e];
        x[e] = of_x * (whole ? start[e] : x[e]) + (1 - of_x) * x0 + up * z;
    }
}

static bool needs_noise(const nn_sampler *s, int i)
{
    return i + 1 < s->n_calls;
}

const nn_sampler_family nn_sampler_dpmpp_sde = { .name = "dpmpp_sde",
                                                 .title = "DPM++ SDE",
                                                 .class_name = "DPMSolverSDEScheduler",
                                                 .spacing = NN_SPACING_LINSPACE,
                                                 .n_buffers = 2,
                                                 .in_sigma = true,
                                                 .has_karras = true,
                                                 .prepare = prepare,
                                                 .needs_noise = needs_noise,
                                                 .begins = nn_sampler_begins_even,
                                                 .step = step };
