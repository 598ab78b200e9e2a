/* A family of samplers: tables made once, then one step function. */
#ifndef MODELS_SAMPLER_INTERNAL_H
#define MODELS_SAMPLER_INTERNAL_H

#include <math.h>

#include "models/sampler.h"

enum { NN_SAMPLER_MAX_BUFFERS = 5 };

typedef struct nn_sampler_family {
    const char *name, *class_name, *title;
    nn_spacing spacing; /* the default */
    int n_buffers;      /* vectors of n_elems it remembers */
    bool in_sigma;      /* x = x0 + sigma noise, and inputs are scaled; else x has variance 1 */
    bool has_karras;
    /* Fill n_calls, timestep and sigma. */
    nn_status (*prepare)(nn_sampler *s);
    bool (*needs_noise)(const nn_sampler *s, int i); /* NULL: never */
    bool (*begins)(const nn_sampler *s, int i);      /* a step begins with call i; NULL: always */
    void (*step)(nn_sampler *s, int i, const float *output, float *x, const float *noise);
} nn_sampler_family;

struct nn_sampler {
    const nn_sampler_family *family;
    const nn_noise_schedule *schedule;
    nn_sampler_options o; /* spacing resolved */
    int n_steps, n_calls;
    int next;   /* the only legal step */
    int n_past; /* steps since the restart */
    int order;  /* unipc: of the last prediction; pndm: outputs that are remembered */
    int64_t n_elems;
    float *timestep; /* [n_calls] */
    float *sigma;    /* [n_calls + 1]: noise / signal before each call, and after the last */
    float *buffer[NN_SAMPLER_MAX_BUFFERS]; /* [n_elems], what a family remembers */
};

extern const nn_sampler_family nn_sampler_ddpm, nn_sampler_ddim, nn_sampler_pndm, nn_sampler_euler,
    nn_sampler_euler_ancestral, nn_sampler_heun, nn_sampler_lms, nn_sampler_dpmpp_2m,
    nn_sampler_dpmpp_2m_sde, nn_sampler_dpmpp_sde, nn_sampler_unipc;

/* The family of a name or class; NN_NOT_FOUND with the name nearest to it. */
nn_status nn_sampler_find(const char *name, const nn_sampler_family **out) NN_CHECKED;

/* n_steps falling timesteps of the schedule's spacing; linspace ones are rounded if `whole`. */
void nn_sampler_space(const nn_sampler *s, bool whole, float *t);

/* noise / signal at a whole timestep, and at a fractional one by linear interpolation. */
float nn_sampler_sigma(const nn_noise_schedule *schedule, int t);
double nn_sampler_sigma_at(const nn_noise_schedule *schedule, double t);

/* The fractional timestep at which the logarithm of sigma, interpolated, is that of `sigma`. */
double nn_sampler_time_of(const nn_noise_schedule *schedule, double sigma);

/* Level k of n, from `most` down to `least`, evenly spaced in sigma^(1/7). */
double nn_sampler_karras(double most, double least, int n, int k);

/* Tables of the families that live in alpha_bar, in sigma, and of the multistep solvers. */
nn_status nn_sampler_prepare_alpha(nn_sampler *s) NN_CHECKED;
nn_status nn_sampler_prepare_sigma(nn_sampler *s) NN_CHECKED;
nn_status nn_sampler_prepare_solver(nn_sampler *s) NN_CHECKED;

/* Two calls a step but for the last: the tables of one call a step are spread to even calls and to
 * the odd ones behind them, and a step begins with an even call. */
void nn_sampler_double(nn_sampler *s);
bool nn_sampler_begins_even(const nn_sampler *s, int i);

/* Every step, also the last one, whose noise counts nothing: the draws of the reference stay in
 * step. */
bool nn_sampler_always(const nn_sampler *s, int i);

/* How one ancestral step from a noise level to a lower one is divided (Karras et al. 2022): a
 * step down to `down`, then noise of `up`. */
typedef struct nn_ancestral {
    double down, up;
} nn_ancestral;
nn_ancestral nn_sampler_ancestral(double from, double to);

/* alpha_bar at t; before timestep 0 the schedule's final value. */
float nn_sampler_alpha_bar(const nn_sampler *s, int t);

/* Signal of a latent of variance 1 whose noise / signal is sigma; its noise is signal * sigma. */
static inline double nn_sampler_signal(double sigma)
{
    return 1 / sqrt(sigma * sigma + 1);
}

/* The model's output m on x = signal x0 + noise eps (signal^2 + noise^2 = 1), read as x0 or as eps.
 */
static inline float nn_sampler_x0(nn_prediction p, float signal, float noise, float m, float x)
{
    if (p == NN_PREDICT_EPSILON) return (x - noise * m) / signal;
    return p == NN_PREDICT_V ? signal * x - noise * m : m;
}

static inline float nn_sampler_eps(nn_prediction p, float signal, float noise, float m, float x)
{
    if (p == NN_PREDICT_EPSILON) return m;
    return p == NN_PREDICT_V ? signal * m + noise * x : (x - signal * m) / noise;
}

/* dx / dsigma of x = x0 + sigma eps, which is eps. */
static inline float nn_sampler_slope(nn_prediction p, float sigma, float m, float x)
{
    float signal = (float)nn_sampler_signal((double)sigma);
    return nn_sampler_eps(p, signal, sigma * signal, m, signal * x);
}

/* The remembered vectors move one place down; the last becomes the first, free to be filled. */
static inline float *nn_sampler_push(nn_sampler *s, int n)
{
    float *last = s->buffer[n - 1];
    for (int k = n - 1; k > 0; k--) s->buffer[k] = s->buffer[k - 1];
    return s->buffer[0] = last;
}

#endif
