/* Exponential integrators on the predicted x0: DPM-Solver++ (2M) (Lu et al. 2022), the same for the
 * stochastic equation, and UniPC (Zhao et al. 2023). Sources: diffusers
 * DPMSolverMultistepScheduler, order 2, midpoint, dpmsolver++ and sde-dpmsolver++; and
 * UniPCMultistepScheduler, order 2, bh2; both with the last noise level 0.
 *
 * Time is lambda = log(signal / noise) = -log(sigma). x has variance 1 at every level. */
#include <string.h>

#include "models/sampler_internal.h"

static double lambda(const nn_sampler *s, int i)
{
    return -log((double)s->sigma[i]);
}

/* One exact step of the linear part from level i to j with a constant x0: x' = of_x x + of_x0 x0.
 */
typedef struct linear_step {
    float of_x, of_x0;
} linear_step;

static linear_step first_order(const nn_sampler *s, int i, int j)
{
    const double from = (double)s->sigma[i], to = (double)s->sigma[j];
    if (to == 0) return (linear_step){ 0, 1 };
    const double signal = nn_sampler_signal(to), noise = signal * to;
    return (linear_step){ .of_x = (float)(noise / (from * nn_sampler_signal(from))),
                          .of_x0 = (float)(-signal * expm1(lambda(s, i) - lambda(s, j))) };
}

static void predict_x0(const nn_sampler *s, int i, const float *output, const float *x, float *x0)
{
    const double sigma = (double)s->sigma[i], signal = nn_sampler_signal(sigma);
    for (int64_t e = 0; e < s->n_elems; e++)
        x0[e] = nn_sampler_x0(s->schedule->config.prediction, (float)signal,
                              (float)(signal * sigma), output[e], x[e]);
}

/* x moves from level i to i + 1. The step is of first order, plus (with both x0 at hand) half the
 * slope of x0 over the last step. */
static void predict(const nn_sampler *s, int i, bool second, const float *now, const float *last,
                    float *x)
{
    const linear_step l = first_order(s, i, i + 1);
    float of_slope = 0;
    if (second) {
        double ratio = (lambda(s, i) - lambda(s, i - 1)) / (lambda(s, i + 1) - lambda(s, i));
        of_slope = (float)((double)l.of_x0 / 2 / ratio);
    }
    for (int64_t e = 0; e < s->n_elems; e++) {
        float next = l.of_x * x[e] + l.of_x0 * now[e];
        x[e] = second ? next + of_slope * (now[e] - last[e]) : next;
    }
}

static void dpmpp_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    float *now = nn_sampler_push(s, 2);
    predict_x0(s, i, output, x, now);
    predict(s, i, s->n_past > 0 && i + 1 < s->n_calls, now, s->buffer[1], x);
}

/* One step of the stochastic equation: the exact one for a constant x0, plus half the slope of x0
 * over the last step. */
static void sde_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    float *now = nn_sampler_push(s, 2);
    const float *last = s->buffer[1];
    const bool second = s->n_past > 0 && i + 1 < s->n_calls;
    const double from = (double)s->sigma[i], to = (double)s->sigma[i + 1];
    const double kept = to * to / (from * from), signal = nn_sampler_signal(to); /* exp(-2h) */
    const float of_x = (float)(kept * signal / nn_sampler_signal(from));
    const float of_x0 = (float)(signal * (1 - kept));
    const float of_noise = (float)(signal * to * sqrt(1 - kept));
    float of_slope = 0;
    if (second) {
        double ratio = (lambda(s, i) - lambda(s, i - 1)) / (lambda(s, i + 1) - lambda(s, i));
        of_slope = (float)((double)of_x0 / 2 / ratio);
    }
    predict_x0(s, i, output, x, now);
    for (int64_t e = 0; e < s->n_elems; e++) {
        float slope = second ? of_slope * (now[e] - last[e]) : 0;
        x[e] = of_x * x[e] + of_x0 * now[e] + slope + of_noise * noise[e];
    }
}

enum { NOW, LAST, BEFORE, START, UNIPC_BUFFERS }; /* three x0; x before the last prediction */

/* Repeat the last step (level i - 1 to i) with what the model has said at its end. */
static void correct(const nn_sampler *s, int i, float *x)
{
    const linear_step l = first_order(s, i - 1, i);
    const float *now = s->buffer[NOW], *last = s->buffer[LAST], *start = s->buffer[START];
    double of_before = 0, of_now = 0.5; /* weights of the two differences of x0 */
    if (s->order == 2) {
        const double h = lambda(s, i) - lambda(s, i - 1), phi = expm1(-h);
        const double ratio = (lambda(s, i - 2) - lambda(s, i - 1)) / h;
        const double phi2 = phi / -h - 1, phi3 = phi2 / -h - 0.5;
        const double b1 = phi2 / phi, b2 = 2 * phi3 / phi;
        const double solved = (b2 - b1) / (ratio - 1);
        of_before = solved / ratio;
        of_now = b1 - solved;
    }
    for (int64_t e = 0; e < s->n_elems; e++) {
        float change = (float)of_now * (now[e] - last[e]);
        if (s->order == 2) change += (float)of_before * (s->buffer[BEFORE][e] - last[e]);
        x[e] = l.of_x * start[e] + l.of_x0 * (last[e] + change);
    }
}

static void unipc_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    (void)noise;
    float *now = nn_sampler_push(s, 3);
    predict_x0(s, i, output, x, now);
    if (s->n_past > 0) correct(s, i, x);
    memcpy(s->buffer[START], x, (size_t)s->n_elems * sizeof(float));
    s->order = s->n_past > 0 && i + 1 < s->n_calls ? 2 : 1;
    predict(s, i, s->order == 2, now, s->buffer[LAST], x);
}

const nn_sampler_family nn_sampler_dpmpp_2m = { .name = "dpmpp_2m",
                                                .title = "DPM++ 2M",
                                                .class_name = "DPMSolverMultistepScheduler",
                                                .spacing = NN_SPACING_LINSPACE,
                                                .n_buffers = 2,
                                                .has_karras = true,
                                                .prepare = nn_sampler_prepare_solver,
                                                .step = dpmpp_step };

const nn_sampler_family nn_sampler_dpmpp_2m_sde = { .name = "dpmpp_2m_sde",
                                                    .title = "DPM++ 2M SDE",
                                                    .class_name = "dpmpp_2m_sde",
                                                    .spacing = NN_SPACING_LINSPACE,
                                                    .n_buffers = 2,
                                                    .has_karras = true,
                                                    .prepare = nn_sampler_prepare_solver,
                                                    .needs_noise = nn_sampler_always,
                                                    .step = sde_step };

const nn_sampler_family nn_sampler_unipc = { .name = "unipc",
                                             .title = "UniPC",
                                             .class_name = "UniPCMultistepScheduler",
                                             .spacing = NN_SPACING_LINSPACE,
                                             .n_buffers = UNIPC_BUFFERS,
                                             .has_karras = true,
                                             .prepare = nn_sampler_prepare_solver,
                                             .step = unipc_step };
