/* concat: each part is copied run by run to its place; any type of 4 bytes. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef struct job {
    nn_walk walk; /* views: the part's place in y, the part */
    uint32_t *y;
    const uint32_t *x;
} job;

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    const job *j = ctx;
    int64_t sy = nn_walk_inner(&j->walk, 0), sx = nn_walk_inner(&j->walk, 1);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        uint32_t *y = j->y + r.at[0];
        const uint32_t *x = j->x + r.at[1];
        if (sy == 1 && sx == 1)
            memcpy(y, x, (size_t)r.n * sizeof(*y));
        else
            for (int64_t i = 0; i < r.n; i++) y[i * sy] = x[i * sx];
    }
}

static bool accepts(const nn_call *c)
{
    return nn_dtype_bytes(c->out[0].dtype) == 4;
}

static nn_status run(const nn_call *c)
{
    const nn_concat_params *p = c->params;
    int64_t at = 0;
    for (int k = 0; k < c->n_in; k++) {
        const nn_view *x = &c->in[k];
        nn_view place = c->out[0];
        place.dim[p->axis] = x->dim[p->axis];
        const nn_view *views[] = { &place, x };
        job j = { nn_walk_make(&place, 2, views),
                  (uint32_t *)place.data + at * place.stride[p->axis], x->data };
        nn_pool_for(c->pool, j.walk.n, NN_WALK_GRAIN, part, &j);
        at += x->dim[p->axis];
    }
    return NN_OK;
}

const nn_kernel NN_CPU_NAME(concat)[] = {
    { .name = "concat_b32_runs", .accepts = accepts, .run = run }, { 0 }
};
