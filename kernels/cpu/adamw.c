/* adamw_f32_flat: one pass, each element read and written once. Order of operations as
 * torch.optim.AdamW (the form for one tensor). */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { VALUES, GRADS, M, V, HYPER, NORM, EMA };

typedef struct step { /* what is the same for all elements */
    const nn_call *c;
    float clip, keep, beta1, beta2, rest1, rest2, rate, root2, eps, blend;
} step;

static void update(const step *s, int64_t n, float *restrict values, const float *restrict grads,
                   float *restrict m, float *restrict v)
{
    for (int64_t i = 0; i < n; i++) {
        float g = grads[i] * s->clip;
        m[i] = s->beta1 * m[i] + s->rest1 * g;
        v[i] = s->beta2 * v[i] + s->rest2 * g * g;
        values[i] = s->keep * values[i] - s->rate * m[i] / (sqrtf(v[i]) / s->root2 + s->eps);
    }
}

static void follow(float blend, int64_t n, const float *restrict values, float *restrict ema)
{
    for (int64_t i = 0; i < n; i++) ema[i] += blend * (values[i] - ema[i]);
}

static void do_elements(void *ctx, int thread, int64_t begin, int64_t end)
{
    enum { CHUNK = 2048 }; /* the average follows while the values are in the first cache */
    const step *s = ctx;
    const nn_call *c = s->c;
    (void)thread;
    for (int64_t i = begin; i < end; i += CHUNK) {
        int64_t n = nn_min(end - i, CHUNK);
        float *values = (float *)c->in[VALUES].data + i;
        update(s, n, values, (const float *)c->in[GRADS].data + i, (float *)c->in[M].data + i,
               (float *)c->in[V].data + i);
        if (nn_present(&c->in[EMA])) follow(s->blend, n, values, (float *)c->in[EMA].data + i);
    }
}

static nn_status run(const nn_call *c)
{
    const nn_adamw_params *p = c->params;
    const float *hyper = c->in[HYPER].data, norm = *(const float *)c->in[NORM].data;
    double lr = (double)hyper[NN_HYPER_LR];
    step s = { .c = c,
               .clip = 1,
               .keep = (float)(1 - lr * p->weight_decay),
               .beta1 = (float)p->beta1,
               .beta2 = (float)p->beta2,
               .rest1 = (float)(1 - p->beta1),
               .rest2 = (float)(1 - p->beta2),
               .rate = (float)(lr / (double)hyper[NN_HYPER_CORRECT1]),
               .root2 = (float)sqrt((double)hyper[NN_HYPER_CORRECT2]),
               .eps = (float)p->eps,
               .blend = hyper[NN_HYPER_EMA] };
    *(float *)c->out[0].data = isfinite(norm) ? 1 : 0;
    if (!isfinite(norm)) return NN_OK;
    if (p->clip_norm > 0) s.clip = (float)fmin(1, p->clip_norm / ((double)norm + 1e-6));
    nn_pool_for(c->pool, nn_view_elems(&c->in[VALUES]), 64, do_elements, &s);
    return NN_OK;
}

static bool accepts(const nn_call *c)
{
    for (int i = VALUES; i <= EMA; i++)
        if (nn_present(&c->in[i]) && !nn_packed_f32(&c->in[i])) return false;
    return !nn_present(&c->in[EMA + 1]); /* it makes no bf16 copy */
}

const nn_kernel NN_CPU_NAME(adamw)[] = {
    { .name = "adamw_f32_flat", .accepts = accepts, .run = run }, { 0 }
};
