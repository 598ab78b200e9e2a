/* The optimizer's state and its place in a graph. */
#include "engine/optim.h"

#include <inttypes.h>
#include <math.h>

#include "engine/base/alloc.h"
#include "engine/base/log.h"

enum { CHUNK = 1 << 18 }; /* elements exchanged at a time */

static nn_status reserve(nn_optimizer *o)
{
    nn_device *d = o->params->device;
    const nn_backend *b = d->backend;
    int64_t bytes = nn_max(o->n, 1) * (int64_t)sizeof(float);
    if (!o->options.fused) NN_TRY(nn_params_keep_grads(o->params));
    if (o->options.fused)
        NN_NEED(o->norms = b->alloc(d, nn_max(o->params->n, 1) * (int64_t)sizeof(*o->norms)));
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
    NN_ASSERT(params->trained && params->dtype == NN_F32);
    NN_ASSERT(first >= 0 && n >= 0 && first + n <= params->n_elems);
    NN_ASSERT(!options->fused || n == params->n_elems);
    if (options->fused && options->clip_norm > 0)
        return nn_fail(NN_UNSUPPORTED,
                       "an update that is fused into the backward pass cannot clip to %g: the "
                       "global norm is known when the last parameter has been updated",
                       options->clip_norm);
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
    if (o->norms) d->backend->free(d, o->norms);
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

static void begin_update(nn_optimizer *o, nn_graph *g)
{
    o->lowers = o->params->half != NULL;
    o->hyper = nn_input(g, "hyper", NN_F32, NN_DIMS(NN_HYPER_COUNT));
}

/* The update of the elements from `at` on, counted from the optimizer's first, as their gradient is
 * shaped. */
static void add_update(nn_optimizer *o, nn_graph *g, int64_t at, nn_tensor *gradient,
                       nn_tensor *norm)
{
    const nn_adamw_options *a = &o->options;
    const nn_adamw_params p = { a->beta1, a->beta2, a->eps, a->weight_decay, a->clip_norm };
    const nn_view like = nn_like(&gradient->view);
    const nn_view half_like = nn_view_make(NN_BF16, like.rank, like.dim);
    nn_params *s = o->params;
    nn_tensor *values = nn_external(g, "values", &like, s->values + o->first + at);
    nn_tensor *m = nn_external(g, "adamw.m", &like, o->m + at);
    nn_tensor *v = nn_external(g, "adamw.v", &like, o->v + at);
    nn_tensor *ema = o->ema ? nn_external(g, "ema", &like, o->ema + at) : NULL;
    nn_tensor *half = s->half ? nn_external(g, "half", &half_like, s->half + o->first + at) : NULL;
    NN_NODE(g, ADAMW, &p, values, gradient, m, v, o->hyper, norm, ema, half);
}

void nn_optimizer_add(nn_optimizer *o, nn_graph *g)
{
    const char *scope = g->scope;
    NN_ASSERT(!o->options.fused);
    g->scope = "optimizer";
    nn_tensor *grads = gradients(o, g);
    begin_update(o, g);
    o->norm = is_part(o) ? nn_input(g, "norm", NN_F32, NN_DIMS(1)) : NN_NODE(g, NORM, NULL, grads);
    nn_keep(o->norm);
    add_update(o, g, 0, grads, o->norm);
    g->scope = scope;
}

/* -- fused into backward ----------------------------------------------------------------------- */

typedef struct fusion {
    nn_optimizer *o;
    bool *updated; /* by the index of a parameter, of joined ones the first's */
} fusion;

/* A parameter is passed over if its own gradient is not finite. */
static void update_param(fusion *f, nn_graph *g, const nn_param *param, nn_tensor *gradient)
{
    nn_tensor *norm = NN_NODE(g, NORM, NULL, gradient);
    if (norm->kind == NN_POISON) return;
    norm->bound = true;
    norm->external = f->o->norms + param->index;
    add_update(f->o, g, param->offset, gradient, norm);
    f->updated[param->index] = true;
}

static void use_gradient(void *ctx, nn_graph *g, nn_tensor *param, nn_tensor *gradient)
{
    update_param(ctx, g, param->param, gradient);
}

/* What the loss does not depend on has a gradient of 0, and decays. */
static void update_others(fusion *f, nn_graph *g)
{
    const nn_params *s = f->o->params;
    for (int64_t i = 0; i < s->n; i++) {
        const nn_param *p = s->items[i]->joined ? s->items[i]->joined : s->items[i];
        if (f->updated[i] || p->inner) continue;
        g->scope = p->name;
        update_param(f, g, p, nn_fill(g, NN_F32, p->view.rank, p->view.dim, 0));
    }
}

void nn_optimizer_backward(nn_optimizer *o, nn_graph *g, nn_tensor *loss)
{
    const char *scope = g->scope;
    const nn_view all = nn_view_make(NN_F32, 1, &o->params->n);
    fusion f = { o, nn_alloc(nn_max(o->params->n, 1), sizeof(*f.updated)) };
    NN_ASSERT(o->options.fused);
    if (!f.updated) {
        nn_graph_stick(g, NN_MEMORY);
        return;
    }
    begin_update(o, g);
    nn_backward_using(g, loss, 1, use_gradient, &f);
    update_others(&f, g);
    g->scope = "optimizer";
    o->norm = NN_NODE(g, NORM, NULL, nn_external(g, "norms", &all, o->norms));
    nn_keep(o->norm);
    g->scope = scope;
    nn_free(f.updated);
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

/* Parameters that the last run of a fused update has changed though others were passed over. */
static nn_status count_updated(const nn_optimizer *o, int64_t *n_updated)
{
    const int64_t n = o->params->n;
    nn_device *d = o->params->device;
    float *norms = nn_alloc(nn_max(n, 1), sizeof(*norms));
    NN_NEED(norms);
    nn_status status = d->backend->read(d, norms, o->norms, n * (int64_t)sizeof(*norms));
    for (int64_t i = 0; i < n && status == NN_OK; i++)
        *n_updated += !o->params->items[i]->inner && isfinite(norms[i]);
    nn_free(norms);
    if (*n_updated)
        nn_log(NN_LOG_WARN,
               "update %" PRId64 ": gradients are not finite; the %" PRId64
               " parameters with finite ones were updated, the others stay as they were",
               o->step, *n_updated);
    return status;
}

nn_status nn_optimizer_end(nn_optimizer *o, nn_plan *plan, float *norm)
{
    *norm = 0;
    changed(o);
    NN_TRY(nn_plan_read(plan, o->norm, norm));
    if (isfinite(*norm)) return NN_OK;
    int64_t n_updated = 0;
    if (o->options.fused) NN_TRY(count_updated(o, &n_updated));
    if (!n_updated) o->step--;
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
