/* adamw: clipping, decay, moments, update, moving average and bf16 copy in one pass over flat
 * buffers. The norm and what changes with the step are read on the device; if the norm is not
 * finite nothing changes. Traffic per element: 16 bytes read and 12 written, with a moving average
 * 4 and 4 more, with a bf16 copy 2 more written. f32. Elements are independent: deterministic. */
#include "kernels/cuda/map.cuh"

enum { VALUES, GRADS, M, V, HYPER, NORM, EMA, HALF };

struct adamw_buffers {
    float *values;
    const float *grads;
    float *m, *v;
    float *ema; /* or NULL */
    bf16 *half; /* or NULL */
    const float *hyper, *norm;
    int64_t hyper_step;
    float *taken;
};

struct adamw_constants {
    float beta1, rest1, beta2, rest2; /* rest = 1 - beta */
    float eps, decay, clip_norm;
};

struct adamw_step { /* of all elements */
    float clip, shrink, rate, root_correct2, ema;
};

struct adamw_element {
    float value, m, v, ema;
};

__device__ __forceinline__ adamw_step adamw_step_of(const adamw_buffers &b,
                                                    const adamw_constants &k, float norm)
{
    const float lr = b.hyper[NN_HYPER_LR * b.hyper_step];
    adamw_step s;
    s.clip = k.clip_norm > 0 ? fminf(1.0f, k.clip_norm / (norm + 1e-6f)) : 1.0f;
    s.shrink = 1.0f - lr * k.decay;
    s.rate = lr / b.hyper[NN_HYPER_CORRECT1 * b.hyper_step];
    s.root_correct2 = rsqrtf(b.hyper[NN_HYPER_CORRECT2 * b.hyper_step]);
    s.ema = b.hyper[NN_HYPER_EMA * b.hyper_step];
    return s;
}

__device__ __forceinline__ void adamw_update(adamw_element &e, float g, const adamw_step &s,
                                             const adamw_constants &k)
{
    g *= s.clip;
    e.m = k.beta1 * e.m + k.rest1 * g;
    e.v = k.beta2 * e.v + k.rest2 * g * g;
    e.value = e.value * s.shrink - s.rate * e.m / (sqrtf(e.v) * s.root_correct2 + k.eps);
    e.ema += s.ema * (e.value - e.ema);
}

/* True if the step is taken; the first thread says so to the host. */
__device__ __forceinline__ bool adamw_taken(const adamw_buffers &b, float norm)
{
    const bool taken = fabsf(norm) < INFINITY;
    if (blockIdx.x == 0 && threadIdx.x == 0) *b.taken = taken ? 1.0f : 0.0f;
    return taken;
}

/* One element at the offsets of the buffers. */
__device__ __forceinline__ void adamw_one(const adamw_buffers &b, const adamw_constants &k,
                                          const adamw_step &s, const int64_t (&at)[6])
{
    adamw_element e = { b.values[at[0]], b.m[at[2]], b.v[at[3]], b.ema ? b.ema[at[4]] : 0.0f };
    adamw_update(e, b.grads[at[1]], s, k);
    b.values[at[0]] = e.value;
    b.m[at[2]] = e.m;
    b.v[at[3]] = e.v;
    if (b.ema) b.ema[at[4]] = e.ema;
    if (b.half) b.half[at[5]] = nn_from<bf16>(e.value);
}

/* A thread owns four elements: one load or store of 16 bytes per buffer (8 of the bf16 copy). */
__global__ void __launch_bounds__(NN_MAP_THREADS)
    adamw_packed(const adamw_buffers b, const adamw_constants k, int64_t n)
{
    const float norm = *b.norm;
    const int64_t i = ((int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x) * 4;
    if (!adamw_taken(b, norm)) return;
    const adamw_step s = adamw_step_of(b, k, norm);
    if (i + 4 <= n) {
        nn_vec<float, 4> value = nn_load<4>(b.values + i), m = nn_load<4>(b.m + i);
        nn_vec<float, 4> v = nn_load<4>(b.v + i), ema = {};
        const nn_vec<float, 4> g = nn_load<4>(b.grads + i);
        nn_vec<bf16, 4> half;
        if (b.ema) ema = nn_load<4>(b.ema + i);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            adamw_element e = { value.at[j], m.at[j], v.at[j], ema.at[j] };
            adamw_update(e, g.at[j], s, k);
            value.at[j] = e.value;
            m.at[j] = e.m;
            v.at[j] = e.v;
            ema.at[j] = e.ema;
            half.at[j] = nn_from<bf16>(e.value);
        }
        nn_store(b.values + i, value);
        nn_store(b.m + i, m);
        nn_store(b.v + i, v);
        if (b.ema) nn_store(b.ema + i, ema);
        if (b.half) nn_store(b.half + i, half);
        return;
    }
    for (int64_t j = i; j < n; j++) {
        const int64_t at[6] = { j, j, j, j, j, j };
        adamw_one(b, k, s, at);
    }
}

