/* geglu and its gradient, row by row. */
#include "kernels/cpu/act.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef struct job {
    const float *x, *dy;
    float *out; /* y, or dx */
    int64_t half, x_stride, dy_stride;
} job;

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t n = j->half;
    for (int64_t r = begin; r < end; r++) {
        const float *value = j->x + r * j->x_stride, *gate = value + n;
        float *y = j->out + r * n;
        int64_t i = 0;
        for (; i + NN_LANES <= n; i += NN_LANES)
            nn_store(y + i, nn_load(value + i) * nn_vgelu(nn_load(gate + i)));
        if (i < n)
            nn_store_n(y + i,
                       nn_load_n(value + i, n - i, 0) * nn_vgelu(nn_load_n(gate + i, n - i, 0)),
                       n - i);
    }
}

typedef struct halves {
    nn_vf value, gate;
} halves;

NN_INLINE halves backward(nn_vf dy, nn_vf value, nn_vf gate)
{
    nn_vf cdf = nn_vnormal_cdf(gate);
    return (halves){ dy * (gate * cdf), dy * value * nn_vgelu_slope(gate, cdf) };
}

static void part_bwd(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t n = j->half;
    for (int64_t r = begin; r < end; r++) {
        const float *dy = j->dy + r * j->dy_stride;
        const float *value = j->x + r * j->x_stride, *gate = value + n;
        float *dx = j->out + r * 2 * n;
        int64_t i = 0;
        for (; i + NN_LANES <= n; i += NN_LANES) {
            halves d = backward(nn_load(dy + i), nn_load(value + i), nn_load(gate + i));
            nn_store(dx + i, d.value);
            nn_store(dx + n + i, d.gate);
        }
        if (i < n) {
            halves d = backward(nn_load_n(dy + i, n - i, 0), nn_load_n(value + i, n - i, 0),
                                nn_load_n(gate + i, n - i, 0));
            nn_store_n(dx + i, d.value, n - i);
            nn_store_n(dx + n + i, d.gate, n - i);
        }
    }
}

static int64_t grain(int64_t half)
{
    return nn_max(1, NN_WALK_GRAIN / 4 / nn_max(half, 1));
}

static bool accepts(const nn_call *c)
{
    nn_rows x;
    return c->in[0].dtype == NN_F32 && nn_rows_of(&c->in[0], &x) && nn_view_contiguous(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    nn_rows x;
    NN_ASSERT(nn_rows_of(&c->in[0], &x));
    job j = {
        .x = c->in[0].data, .out = c->out[0].data, .half = x.width / 2, .x_stride = x.stride
    };
    nn_pool_for(c->pool, x.n, grain(j.half), part, &j);
    return NN_OK;
}

static bool accepts_bwd(const nn_call *c)
{
    nn_rows dy, x;
    return c->in[1].dtype == NN_F32 && nn_rows_of(&c->in[0], &dy) && nn_rows_of(&c->in[1], &x) &&
           nn_view_contiguous(&c->out[0]);
}

static nn_status run_bwd(const nn_call *c)
{
    nn_rows dy, x;
    NN_ASSERT(nn_rows_of(&c->in[0], &dy) && nn_rows_of(&c->in[1], &x));
    job j = { .dy = c->in[0].data,
              .x = c->in[1].data,
              .out = c->out[0].data,
              .half = x.width / 2,
              .x_stride = x.stride,
              .dy_stride = dy.stride };
    nn_pool_for(c->pool, x.n, grain(j.half), part_bwd, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(geglu)[] = {
    { .name = "geglu_f32_rows", .accepts = accepts, .run = run }, { 0 }
};
const nn_kernel NN_CPU_NAME(geglu_bwd)[] = {
    { .name = "geglu_bwd_f32_rows", .accepts = accepts_bwd, .run = run_bwd }, { 0 }
};
