#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef struct job {
    float *y, value;
} job;

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    for (int64_t i = begin; i < end; i++) j->y[i] = j->value;
}

static bool accepts(const nn_call *c)
{
    return c->out[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

static nn_status run(const nn_call *c)
{
    const nn_fill_params *p = c->params;
    job j = { c->out[0].data, (float)p->value };
    nn_pool_for(c->pool, nn_view_elems(&c->out[0]), NN_WALK_GRAIN, part, &j);
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(fill)[] = { { .name = "fill_f32", .accepts = accepts, .run = run },
                                        { 0 } };