/* A thread owns one element of any strides. Views: values, grads, m, v, ema, half. */
__global__ void __launch_bounds__(NN_MAP_THREADS)
    adamw_steps(const adamw_buffers b, const adamw_constants k, const nn_steps<6> steps)
{
    const float norm = *b.norm;
    const int64_t i = (int64_t)blockIdx.x * NN_MAP_THREADS + threadIdx.x;
    if (!adamw_taken(b, norm) || i >= steps.n) return;
    int64_t at[6];
    nn_offsets(steps, i, at);
    adamw_one(b, k, adamw_step_of(b, k, norm), at);
}

static adamw_buffers buffers_of(const nn_call *c)
{
    float *const ema = nn_present(&c->in[EMA]) ? static_cast<float *>(c->in[EMA].data) : nullptr;
    bf16 *const half = nn_present(&c->in[HALF]) ? static_cast<bf16 *>(c->in[HALF].data) : nullptr;
    return { .values = static_cast<float *>(c->in[VALUES].data),
             .grads = static_cast<const float *>(c->in[GRADS].data),
             .m = static_cast<float *>(c->in[M].data),
             .v = static_cast<float *>(c->in[V].data),
             .ema = ema,
             .half = half,
             .hyper = static_cast<const float *>(c->in[HYPER].data),
             .norm = static_cast<const float *>(c->in[NORM].data),
             .hyper_step = c->in[HYPER].stride[0],
             .taken = static_cast<float *>(c->out[0].data) };
}

static adamw_constants constants_of(const nn_call *c)
{
    const nn_adamw_params *p = static_cast<const nn_adamw_params *>(c->params);
    return { (float)p->beta1, (float)(1 - p->beta1),  (float)p->beta2,    (float)(1 - p->beta2),
             (float)p->eps,   (float)p->weight_decay, (float)p->clip_norm };
}

static bool accepts_steps(const nn_call *c)
{
    bool fit = c->out[0].dtype == NN_F32;
    for (int k = 0; k < HALF; k++)
        fit = fit && (c->in[k].dtype == NN_F32 || (k == EMA && !nn_present(&c->in[k])));
    return fit && (!nn_present(&c->in[HALF]) || c->in[HALF].dtype == NN_BF16);
}

static bool accepts_packed(const nn_call *c)
{
    static const int flat[] = { VALUES, GRADS, M, V, EMA, HALF };
    bool fit = accepts_steps(c);
    for (int k : flat)
        fit = fit && (!nn_present(&c->in[k]) ||
                      (nn_view_contiguous(&c->in[k]) && nn_aligned16(&c->in[k])));
    return fit;
}

static nn_status run_packed(const nn_call *c)
{
    const int64_t n = nn_view_elems(&c->in[VALUES]);
    const int64_t blocks = nn_ceil_div(n, NN_MAP_THREADS * 4);
    return NN_LAUNCH(adamw_packed, (unsigned)(blocks ? blocks : 1), NN_MAP_THREADS, 0, c,
                     buffers_of(c), constants_of(c), n);
}

static nn_status run_steps(const nn_call *c)
{
    const nn_view *const values = &c->in[VALUES];
    const nn_view *const ema = nn_present(&c->in[EMA]) ? &c->in[EMA] : values;
    const nn_view *const half = nn_present(&c->in[HALF]) ? &c->in[HALF] : values;
    const nn_view *const views[6] = { values, &c->in[GRADS], &c->in[M], &c->in[V], ema, half };
    const nn_steps<6> steps = nn_steps_of(values, views);
    const int64_t blocks = nn_ceil_div(steps.n, NN_MAP_THREADS);
    return NN_LAUNCH(adamw_steps, (unsigned)(blocks ? blocks : 1), NN_MAP_THREADS, 0, c,
                     buffers_of(c), constants_of(c), steps);
}

extern "C" const nn_kernel nn_cuda_adamw[] = {
    { .name = "adamw_packed", .accepts = accepts_packed, .run = run_packed },
    { .name = "adamw_steps", .accepts = accepts_steps, .run = run_steps },
    {}
};
