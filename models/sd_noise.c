/* The random numbers of a picture. */
#include "models/sd_draw.h"

/* An A100's. Latents of more numbers have another order on other cards. */
enum { CUDA_THREADS = 108 * 2048 };

void sd_noise_init(sd_noise *n, sd_rng kind, uint64_t seed)
{
    *n = (sd_noise){ .kind = kind,
                     .seed = seed,
                     .torch_cuda = { .seed = seed, .max_threads = CUDA_THREADS } };
    if (kind == SD_RNG_TORCH_CPU) nn_torch_seed(&n->torch, seed);
}

void sd_noise_draw(sd_noise *n, const char *stream, uint64_t index, int64_t h, int64_t w, int64_t c,
                   float *scratch, float *out)
{
    if (n->kind == SD_RNG_PHILOX) {
        nn_rng rng = nn_rng_make(n->seed, stream, index);
        nn_rng_normal_fill(&rng, out, h * w * c);
        return;
    }
    if (n->kind == SD_RNG_TORCH_CPU)
        nn_torch_randn(&n->torch, scratch, h * w * c);
    else
        nn_torch_cuda_randn(&n->torch_cuda, scratch, h * w * c);
    for (int64_t p = 0; p < h * w; p++)
        for (int64_t k = 0; k < c; k++) out[p * c + k] = scratch[k * h * w + p];
}
