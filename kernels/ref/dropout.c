/* Oracle of dropout. Element i (in row-major order of the shape) is dropped if word i % 4 of Philox
 * at counter i / 4 under the call's seed lies below p * 2^32. */
#include "engine/base/rng.h"
#include "kernels/ref/ref.h"

static nn_status run(const nn_call *c)
{
    const nn_dropout_params *p = c->params;
    const nn_view *x = &c->in[0], *y = &c->out[0];
    const uint32_t key[2] = { (uint32_t)c->seed, (uint32_t)(c->seed >> 32) };
    const uint32_t threshold = (uint32_t)(p->p * 0x1p32);
    uint64_t at = 0;
    NN_REF_EACH(i, x)
    {
        uint32_t word[4] = { (uint32_t)(at / 4), (uint32_t)(at / 4 >> 32), 0, 0 };
        nn_philox(word, key);
        bool kept = word[at++ % 4] >= threshold;
        double value = kept ? nn_ref_get(x, nn_ref_offset(x, &i)) / (1 - p->p) : 0;
        nn_ref_put(y, nn_ref_offset(y, &i), value);
    }
    return NN_OK;
}

const nn_kernel nn_ref_dropout[] = { { .name = "dropout_any", .run = run }, { 0 } };
