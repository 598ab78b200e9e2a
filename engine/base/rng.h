/* Random numbers as a function of what they are for, never of when they are drawn.
 *
 * A stream is keyed by (seed, name, index): the same sample gets the same noise on any number of
 * threads or devices. The generator is Philox4x32-10 (Salmon et al. 2011). The torch generator
 * below exists so that a seed gives the picture that users of the reference pipelines know. */
#ifndef ENGINE_BASE_RNG_H
#define ENGINE_BASE_RNG_H

#include <stdint.h>

typedef struct nn_rng {
    uint64_t key;
    uint64_t index;   /* upper half of the counter */
    uint64_t counter; /* lower half: blocks drawn so far */
    uint32_t block[4];
    int left; /* unused words of block */
} nn_rng;

/* Ten rounds of Philox on counter[4] under key[2], in place. */
void nn_philox(uint32_t counter[4], const uint32_t key[2]);

/* FNV-1a, 64 bits. start = 0 begins; pass the last result to go on. */
uint64_t nn_hash(uint64_t start, const void *bytes, int64_t n);
uint64_t nn_hash_text(const char *text);

/* A well mixed 64-bit key from two. */
uint64_t nn_mix(uint64_t a, uint64_t b);

nn_rng nn_rng_make(uint64_t seed, const char *stream, uint64_t index);
uint32_t nn_rng_u32(nn_rng *rng);
uint64_t nn_rng_below(nn_rng *rng, uint64_t n); /* 0 .. n-1, unbiased; n > 0 */
float nn_rng_uniform(nn_rng *rng);              /* [0, 1), 24 bits */
float nn_rng_normal(nn_rng *rng);               /* Box-Muller, one of the pair */
void nn_rng_normal_fill(nn_rng *rng, float *out, int64_t n);

/* Random order of 0 .. n-1 (Fisher-Yates). */
void nn_rng_permute(nn_rng *rng, int64_t *out, int64_t n);

/* torch.Generator on the CPU: MT19937 and torch's two normal algorithms. State is plain data and
 * may be copied. */
typedef struct nn_torch_rng {
    uint32_t state[624];
    int next;
    int has_normal; /* the second of a double Box-Muller pair waits in `normal` */
    double normal;
} nn_torch_rng;

void nn_torch_seed(nn_torch_rng *rng, uint64_t seed);
uint32_t nn_torch_u32(nn_torch_rng *rng);
void nn_torch_rand(nn_torch_rng *rng, float *out, int64_t n);
void nn_torch_randn(nn_torch_rng *rng, float *out, int64_t n); /* torch.randn(n), contiguous f32 */

/* torch.Generator on a CUDA device: Philox, so a seed and how far it has come. */
typedef struct nn_torch_cuda_rng {
    uint64_t seed, offset; /* a fresh generator has offset 0 */
    int64_t max_threads;   /* multiprocessors * threads each can hold; decides the order of the
                              numbers when more than so many are drawn at once */
} nn_torch_cuda_rng;

/* torch.randn(n, device="cuda"), contiguous f32, up to the last digits of the device's fast sine.
 * Source: ATen/native/cuda/DistributionTemplates.h. */
void nn_torch_cuda_randn(nn_torch_cuda_rng *rng, float *out, int64_t n);

#endif
