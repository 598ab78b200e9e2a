/* The optimizer's state and its place in a graph. */
#include "engine/optim.h"

#include <math.h>

#include "engine/base/alloc.h"

enum { CHUNK = 1 << 18 }; /* elements exchanged at a time */

static nn_status reserve(nn_optimizer *o)
{
    nn_device *d = o->params->device;
    const nn_backend *b = d->backend;
    int64_t bytes = nn_max(o->n, 1) * (int64_t)sizeof(float);
    NN_NEED(o->m = b->alloc(d, bytes));
    NN_NEED(o->v = b->alloc(d, bytes));
    if (!(o->options.ema_decay > 0)) return NN_OK;
    NN_NEED(o->ema = b->alloc(d, bytes));
    return nn_device_convert(d, o->n, NN_F32, o->params->values + o->first, NN_F32, o->ema);
}

nn_status nn_optimizer_create(nn_params *params, const nn_adamw_options *options,
                              nn_optimizer **out)
{
    return nn_optimizer_create_part(params, options, 0, params->n_elems, out);
}

nn_status nn_optimizer_create_part(nn_params *params, const nn_adamw_options *options,
                                   int64_t first, int64_t n, nn_optimizer **out)
{
    NN_ASSERT(params->grads && params->dtype == NN_F32);
    NN_ASSERT(first >= 0 && n >= 0 && first + n <= params->n_elems);
    nn_optimizer *o = nn_alloc(1, sizeof(*o));
    NN_NEED(o);
    o->options = *options;
    o->params = params;
    o->first = first;
    o->n = n;
    nn_status status = reserve(o);
    if (status != NN_OK) {
        nn_optimizer_destroy(o);
        return status;
    }
    *out = o;
    return NN_OK;
}

void nn_optimizer_destroy(nn_optimizer *o)
{
    if (!o) return;
    nn_device *d = o->params->device;
    if (o->m) d->backend->free(d, o->m);
    if (o->v) d->backend->free(d, o->v);
    if (o->ema) d->backend->free(d, o->ema);
    nn_free(o);
}

static bool is_part(const nn_optimizer *o)
{
    return o->n != o->params->n_elems;
}

static nn_tensor *gradients(const nn_optimizer *o, nn_graph *g)
{
    const nn_view flat = nn_view_make(NN_F32, 1, &o->n);
    return nn_external(g, "gradients", &flat, o->params->grads + o->first);
}

void nn_optimizer_add_norm(nn_optimizer *o, nn_graph *g)
{
    const char *scope = g->scope;
    g->scope = "optimizer";
    o->part_norm = NN_NODE(g, NORM, NULL, gradients(o, g));
    nn_keep(o->part_norm);
    g->scope = scope;
}

void nn_optimizer_add(nn_optimizer *o, nn_graph *g)
{
    const nn_adamw_options *a = &o->options;
    const nn_adamw_params p = { a->beta1, a->beta2, a->eps, a->weight_decay, a->clip_norm };
    const nn_view flat = nn_view_make(NN_F32, 1, &o->n);
    const nn_view flat_half = nn_view_make(NN_BF16, 1, flat.dim);
    const char *scope = g->scope;
    g->scope = "optimizer";
    uint16_t *low = o->params->half ? o->params->half + o->first : NULL;
    nn_tensor *values = nn_external(g, "values", &flat, o->params->values + o->first);
    nn_tensor *grads = gradients(o, g);
    nn_tensor *m = nn_external(g, "adamw.m", &flat, o->m);
    nn_tensor *v = nn_external(g, "adamw.v", &flat, o->v);
    nn_tensor *ema = o->ema ? nn_external(g, "ema", &flat, o->ema) : NULL;
    nn_tensor *half = low ? nn_external(g, "half", &flat_half, low) : NULL;
    o->lowers = half != NULL;
    o->hyper = nn_input(g, "hyper", NN_F32, NN_DIMS(NN_HYPER_COUNT));
    o->norm = is_part(o) ? nn_input(g, "norm", NN_F32, NN_DIMS(1)) : NN_NODE(g, NORM, NULL, grads);
    nn_keep(o->norm);
    NN_NODE(g, ADAMW, &p, values, grads, m, v, o->hyper, o->norm, ema, half);
    g->scope = scope;
}

double nn_ema_decay(double decay, int64_t step)
{
    return step <= 1 ? 0 : fmin(decay, (double)step / (9.0 + (double)step));
}

/* The update changes the values, and their bf16 copy with them if it knew of one. */
static void changed(nn_optimizer *o)
{
    bool stale = o->params->stale || !o->lowers;
    nn_params_touch(o->params);
    o->params->stale = stale;
}

nn_status nn_optimizer_begin(nn_optimizer *o, nn_plan *plan, double lr)
{
    float hyper[NN_HYPER_COUNT];
    o->step++;
    hyper[NN_HYPER_LR] = (float)lr;
    hyper[NN_HYPER_CORRECT1] = (float)(1 - pow(o->options.beta1, (double)o->step));
    hyper[NN_HYPER_CORRECT2] = (float)(1 - pow(o->options.beta2, (double)o->step));
    hyper[NN_HYPER_EMA] = (float)(1 - nn_ema_decay(o->options.ema_decay, o->step));
    changed(o);
    return nn_plan_write(plan, o->hyper, hyper);
}

nn_status nn_optimizer_set_norm(nn_optimizer *o, nn_plan *plan, float norm)
{
    return nn_plan_write(plan, o->norm, &norm);
}

nn_status nn_optimizer_end(nn_optimizer *o, nn_plan *plan, float *norm)
{
    *norm = 0;
    changed(o);
    NN_TRY(nn_plan_read(plan, o->norm, norm));
    if (isfinite(*norm)) return NN_OK;
    o->step--;
    o->n_skipped++;
    return NN_OK;
}

/* Exchange n elements of two flat buffers through a third. */
static nn_status swap_chunk(nn_device *d, float *a, float *b, float *kept, int64_t n)
{
    NN_TRY(nn_device_convert(d, n, NN_F32, a, NN_F32, kept));
    NN_TRY(nn_device_convert(d, n, NN_F32, b, NN_F32, a));
    return nn_device_convert(d, n, NN_F32, kept, NN_F32, b);
}

nn_status nn_optimizer_swap_ema(nn_optimizer *o)
{
    NN_ASSERT(o->ema);
    nn_device *d = o->params->device;
    int64_t n = o->n;
    float *values = o->params->values + o->first;
    float *kept = d->backend->alloc(d, nn_max(nn_min(n, CHUNK), 1) * (int64_t)sizeof(*kept));
    NN_NEED(kept);
    nn_status status = NN_OK;
    for (int64_t i = 0; i < n && status == NN_OK; i += CHUNK)
        status = swap_chunk(d, values + i, o->ema + i, kept, nn_min(n - i, CHUNK));
    if (status == NN_OK) status = d->backend->sync(d);
    d->backend->free(d, kept);
    nn_params_touch(o->params);
    return status;
}

double nn_schedule_at(const nn_schedule *s, int64_t step)
{
    const double pi = 3.14159265358979323846;
    if (step < s->warmup) return s->lr * (double)step / (double)s->warmup;
    if (s->kind == NN_LR_CONSTANT) return s->lr;
    double span = (double)nn_max(s->total - s->warmup, 1);
    double done = fmin((double)(step - s->warmup) / span, 1.0);
    return s->lr * (s->kind == NN_LR_LINEAR ? 1 - done : 0.5 * (1 + cos(pi * done)));
}
