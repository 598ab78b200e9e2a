/* Noise schedules and what training needs of them. */
#include "models/diffusion.h"

#include <math.h>

#include "engine/base/alloc.h"
#include "engine/base/rng.h"

static const double pi = 3.14159265358979323846;

/* torch.linspace in f32: counted from the nearer end, with fused multiply-add. */
static float linspace(float start, float end, int n, int i)
{
    if (n == 1) return start;
    float step = (end - start) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(n - 1 - i), end);
}

/* The signal that is left at time t of [0, 1]. */
static double cosine_alpha_bar(double t)
{
    double c = cos((t + 0.008) / 1.008 * pi / 2);
    return c * c;
}

static float beta_at(const nn_noise_config *c, int i)
{
    const int n = c->n_timesteps;
    switch (c->beta_schedule) {
    case NN_BETA_LINEAR:
        return linspace((float)c->beta_start, (float)c->beta_end, n, i);
    case NN_BETA_SCALED_LINEAR: {
        float root = linspace((float)sqrt(c->beta_start), (float)sqrt(c->beta_end), n, i);
        return root * root;
    }
    case NN_BETA_COSINE:
        return (float)fmin(
            1 - cosine_alpha_bar((i + 1) / (double)n) / cosine_alpha_bar(i / (double)n), 0.999);
    case NN_BETA_TRAINED:
        break;
    }
    NN_ASSERT(!"a beta schedule");
    return 0;
}

/* Room for the tables. */
static nn_status reserve(nn_noise_schedule *s, const nn_noise_config *config)
{
    *s = (nn_noise_schedule){ .config = *config };
    NN_TRY(nn_noise_config_check(config));
    s->beta = nn_alloc(2 * (int64_t)config->n_timesteps, sizeof(float));
    NN_NEED(s->beta);
    s->alpha_bar = s->beta + config->n_timesteps;
    return NN_OK;
}

static void accumulate(nn_noise_schedule *s)
{
    double product = 1;
    for (int i = 0; i < s->config.n_timesteps; i++) {
        float alpha = 1.0f - s->beta[i];
        product *= (double)alpha;
        s->alpha_bar[i] = (float)product;
    }
}

nn_status nn_noise_schedule_init(nn_noise_schedule *s, const nn_noise_config *config)
{
    *s = (nn_noise_schedule){ 0 };
    if (config->beta_schedule == NN_BETA_TRAINED)
        return nn_fail(NN_ARGUMENT, "trained betas come from a scheduler_config.json");
    NN_TRY(reserve(s, config));
    for (int i = 0; i < config->n_timesteps; i++) s->beta[i] = beta_at(config, i);
    accumulate(s);
    return NN_OK;
}

static nn_status read_betas(const nn_json *json, nn_noise_schedule *s)
{
    int n = 0;
    double *betas = nn_alloc(s->config.n_timesteps, sizeof(*betas));
    NN_NEED(betas);
    nn_status status = nn_json_doubles(json, "trained_betas", s->config.n_timesteps, betas, &n);
    for (int i = 0; i < n && status == NN_OK; i++) {
        if (!(betas[i] > 0 && betas[i] < 1))
            status = nn_fail(NN_FORMAT, "%s: trained_betas[%d] is %g; 0 < beta < 1 is needed",
                             json->file, i, betas[i]);
        s->beta[i] = (float)betas[i];
    }
    nn_free(betas);
    return status;
}

nn_status nn_noise_schedule_parse(const nn_json *json, nn_noise_schedule *s)
{
    nn_noise_config c;
    *s = (nn_noise_schedule){ 0 };
    NN_TRY(nn_noise_config_parse(json, &c));
    if (c.beta_schedule != NN_BETA_TRAINED) return nn_noise_schedule_init(s, &c);
    nn_status status = reserve(s, &c);
    if (status == NN_OK) status = read_betas(json, s);
    if (status == NN_OK)
        accumulate(s);
    else
        nn_noise_schedule_deinit(s);
    return status;
}

void nn_noise_schedule_deinit(nn_noise_schedule *s)
{
    nn_free(s->beta);
    *s = (nn_noise_schedule){ 0 };
}

static float alpha_bar(const nn_noise_schedule *s, int t)
{
    NN_ASSERT(t >= 0 && t < s->config.n_timesteps);
    return s->alpha_bar[t];
}

void nn_noise_schedule_add(const nn_noise_schedule *s, int t, int64_t n, const float *x0,
                           const float *noise, float *out)
{
    const float a = alpha_bar(s, t), signal = sqrtf(a), sigma = sqrtf(1.0f - a);
    for (int64_t i = 0; i < n; i++) out[i] = signal * x0[i] + sigma * noise[i];
}

void nn_noise_schedule_target(const nn_noise_schedule *s, int t, int64_t n, const float *x0,
                              const float *noise, float *out)
{
    const float a = alpha_bar(s, t);
    float of_x0 = 0, of_noise = 0;
    switch (s->config.prediction) {
    case NN_PREDICT_EPSILON:
        of_noise = 1;
        break;
    case NN_PREDICT_V:
        of_x0 = -sqrtf(1.0f - a);
        of_noise = sqrtf(a);
        break;
    case NN_PREDICT_SAMPLE:
        of_x0 = 1;
        break;
    }
    for (int64_t i = 0; i < n; i++) out[i] = of_noise * noise[i] + of_x0 * x0[i];
}

double nn_noise_schedule_snr(const nn_noise_schedule *s, int t)
{
    const double a = (double)alpha_bar(s, t);
    return a / (1 - a);
}

double nn_noise_schedule_weight(const nn_noise_schedule *s, int t, double gamma)
{
    const double snr = nn_noise_schedule_snr(s, t), most = fmin(snr, gamma);
    if (gamma <= 0) return 1;
    switch (s->config.prediction) {
    case NN_PREDICT_EPSILON:
        return most / snr;
    case NN_PREDICT_V:
        return most / (snr + 1);
    case NN_PREDICT_SAMPLE:
        return most;
    }
    NN_ASSERT(!"a prediction type");
    return 0;
}

int nn_noise_schedule_draw(const nn_noise_schedule *s, uint64_t seed, uint64_t sample,
                           uint64_t step)
{
    nn_rng rng = nn_rng_make(nn_mix(seed, step), "timestep", sample);
    return (int)nn_rng_below(&rng, (uint64_t)s->config.n_timesteps);
}
