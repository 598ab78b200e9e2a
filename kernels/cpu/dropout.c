/* dropout_f32_philox: sixteen counters at a time, four elements each. Which element is dropped is a
 * function of the seed and its place alone, the same on every backend: see kernels/ref/dropout.c.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { WIDE = 16 };

/* Ten rounds of Philox4x32 on WIDE counters block, block + 1, ...; word[w][l] belongs to counter l.
 */
static void philox(uint64_t block, uint64_t key, uint32_t word[4][WIDE])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int l = 0; l < WIDE; l++) {
        word[0][l] = (uint32_t)(block + (uint64_t)l);
        word[1][l] = (uint32_t)((block + (uint64_t)l) >> 32);
        word[2][l] = word[3][l] = 0;
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < WIDE; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * word[0][l];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * word[2][l];
            word[0][l] = (uint32_t)(p1 >> 32) ^ word[1][l] ^ k0;
            word[1][l] = (uint32_t)p1;
            word[2][l] = (uint32_t)(p0 >> 32) ^ word[3][l] ^ k1;
            word[3][l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static void do_elements(void *ctx, int thread, int64_t begin, int64_t end)
{
    const nn_call *c = ctx;
    const nn_dropout_params *p = c->params;
    const uint32_t threshold = (uint32_t)(p->p * 0x1p32);
    const float scale = (float)(1 / (1 - p->p));
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    (void)thread;
    for (int64_t i = begin; i < end; i += 4 * WIDE) {
        uint32_t word[4][WIDE];
        float factor[4 * WIDE];
        philox((uint64_t)i / 4, c->seed, word);
        for (int l = 0; l < WIDE; l++)
            for (int w = 0; w < 4; w++) factor[4 * l + w] = word[w][l] >= threshold ? scale : 0;
        int64_t n = nn_min(end - i, 4 * WIDE);
        /* not x * factor: what is dropped is 0 even where x is not finite */
        for (int64_t k = 0; k < n; k++) y[i + k] = factor[k] > 0 ? x[i + k] * scale : 0;
    }
}

static nn_status run(const nn_call *c)
{
    nn_pool_for(c->pool, nn_view_elems(&c->in[0]), 4 * WIDE, do_elements, (void *)(uintptr_t)c);
    return NN_OK;
}

static bool accepts(const nn_call *c)
{
    return nn_packed_f32(&c->in[0]);
}

const nn_kernel NN_CPU_NAME(dropout)[] = {
    { .name = "dropout_f32_philox", .accepts = accepts, .run = run }, { 0 }
};
