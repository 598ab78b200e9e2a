/* Oracle of adamw. */
#include <math.h>

#include "kernels/ref/ref.h"

enum { VALUES, GRADS, M, V, HYPER, NORM, EMA, HALF };

static double hyper(const nn_call *c, int which)
{
    return nn_ref_get(&c->in[HYPER], which * c->in[HYPER].stride[0]);
}

/* One element: v[VALUES], v[M], v[V], v[EMA] are updated from v[GRADS]; v[HALF] is v[VALUES]. */
static void update(const nn_call *c, double clip, double v[])
{
    const nn_adamw_params *p = c->params;
    double lr = hyper(c, NN_HYPER_LR), g = v[GRADS] * clip;
    v[VALUES] *= 1 - lr * p->weight_decay;
    v[M] = p->beta1 * v[M] + (1 - p->beta1) * g;
    v[V] = p->beta2 * v[V] + (1 - p->beta2) * g * g;
    double denominator = sqrt(v[V]) / sqrt(hyper(c, NN_HYPER_CORRECT2)) + p->eps;
    v[VALUES] -= lr / hyper(c, NN_HYPER_CORRECT1) * v[M] / denominator;
    v[EMA] += hyper(c, NN_HYPER_EMA) * (v[VALUES] - v[EMA]);
    v[HALF] = v[VALUES];
}

static nn_status run(const nn_call *c)
{
    static const int changed[] = { VALUES, M, V, EMA, HALF };
    const nn_adamw_params *p = c->params;
    double norm = nn_ref_get(&c->in[NORM], 0), clip = 1;
    nn_ref_put(&c->out[0], 0, isfinite(norm) ? 1 : 0);
    if (!isfinite(norm)) return NN_OK;
    if (p->clip_norm > 0) clip = fmin(1, p->clip_norm / (norm + 1e-6));
    NN_REF_EACH(i, &c->in[VALUES])
    {
        double v[HALF + 1] = { 0 };
        for (int k = 0; k <= EMA; k++)
            if (k != HYPER && k != NORM && nn_present(&c->in[k]))
                v[k] = nn_ref_get(&c->in[k], nn_ref_offset(&c->in[k], &i));
        update(c, clip, v);
        for (int k = 0; k < NN_COUNT(changed); k++)
            if (nn_present(&c->in[changed[k]]))
                nn_ref_put(&c->in[changed[k]], nn_ref_offset(&c->in[changed[k]], &i),
                           v[changed[k]]);
    }
    return NN_OK;
}

const nn_kernel nn_ref_adamw[] = { { .name = "adamw_any", .run = run }, { 0 } };
