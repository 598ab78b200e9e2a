/* mse_f32_chunks: samples are cut into chunks of fixed size; the sums of the chunks are added in
 * order, in double: the result does not depend on the number of threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd.h"

enum { CHUNK = 8192 };

static int64_t sample_elems(const nn_view *x)
{
    return nn_view_elems(x) / x->dim[0];
}

static int64_t n_chunks(const nn_view *x) /* of one sample */
{
    return (sample_elems(x) + CHUNK - 1) / CHUNK;
}

static float weight_of(const nn_view *weight, int64_t sample)
{
    return nn_present(weight) ? ((const float *)weight->data)[sample * weight->stride[0]] : 1;
}

static float squares(const float *x, const float *y, int64_t n)
{
    nn_vf s0 = nn_set(0), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * NN_LANES <= n; i += 2 * NN_LANES) {
        nn_vf a = nn_load(x + i) - nn_load(y + i);
        nn_vf b = nn_load(x + i + NN_LANES) - nn_load(y + i + NN_LANES);
        s0 += a * a;
        s1 += b * b;
    }
    float sum = nn_hsum(s0 + s1);
    for (; i < n; i++) sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
}

static void do_chunks(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_view *x = &c->in[0];
    int64_t per = n_chunks(x), elems = sample_elems(x);
    double *sums = c->workspace;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = i / per, from = i % per * CHUNK, at = sample * elems + from;
        sums[i] = (double)weight_of(&c->in[2], sample) *
                  (double)squares((const float *)x->data + at, (const float *)c->in[1].data + at,
                                  nn_min(elems - from, CHUNK));
    }
}

static nn_status run(const nn_call *c)
{
    const nn_view *x = &c->in[0];
    const double *sums = c->workspace;
    int64_t n = x->dim[0] * n_chunks(x);
    nn_pool_for(c->pool, n, 1, do_chunks, (void *)(uintptr_t)c);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += sums[i];
    *(float *)c->out[0].data = (float)(sum / (double)nn_view_elems(x));
    return NN_OK;
}

static size_t workspace(const nn_call *c)
{
    return (size_t)(c->in[0].dim[0] * n_chunks(&c->in[0])) * sizeof(double);
}

static bool accepts(const nn_call *c)
{
    return nn_packed_f32(&c->in[0]) && nn_packed_f32(&c->in[1]) &&
           (!nn_present(&c->in[2]) || c->in[2].dtype == NN_F32);
}

static void do_chunks_bwd(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    int64_t elems = sample_elems(&c->in[1]), per = n_chunks(&c->in[1]);
    const float *x = c->in[1].data, *y = c->in[2].data;
    float *dx = c->out[0].data;
    float scale =
        (float)(2.0 * (double)*(const float *)c->in[0].data / (double)nn_view_elems(&c->in[1]));
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = i / per, from = i % per * CHUNK;
        int64_t at = sample * elems + from, stop = at + nn_min(elems - from, CHUNK);
        float factor = scale * weight_of(&c->in[3], sample);
        for (; at + NN_LANES <= stop; at += NN_LANES)
            nn_store(dx + at, factor * (nn_load(x + at) - nn_load(y + at)));
        for (; at < stop; at++) dx[at] = factor * (x[at] - y[at]);
    }
}

static nn_status run_bwd(const nn_call *c)
{
    const nn_view *x = &c->in[1];
    nn_pool_for(c->pool, x->dim[0] * n_chunks(x), 1, do_chunks_bwd, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    return nn_packed_f32(&c->in[1]) && nn_packed_f32(&c->in[2]) &&
           (!nn_present(&c->in[3]) || c->in[3].dtype == NN_F32);
}

const nn_kernel NN_CPU_NAME(mse)[] = {
    { .name = "mse_f32_chunks", .accepts = accepts, .run = run, .workspace = workspace }, { 0 }
};
const nn_kernel NN_CPU_NAME(mse_bwd)[] = {
    { .name = "mse_bwd_f32_chunks", .accepts = accepts_bwd, .run = run_bwd }, { 0 }
};
