/* focal_f32_chunks: chunks of fixed size, whose sums are added in order, in double: the result does
 * not depend on the number of threads. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { CHUNK = 1024 };

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static float cross_entropy(float x, float y)
{
    return fmaxf(x, 0) - x * y + log1pf(expf(-fabsf(x)));
}

static float slope(float x, float y, float gamma)
{
    float p = sigmoid(x), miss = fabsf(p - y);
    float direct = powf(miss, gamma) * (p - y);
    if (!(miss > 0) || gamma == 0) return direct;
    return direct +
           gamma * powf(miss, gamma - 1) * copysignf(p * (1 - p), p - y) * cross_entropy(x, y);
}

static void do_chunks(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_focal_params *p = c->params;
    const float *x = c->in[0].data, *y = c->in[1].data;
    int64_t n = nn_view_elems(&c->in[0]);
    double *sums = c->workspace;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        double sum = 0;
        for (int64_t i = k * CHUNK; i < nn_min((k + 1) * CHUNK, n); i++)
            sum += (double)(powf(fabsf(sigmoid(x[i]) - y[i]), (float)p->gamma) *
                            cross_entropy(x[i], y[i]));
        sums[k] = sum;
    }
}

static int64_t n_chunks(const nn_view *x)
{
    return (nn_view_elems(x) + CHUNK - 1) / CHUNK;
}

static nn_status run(const nn_call *c)
{
    int64_t n = n_chunks(&c->in[0]);
    const double *sums = c->workspace;
    nn_pool_for(c->pool, n, 1, do_chunks, (void *)(uintptr_t)c);
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += sums[k];
    *(float *)c->out[0].data = (float)(sum / (double)c->in[0].dim[0]);
    return NN_OK;
}

static size_t workspace(const nn_call *c)
{
    return (size_t)n_chunks(&c->in[0]) * sizeof(double);
}

static bool accepts(const nn_call *c)
{
    return nn_packed_f32(&c->in[0]) && nn_packed_f32(&c->in[1]);
}

static void do_elements_bwd(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_focal_params *p = c->params;
    const float *x = c->in[1].data, *y = c->in[2].data;
    float *dx = c->out[0].data, scale = *(const float *)c->in[0].data / (float)c->in[1].dim[0];
    (void)thread;
    for (int64_t i = begin; i < end; i++) dx[i] = scale * slope(x[i], y[i], (float)p->gamma);
}

static nn_status run_bwd(const nn_call *c)
{
    nn_pool_for(c->pool, nn_view_elems(&c->in[1]), CHUNK, do_elements_bwd, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    return nn_packed_f32(&c->in[1]) && nn_packed_f32(&c->in[2]);
}

const nn_kernel NN_CPU_NAME(focal)[] = {
    { .name = "focal_f32_chunks", .accepts = accepts, .run = run, .workspace = workspace }, { 0 }
};
const nn_kernel NN_CPU_NAME(focal_bwd)[] = {
    { .name = "focal_bwd_f32_elements", .accepts = accepts_bwd, .run = run_bwd }, { 0 }
};
