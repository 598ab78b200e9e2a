/* The loop of sampling. */
#include "models/sd_draw.h"

#include <math.h>
#include <string.h>

#include "engine/base/alloc.h"

typedef struct work {
    sd_session *session;
    const sd_model *m;
    const sd_draw_options *o;
    const sd_canvas *canvas;
    nn_sampler *sampler;
    sd_noise *noises;                     /* [batch] */
    int64_t batch, h, w, elems;           /* elems: of one latent */
    float *x, *input, *predicted, *fresh; /* [batch, elems] each; fresh: noise of this step */
    float *first, *start;                 /* the first noise, and the canvas as latents */
    float *surroundings;                  /* [batch, h, w, 1 + L] for UNets that fill in */
} work;

static bool has_picture(const work *j)
{
    return j->canvas && j->canvas->moments;
}

static bool has_mask(const work *j)
{
    return has_picture(j) && j->canvas->mask;
}

/* Noise for every picture of the batch. */
static void draw_noise(work *j, const char *stream, int index, float *out)
{
    for (int64_t i = 0; i < j->batch; i++)
        sd_noise_draw(&j->noises[i], stream, (uint64_t)index, j->h, j->w, j->m->vae.latent_channels,
                      j->input, out + i * j->elems);
}

/* The canvas as a sample of the codec's distribution, one for each picture. */
static void sample_canvas(work *j)
{
    draw_noise(j, "posterior", 0, j->fresh);
    for (int64_t i = 0; i < j->batch; i++)
        sd_latent(&j->m->vae, j->h * j->w, j->canvas->moments, j->fresh + i * j->elems,
                  j->start + i * j->elems);
}

/* Tell the session of the mask and of a sample of what stays. */
static void surround(work *j)
{
    const int64_t l = j->m->vae.latent_channels, places = j->h * j->w;
    NN_ASSERT(has_mask(j));
    for (int64_t i = 0; i < j->batch; i++) {
        float *to = j->surroundings + i * places * (1 + l), *latent = j->predicted;
        sd_latent(&j->m->vae, places, j->canvas->grey, j->fresh + i * j->elems, latent);
        for (int64_t p = 0; p < places; p++) {
            to[p * (1 + l)] = j->canvas->mask[p] ? 1 : 0;
            memcpy(to + p * (1 + l) + 1, latent + p * l, (size_t)l * sizeof(float));
        }
    }
    sd_session_surround(j->session, j->surroundings);
}

/* x before the first call, which *call gets. */
static nn_status begin(work *j, int *call)
{
    const int64_t n = j->batch * j->elems;
    const bool anew = !has_picture(j) || (has_mask(j) && j->canvas->strength >= 1);
    *call = 0;
    /* The draws are the reference's: it encodes the picture where the loop needs it, and the masked
     * picture always, also for UNets that do not take it. */
    if (has_picture(j) && !(anew && j->surroundings)) sample_canvas(j);
    draw_noise(j, "sample", 0, j->first);
    if (has_mask(j)) draw_noise(j, "posterior", 1, j->fresh);
    if (j->surroundings) surround(j);
    if (anew) {
        const float sigma = nn_sampler_init_noise_sigma(j->sampler);
        for (int64_t k = 0; k < n; k++) j->x[k] = sigma * j->first[k];
        return NN_OK;
    }
    const int taken = (int)fmin((double)j->o->n_steps * j->canvas->strength, j->o->n_steps);
    if (taken < 1)
        return nn_fail(NN_ARGUMENT, "strength %g leaves none of the %d steps; raise one of them",
                       j->canvas->strength, j->o->n_steps);
    *call = nn_sampler_call_of_step(j->sampler, j->o->n_steps - taken);
    nn_sampler_restart(j->sampler, *call);
    nn_sampler_add_noise(j->sampler, *call, j->start, j->first, j->x);
    return NN_OK;
}

