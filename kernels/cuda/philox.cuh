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

#endif
