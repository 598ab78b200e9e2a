/* norm_f32_chunks: chunks of fixed size, summed in f32 lanes and added in order, in double: the
 * result does not depend on the number of threads. Reads every element once. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd.h"

enum { CHUNK = 4096 };

static float squares(const float *x, int64_t n)
{
    nn_vf s[4] = { nn_set(0), nn_set(0), nn_set(0), nn_set(0) };
    int64_t i = 0;
    for (; i + 4 * NN_LANES <= n; i += 4 * NN_LANES) {
        for (int k = 0; k < 4; k++) {
            nn_vf a = nn_load(x + i + k * NN_LANES);
            s[k] += a * a;
        }
    }
    float sum = nn_hsum((s[0] + s[1]) + (s[2] + s[3]));
    for (; i < n; i++) sum += x[i] * x[i];
    return sum;
}

static void do_chunks(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    int64_t n = nn_view_elems(&c->in[0]);
    double *sums = c->workspace;
    (void)thread;
    for (int64_t k = begin; k < end; k++)
        sums[k] =
            (double)squares((const float *)c->in[0].data + k * CHUNK, nn_min(n - k * CHUNK, CHUNK));
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
    *(float *)c->out[0].data = (float)sqrt(sum);
    return NN_OK;
}

static size_t workspace(const nn_call *c)
{
    return (size_t)n_chunks(&c->in[0]) * sizeof(double);
}

static bool accepts(const nn_call *c)
{
    return nn_packed_f32(&c->in[0]);
}

const nn_kernel NN_CPU_NAME(norm)[] = {
    { .name = "norm_f32_chunks", .accepts = accepts, .run = run, .workspace = workspace }, { 0 }
};
