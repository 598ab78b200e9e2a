#include "kernels/cpu/binary.h"

static nn_vf combine(nn_vf a, nn_vf b)
{
    return a * b;
}

static void part(void *ctx, int thread, int64_t begin, int64_t end)
{
    (void)thread;
    nn_binary_part(ctx, begin, end, combine);
}

static nn_status run(const nn_call *c)
{
    return nn_binary_run(c, part);
}

const nn_kernel NN_CPU_NAME(mul)[] = {
    { .name = "mul_f32_runs", .accepts = nn_binary_accepts, .run = run }, { 0 }
};
