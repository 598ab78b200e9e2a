/* What all samplers share. */
#include "models/sampler.h"

#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/str.h"
#include "models/sampler_internal.h"

static const nn_sampler_family *const families[] = {
    &nn_sampler_ddpm,
    &nn_sampler_ddim,
    &nn_sampler_pndm,
    &nn_sampler_euler,
    &nn_sampler_euler_ancestral,
    &nn_sampler_heun,
    &nn_sampler_lms,
    &nn_sampler_dpmpp_2m,
    &nn_sampler_dpmpp_2m_sde,
    &nn_sampler_dpmpp_sde,
    &nn_sampler_unipc,
};

const char *nn_sampler_name(int k)
{
    return k >= 0 && k < NN_COUNT(families) ? families[k]->name : NULL;
}

nn_status nn_sampler_find(const char *name, const nn_sampler_family **out)
{
    const char *nearest = families[0]->name;
    for (int k = 0; k < NN_COUNT(families); k++) {
        const nn_sampler_family *f = families[k];
        if (nn_edit_distance(name, f->name) < nn_edit_distance(name, nearest)) nearest = f->name;
        if (strcmp(name, f->name) != 0 && strcmp(name, f->class_name) != 0) continue;
        *out = f;
        return NN_OK;
    }
    return nn_fail(NN_NOT_FOUND, "there is no sampler '%s'; did you mean '%s'?", name, nearest);
}

const char *nn_sampler_title(const nn_sampler *s)
{
    return s->family->title;
}

bool nn_sampler_has_karras(const char *name)
{
    const nn_sampler_family *f;
    return nn_sampler_find(name, &f) == NN_OK && f->has_karras;
}

static nn_status check(const nn_sampler *s)
{
    const char *name = s->family->name;
    const int limit = s->schedule->config.n_timesteps;
    if (s->n_steps < 1 || s->n_steps > limit)
        return nn_fail(NN_ARGUMENT, "%s: %d steps; 1 to %d are possible", name, s->n_steps, limit);
    if (s->n_elems < 1)
        return nn_fail(NN_ARGUMENT, "%s: vectors of %lld numbers", name, (long long)s->n_elems);
    if (s->o.karras && !s->family->has_karras)
        return nn_fail(NN_ARGUMENT, "%s: has no Karras noise levels; leave the option off", name);
    if (!(s->o.eta >= 0 && s->o.eta <= 1) || (s->o.eta != 0 && s->family != &nn_sampler_ddim))
        return nn_fail(NN_ARGUMENT, "%s: eta is %g; ddim takes 0 to 1, the others 0", name,
                       s->o.eta);
    return NN_OK;
}

/* Too many steps for a spacing show as timesteps outside the schedule. */
static nn_status check_table(const nn_sampler *s)
{
    const float last = (float)(s->schedule->config.n_timesteps - 1);
    for (int i = 0; i < s->n_calls; i++)
        if (!(s->timestep[i] >= 0 && s->timestep[i] <= last))
            return nn_fail(NN_ARGUMENT,
                           "%s: %d steps put call %d at timestep %g, outside 0 to %g; take fewer",
                           s->family->name, s->n_steps, i, (double)s->timestep[i], (double)last);
    return NN_OK;
}

static nn_status fill(nn_sampler *s)
{
    NN_TRY(check(s));
    s->timestep = nn_alloc(2 * (int64_t)s->n_steps, sizeof(float)); /* enough for every family */
    NN_NEED(s->timestep);
    s->sigma = nn_alloc(2 * (int64_t)s->n_steps + 1, sizeof(float));
    NN_NEED(s->sigma);
    for (int b = 0; b < s->family->n_buffers; b++) {
        s->buffer[b] = nn_alloc(s->n_elems, sizeof(float));
        NN_NEED(s->buffer[b]);
    }
    NN_TRY(s->family->prepare(s));
    return check_table(s);
}

