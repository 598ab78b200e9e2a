/* Philox4x32-10, bit for bit that of engine/base/rng.h. */
#ifndef KERNELS_CUDA_PHILOX_CUH
#define KERNELS_CUDA_PHILOX_CUH

#include "kernels/cuda/cuda.cuh"

struct nn_philox_words {
    uint32_t at[4];
};

/* Ten rounds on the counter (block, 0) under the key: words 4 block .. 4 block + 3 of the stream
 * that the key names. */
__device__ __forceinline__ nn_philox_words nn_philox_at(uint64_t block, uint64_t key)
{
    nn_philox_words c = { { (uint32_t)block, (uint32_t)(block >> 32), 0, 0 } };
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c.at[0], p1 = (uint64_t)0xCD9E8D57u * c.at[2];
        c = { { (uint32_t)(p1 >> 32) ^ c.at[1] ^ k0, (uint32_t)p1,
                (uint32_t)(p0 >> 32) ^ c.at[3] ^ k1, (uint32_t)p0 } };
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Where a running kernel finds its key: in the call or, since runs are recorded and repeated, in
 * device memory. */
struct nn_philox_key {
    const uint64_t *run_seed; /* NULL: the key is `seed` */
    uint64_t seed, stream_id;
};

static inline nn_philox_key nn_philox_key_of(const nn_call *c)
{
    return { c->run_seed, c->seed, c->stream_id };
}

/* The key; mixed as nn_mix of engine/base/rng.h does, bit for bit. */
__device__ __forceinline__ uint64_t nn_philox_take(const nn_philox_key &key)
{
    if (!key.run_seed) return key.seed;
    uint64_t z = *key.run_seed + (key.stream_id + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

#endif
