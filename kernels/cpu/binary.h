/* Element by element over two operands with broadcasting: what add and mul share. Right in place:
 * each element is read before it is written. */
#ifndef KERNELS_CPU_BINARY_H
#define KERNELS_CPU_BINARY_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/walk.h"

typedef nn_vf nn_binary_fn(nn_vf a, nn_vf b);

typedef struct nn_binary_job {
    nn_walk walk; /* views: y, a, b */
    float *y;
    const float *a, *b;
} nn_binary_job;

NN_INLINE void nn_binary_part(const nn_binary_job *j, int64_t begin, int64_t end, nn_binary_fn *f)
{
    int64_t sa = nn_walk_inner(&j->walk, 1), sb = nn_walk_inner(&j->walk, 2);
    for (nn_run r = nn_run_first(&j->walk, begin, end); r.n; nn_run_next(&j->walk, &r)) {
        float *y = j->y + r.at[0];
        const float *a = j->a + r.at[1], *b = j->b + r.at[2];
        int64_t i = 0;
        for (; i + NN_LANES <= r.n; i += NN_LANES)
            nn_store(y + i, f(nn_load_step(a + i * sa, sa, NN_LANES),
                              nn_load_step(b + i * sb, sb, NN_LANES)));
        if (i < r.n)
            nn_store_n(
                y + i,
                f(nn_load_step(a + i * sa, sa, r.n - i), nn_load_step(b + i * sb, sb, r.n - i)),
                r.n - i);
    }
}

NN_INLINE bool nn_binary_accepts(const nn_call *c)
{
    return c->in[0].dtype == NN_F32 && nn_view_contiguous(&c->out[0]);
}

NN_INLINE nn_status nn_binary_run(const nn_call *c, nn_pool_fn *part)
{
    const nn_view *views[] = { &c->out[0], &c->in[0], &c->in[1] };
    nn_binary_job j = { nn_walk_make(views[0], 3, views), c->out[0].data, c->in[0].data,
                        c->in[1].data };
    nn_pool_for(c->pool, j.walk.n, NN_WALK_GRAIN, part, &j);
    return NN_OK;
}

#endif