nn_status nn_sampler_create(const char *name, const nn_sampler_options *options,
                            const nn_noise_schedule *schedule, int n_steps, int64_t n_elems,
                            nn_sampler **out)
{
    *out = NULL;
    const nn_sampler_family *family = NULL;
    NN_TRY(nn_sampler_find(name, &family));
    nn_sampler *s = nn_alloc(1, sizeof *s);
    NN_NEED(s);
    *s = (nn_sampler){ .family = family,
                       .schedule = schedule,
                       .o = *options,
                       .n_steps = n_steps,
                       .n_elems = n_elems };
    if (s->o.spacing == NN_SPACING_DEFAULT) s->o.spacing = family->spacing;
    nn_status status = fill(s);
    if (status == NN_OK)
        *out = s;
    else
        nn_sampler_destroy(s);
    NN_TRY(status);
    return NN_OK;
}

void nn_sampler_destroy(nn_sampler *s)
{
    if (!s) return;
    for (int b = 0; b < NN_SAMPLER_MAX_BUFFERS; b++) nn_free(s->buffer[b]);
    nn_free(s->timestep);
    nn_free(s->sigma);
    nn_free(s);
}

int nn_sampler_calls(const nn_sampler *s)
{
    return s->n_calls;
}

static bool begins(const nn_sampler *s, int i)
{
    return !s->family->begins || s->family->begins(s, i);
}

int nn_sampler_call_of_step(const nn_sampler *s, int k)
{
    NN_ASSERT(k >= 0 && k < s->n_steps);
    for (int i = 0; i < s->n_calls; i++)
        if (begins(s, i) && k-- == 0) return i;
    NN_ASSERT(!"a step that no call begins");
    return 0;
}

float nn_sampler_timestep(const nn_sampler *s, int i)
{
    NN_ASSERT(i >= 0 && i < s->n_calls);
    return s->timestep[i];
}

float nn_sampler_init_noise_sigma(const nn_sampler *s)
{
    if (!s->family->in_sigma) return 1;
    const float most = s->sigma[0];
    return s->o.spacing == NN_SPACING_LEADING ? sqrtf(most * most + 1) : most;
}

void nn_sampler_scale_input(const nn_sampler *s, int i, const float *x, float *out)
{
    NN_ASSERT(i >= 0 && i < s->n_calls);
    if (!s->family->in_sigma) {
        if (out != x) memcpy(out, x, (size_t)s->n_elems * sizeof(float));
        return;
    }
    const float scale = sqrtf(s->sigma[i] * s->sigma[i] + 1);
    for (int64_t e = 0; e < s->n_elems; e++) out[e] = x[e] / scale;
}

void nn_sampler_denoise(const nn_sampler *s, int i, const float *output, const float *x, float *out)
{
    NN_ASSERT(i >= 0 && i < s->n_calls);
    const nn_prediction p = s->schedule->config.prediction;
    const float sigma = s->sigma[i], signal = (float)nn_sampler_signal((double)sigma);
    const float scale = s->family->in_sigma ? signal : 1; /* to variance 1 */
    for (int64_t e = 0; e < s->n_elems; e++)
        out[e] = nn_sampler_x0(p, signal, sigma * signal, output[e], scale * x[e]);
}

bool nn_sampler_needs_noise(const nn_sampler *s, int i)
{
    NN_ASSERT(i >= 0 && i < s->n_calls);
    return s->family->needs_noise && s->family->needs_noise(s, i);
}

void nn_sampler_step(nn_sampler *s, int i, const float *output, float *x, const float *noise)
{
    NN_ASSERT(i == s->next && i < s->n_calls);
    NN_ASSERT(noise || !nn_sampler_needs_noise(s, i));
    s->family->step(s, i, output, x, noise);
    s->next++;
    s->n_past++;
}

void nn_sampler_restart(nn_sampler *s, int i)
{
    NN_ASSERT(i >= 0 && i < s->n_calls && begins(s, i));
    s->next = i;
    s->n_past = 0;
}

void nn_sampler_add_noise(const nn_sampler *s, int i, const float *x0, const float *noise,
                          float *out)
{
    NN_ASSERT(i >= 0 && i < s->n_calls);
    const double sigma = (double)s->sigma[i];
    const float signal = s->family->in_sigma ? 1.0f : (float)nn_sampler_signal(sigma);
    const float level = signal * (float)sigma;
    for (int64_t e = 0; e < s->n_elems; e++) out[e] = signal * x0[e] + level * noise[e];
}
