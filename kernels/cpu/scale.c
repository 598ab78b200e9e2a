#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef struct job {
    nn_walk walk; /* views: y, x */
    float *y;
    const float *x;
    float factor, offset;
} job;

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t step = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        float *y = j->y + r.at[0];
        const float *x = j->x + r.at[1];
        int64_t i = 0;
        for (; i + NN_LANES <= r.n; i += NN_LANES)
            nn_store(y + i, nn_load_step(x + i * step, step, NN_LANES) * j->factor + j->offset);
        if (i < r.n)
            nn_store_n(y + i, nn_load_step(x + i * step, step, r.n - i) * j->factor + j->offset,
                       r.n - i);
    }
}

static bool accepts(const nn_call *c)
{
    return c->in[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    const nn_scale_params *p = c->params;
    const nn_view *views[] = { &c->out[0], &c->in[0] };
    job j = { nn_walk_make(views[0], 2, views), c->out[0].data, c->in[0].data, (float)p->factor,
              (float)p->offset };
    nn_pool_for(c->pool, j.walk.n, NN_WALK_GRAIN, part, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(scale)[] = {
    { .name = "scale_f32_runs", .accepts = accepts, .run = run }, { 0 }
};
