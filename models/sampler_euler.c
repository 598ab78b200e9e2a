/* Euler's method in sigma, its ancestral variant, Heun's method, and linear multistep (Karras et
 * al. 2022, k-diffusion). Sources: diffusers EulerDiscreteScheduler,
 * EulerAncestralDiscreteScheduler, HeunDiscreteScheduler, LMSDiscreteScheduler. */
#include <string.h>

#include "models/sampler_internal.h"

static float slope(const nn_sampler *s, float sigma, float output, float x)
{
    return nn_sampler_slope(s->schedule->config.prediction, sigma, output, x);
}

static void euler_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    const float sigma = s->sigma[i], by = s->sigma[i + 1] - sigma;
    for (int64_t e = 0; e < s->n_elems; e++) x[e] += slope(s, sigma, output[e], x[e]) * by;
}

nn_ancestral nn_sampler_ancestral(double from, double to)
{
    const double up = sqrt(to * to * (from * from - to * to) / (from * from));
    return (nn_ancestral){ .down = sqrt(to * to - up * up), .up = up };
}

static void ancestral_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    const float sigma = s->sigma[i];
    const nn_ancestral a = nn_sampler_ancestral((double)sigma, (double)s->sigma[i + 1]);
    const float by = (float)(a.down - (double)sigma), up = (float)a.up;
    for (int64_t e = 0; e < s->n_elems; e++)
        x[e] += slope(s, sigma, output[e], x[e]) * by + up * noise[e];
}

bool nn_sampler_always(const nn_sampler *s, int i)
{
    (void)s, (void)i;
    return true;
}

void nn_sampler_double(nn_sampler *s)
{
    s->n_calls = 2 * s->n_steps - 1;
    for (int i = s->n_calls - 1; i > 0; i--) {
        s->timestep[i] = s->timestep[(i + 1) / 2];
        s->sigma[i] = s->sigma[(i + 1) / 2];
    }
    s->sigma[s->n_calls] = 0;
}

bool nn_sampler_begins_even(const nn_sampler *s, int i)
{
    (void)s;
    return i % 2 == 0;
}

/* Every level but the last is visited twice: call 2k tries the step, call 2k + 1 repeats it with
 * the mean of the slopes at its two ends. */
static nn_status heun_prepare(nn_sampler *s)
{
    NN_TRY(nn_sampler_prepare_sigma(s));
    nn_sampler_double(s);
    return NN_OK;
}

static void heun_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    float *first = s->buffer[0], *start = s->buffer[1];
    const float sigma = s->sigma[i];
    if (i % 2 == 0) {
        memcpy(start, x, (size_t)s->n_elems * sizeof(float));
        for (int64_t e = 0; e < s->n_elems; e++) {
            first[e] = slope(s, sigma, output[e], x[e]);
            x[e] += first[e] * (s->sigma[i + 1] - sigma);
        }
        return;
    }
    const float by = sigma - s->sigma[i - 1];
    for (int64_t e = 0; e < s->n_elems; e++)
        x[e] = start[e] + (first[e] + slope(s, sigma, output[e], x[e])) / 2 * by;
}

enum { LMS_PAST = 4 };

/* Integral from sigma[i] to sigma[i + 1] of the polynomial that is 1 at sigma[i - j] and 0 at the
 * other `order` newest levels. Its degree is at most 3: two Gauss points are exact. */
static double lms_weight(const float *sigma, int i, int order, int j)
{
    const double half = ((double)sigma[i + 1] - (double)sigma[i]) / 2;
    const double middle = ((double)sigma[i + 1] + (double)sigma[i]) / 2;
    double sum = 0;
    for (int point = -1; point <= 1; point += 2) {
        double at = middle + point * half / sqrt(3), product = 1;
        for (int k = 0; k < order; k++)
            if (k != j)
                product *=
                    (at - (double)sigma[i - k]) / ((double)sigma[i - j] - (double)sigma[i - k]);
        sum += product * half;
    }
    return sum;
}

static void lms_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    float *newest = nn_sampler_push(s, LMS_PAST);
    for (int64_t e = 0; e < s->n_elems; e++) newest[e] = slope(s, s->sigma[i], output[e], x[e]);
    const int order = (int)nn_min(s->n_past + 1, LMS_PAST);
    for (int j = 0; j < order; j++) {
        const float w = (float)lms_weight(s->sigma, i, order, j);
        for (int64_t e = 0; e < s->n_elems; e++) x[e] += w * s->buffer[j][e];
    }
}

const nn_sampler_family nn_sampler_euler = { .name = "euler",
                                             .title = "Euler",
                                             .class_name = "EulerDiscreteScheduler",
                                             .spacing = NN_SPACING_LINSPACE,
                                             .in_sigma = true,
                                             .has_karras = true,
                                             .prepare = nn_sampler_prepare_sigma,
                                             .step = euler_step };

const nn_sampler_family nn_sampler_euler_ancestral = { .name = "euler_ancestral",
                                                       .title = "Euler a",
                                                       .class_name =
                                                           "EulerAncestralDiscreteScheduler",
                                                       .spacing = NN_SPACING_LINSPACE,
                                                       .in_sigma = true,
                                                       .prepare = nn_sampler_prepare_sigma,
                                                       .needs_noise = nn_sampler_always,
                                                       .step = ancestral_step };

const nn_sampler_family nn_sampler_heun = { .name = "heun",
                                            .title = "Heun",
                                            .class_name = "HeunDiscreteScheduler",
                                            .spacing = NN_SPACING_LINSPACE,
                                            .n_buffers = 2,
                                            .in_sigma = true,
                                            .has_karras = true,
                                            .prepare = heun_prepare,
                                            .begins = nn_sampler_begins_even,
                                            .step = heun_step };

const nn_sampler_family nn_sampler_lms = { .name = "lms",
                                           .title = "LMS",
                                           .class_name = "LMSDiscreteScheduler",
                                           .spacing = NN_SPACING_LINSPACE,
                                           .n_buffers = LMS_PAST,
                                           .in_sigma = true,
                                           .has_karras = true,
                                           .prepare = nn_sampler_prepare_sigma,
                                           .step = lms_step };
