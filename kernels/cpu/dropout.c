/* dropout_f32_philox: sixteen counters at a time, four elements each. Which element is dropped is a
 * function of the seed and its place alone, the same on every backend: see kernels/ref/dropout.c.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { WIDE = 16 };

typedef uint32_t words __attribute__((vector_size(4 * WIDE)));
typedef uint64_t products __attribute__((vector_size(8 * WIDE)));

/* Ten rounds of Philox4x32 on WIDE counters block, block + 1, ...; lane l of word[w] belongs to
 * counter l. */
static void philox(uint64_t block, uint64_t key, words word[4])
{
    words c0, c1, c2 = { 0 }, c3 = { 0 };
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int l = 0; l < WIDE; l++) {
        c0[l] = (uint32_t)(block + (uint64_t)l);
        c1[l] = (uint32_t)((block + (uint64_t)l) >> 32);
    }
    for (int round = 0; round < 10; round++) {
        products p0 = __builtin_convertvector(c0, products) * 0xD2511F53u;
        products p1 = __builtin_convertvector(c2, products) * 0xCD9E8D57u;
        c0 = __builtin_convertvector(p1 >> 32, words) ^ c1 ^ k0;
        c1 = __builtin_convertvector(p1, words);
        c2 = __builtin_convertvector(p0 >> 32, words) ^ c3 ^ k1;
        c3 = __builtin_convertvector(p0, words);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
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
        words word[4];
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