/* What the mask keeps, at the noise level that `call` has left. */
static void keep_canvas(work *j, int call)
{
    const int64_t c = j->m->vae.latent_channels, places = j->h * j->w;
    const float *kept = j->start;
    if (call + 1 < nn_sampler_calls(j->sampler)) {
        nn_sampler_add_noise(j->sampler, call + 1, j->start, j->first, j->input);
        kept = j->input;
    }
    for (int64_t p = 0; p < j->batch * places; p++)
        if (!j->canvas->mask[p % places])
            memcpy(j->x + p * c, kept + p * c, (size_t)c * sizeof(float));
}

static nn_status loop(work *j, int call, const sd_watch *watch)
{
    const int n_calls = nn_sampler_calls(j->sampler);
    const size_t all = (size_t)(j->batch * j->elems);
    const float *x0 = NULL;
    for (int first = call; call < n_calls; call++) {
        if (watch) NN_TRY(watch->look(watch->ctx, call - first, n_calls - first, x0));
        nn_sampler_scale_input(j->sampler, call, j->x, j->input);
        NN_TRY(sd_session_predict(j->session, j->input, nn_sampler_timestep(j->sampler, call),
                                  j->o->guidance, j->o->rescale, j->predicted));
        const bool due = watch && watch->every > 0 && (call - first + 1) % watch->every == 0;
        const bool noisy = nn_sampler_needs_noise(j->sampler, call);
        if (noisy) draw_noise(j, "sample", call + 1, j->fresh);
        if (due) nn_sampler_denoise(j->sampler, call, j->predicted, j->x, j->input);
        nn_sampler_step(j->sampler, call, j->predicted, j->x, noisy ? j->fresh : NULL);
        x0 = due ? memcpy(j->predicted, j->input, all * sizeof(float)) : NULL;
        if (has_mask(j) && !j->surroundings) keep_canvas(j, call);
    }
    return NN_OK;
}

static nn_status reserve(work *j, const uint64_t *seeds, int64_t n)
{
    const int64_t all = j->batch * j->elems;
    j->x = nn_alloc((has_picture(j) ? 6 : 5) * all, sizeof(float));
    NN_NEED(j->x);
    j->input = j->x + all;
    j->predicted = j->x + 2 * all;
    j->fresh = j->x + 3 * all;
    j->first = j->x + 4 * all;
    if (has_picture(j)) j->start = j->x + 5 * all;
    if (sd_fills_in(j->m)) {
        j->surroundings = nn_alloc(all + j->batch * j->h * j->w, sizeof(float));
        NN_NEED(j->surroundings);
    }
    j->noises = nn_alloc(j->batch, sizeof(*j->noises));
    NN_NEED(j->noises);
    for (int64_t i = 0; i < j->batch; i++)
        sd_noise_init(&j->noises[i], j->o->rng, seeds[nn_min(i, n - 1)]);
    return nn_sampler_create(j->o->scheduler, &j->o->sampler, &j->m->noise, j->o->n_steps, all,
                             &j->sampler);
}

nn_status sd_draw(sd_session *s, const sd_draw_options *o, int64_t n, const uint64_t *seeds,
                  const sd_canvas *canvas, const sd_watch *watch, float *latents)
{
    const sd_session_options *size = sd_session_options_of(s);
    work j = { .session = s,
               .m = sd_session_model(s),
               .o = o,
               .canvas = canvas,
               .batch = size->batch,
               .h = size->latent_height,
               .w = size->latent_width };
    int call;
    NN_ASSERT(n >= 1 && n <= j.batch);
    if (sd_fills_in(j.m) && !(has_mask(&j) && canvas->grey))
        return nn_fail(NN_ARGUMENT,
                       "the UNet takes %lld channels: it fills in pictures, and needs "
                       "one with a mask",
                       (long long)j.m->unet.in_channels);
    j.elems = j.h * j.w * j.m->vae.latent_channels;
    nn_status status = reserve(&j, seeds, n);
    if (status == NN_OK) status = begin(&j, &call);
    if (status == NN_OK) status = loop(&j, call, watch);
    if (status == NN_OK) memcpy(latents, j.x, (size_t)(n * j.elems) * sizeof(float));
    nn_sampler_destroy(j.sampler);
    nn_free(j.noises);
    nn_free(j.surroundings);
    nn_free(j.x);
    return status;
}
