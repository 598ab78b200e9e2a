/* Which timesteps and noise levels a sampler visits. Source: set_timesteps of the diffusers
 * classes.
 */
#include "models/sampler_internal.h"

void nn_sampler_space(const nn_sampler *s, bool whole, float *t)
{
    const int n = s->n_steps, total = s->schedule->config.n_timesteps, whole_step = total / n;
    for (int i = 0; i < n; i++) {
        const int k = n - 1 - i; /* counted from the clean end */
        double at = 0;
        if (s->o.spacing == NN_SPACING_LEADING)
            at = k * whole_step + s->schedule->config.steps_offset;
        else if (s->o.spacing == NN_SPACING_TRAILING)
            at = nearbyint(total - i * ((double)total / n)) - 1;
        else if (n > 1)
            at = k * ((double)(total - 1) / (n - 1));
        t[i] = (float)(whole ? nearbyint(at) : at);
    }
}

/* The multistep solvers keep one place more, at the clean end, and never call the model there. */
static void space_solver(const nn_sampler *s, float *t)
{
    const int n = s->n_steps, total = s->schedule->config.n_timesteps, whole_step = total / (n + 1);
    if (s->o.spacing == NN_SPACING_TRAILING) {
        nn_sampler_space(s, true, t);
        return;
    }
    for (int i = 0; i < n; i++) {
        const int k = n - i;
        if (s->o.spacing == NN_SPACING_LEADING)
            t[i] = (float)(k * whole_step + s->schedule->config.steps_offset);
        else
            t[i] = (float)nearbyint(k * ((double)(total - 1) / n));
    }
}

float nn_sampler_sigma(const nn_noise_schedule *schedule, int t)
{
    const float a = schedule->alpha_bar[t];
    return sqrtf((1.0f - a) / a);
}

double nn_sampler_sigma_at(const nn_noise_schedule *schedule, double t)
{
    const int last = schedule->config.n_timesteps - 1;
    if (!(t > 0)) return (double)nn_sampler_sigma(schedule, 0);
    if (t >= last) return (double)nn_sampler_sigma(schedule, last);
    const int low = (int)t;
    const double a = (double)nn_sampler_sigma(schedule, low);
    return a + (t - low) * ((double)nn_sampler_sigma(schedule, low + 1) - a);
}

double nn_sampler_time_of(const nn_noise_schedule *schedule, double sigma)
{
    const double wanted = log(fmax(sigma, 1e-10));
    int low = 0, high = schedule->config.n_timesteps - 1;
    if (high == 0) return 0;
    while (high - low > 1) { /* sigma grows with the timestep */
        int middle = (low + high) / 2;
        *(log((double)nn_sampler_sigma(schedule, middle)) <= wanted ? &low : &high) = middle;
    }
    const double a = log((double)nn_sampler_sigma(schedule, low));
    const double b = log((double)nn_sampler_sigma(schedule, high));
    return low + fmin(fmax((wanted - a) / (b - a), 0), 1);
}

double nn_sampler_karras(double most, double least, int n, int k)
{
    const double rho = 7, from = pow(most, 1 / rho), to = pow(least, 1 / rho);
    return pow(from + (n > 1 ? k / (double)(n - 1) : 0) * (to - from), rho);
}

nn_status nn_sampler_prepare_alpha(nn_sampler *s)
{
    nn_sampler_space(s, true, s->timestep);
    s->n_calls = s->n_steps;
    for (int i = 0; i < s->n_calls; i++)
        s->sigma[i] = (float)nn_sampler_sigma_at(s->schedule, (double)s->timestep[i]);
    return NN_OK;
}

nn_status nn_sampler_prepare_sigma(nn_sampler *s)
{
    const int n = s->n_steps;
    s->n_calls = n;
    nn_sampler_space(s, false, s->timestep);
    const double most = nn_sampler_sigma_at(s->schedule, (double)s->timestep[0]);
    const double least = nn_sampler_sigma_at(s->schedule, (double)s->timestep[n - 1]);
    for (int i = 0; i < n; i++) {
        double sigma = nn_sampler_sigma_at(s->schedule, (double)s->timestep[i]);
        if (s->o.karras) {
            sigma = nn_sampler_karras(most, least, n, i);
            s->timestep[i] = (float)nn_sampler_time_of(s->schedule, sigma);
        }
        s->sigma[i] = (float)sigma;
    }
    return NN_OK; /* sigma[n] is 0 */
}

nn_status nn_sampler_prepare_solver(nn_sampler *s)
{
    const int n = s->n_steps;
    const double most = nn_sampler_sigma_at(s->schedule, s->schedule->config.n_timesteps - 1);
    const double least = nn_sampler_sigma_at(s->schedule, 0);
    s->n_calls = n;
    space_solver(s, s->timestep);
    for (int i = 0; i < n; i++) {
        double sigma = nn_sampler_sigma_at(s->schedule, (double)s->timestep[i]);
        if (s->o.karras) {
            sigma = nn_sampler_karras(most, least, n, i);
            s->timestep[i] = (float)nearbyint(nn_sampler_time_of(s->schedule, sigma));
        }
        s->sigma[i] = (float)sigma;
        if (i > 0 && !(s->sigma[i] < s->sigma[i - 1]))
            return nn_fail(NN_ARGUMENT,
                           "%s: with %d steps two of them have the same noise level; take fewer",
                           s->family->name, n);
    }
    return NN_OK; /* sigma[n] is 0 */
}

float nn_sampler_alpha_bar(const nn_sampler *s, int t)
{
    NN_ASSERT(t < s->schedule->config.n_timesteps);
    if (t >= 0) return s->schedule->alpha_bar[t];
    return s->schedule->config.set_alpha_to_one ? 1.0f : s->schedule->alpha_bar[0];
}
