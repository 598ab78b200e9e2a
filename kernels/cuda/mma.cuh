/* The only inline PTX: tensor-core products, fragment loads, asynchronous copies, fast functions.
 *
 * Fragments, for lane l with g = l / 4 and t = l % 4 (PTX ISA, "Matrix fragments for
 * mma.m16n8k16"): D [16,8] f32   d0,d1 = row g, columns 2t, 2t+1;   d2,d3 = row g + 8 A [16,16] a0
 * = row g, columns 2t,2t+1;  a1 = row g + 8;  a2, a3 = the same, columns + 8 B [16,8]       b0 =
 * rows 2t,2t+1 of column g;  b1 = the same, rows + 8 m16n8k8 has a0, a1 and b alone. In tf32
 * (m16n8k8) an operand is one f32: a0 = (g, t), a1 = (g + 8, t), a2 = (g, t + 4), a3 = (g + 8, t +
 * 4), b0 = (t, g), b1 = (t + 4, g).
 *
 * ldmatrix: lane l gives the address of a row of 16 bytes, lanes 8i .. 8i + 7 those of matrix i; a
 * lane receives of each matrix the pair at row l / 4, columns 2 (l % 4); `_trans` transposes. */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/cuda.cuh"

#ifdef NN_CUSIM
#include "cusim_ptx.h"
#else

/* d += a b, f32 accumulation. */
__device__ __forceinline__ void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_bf16_1688(float (&d)[4], const uint32_t (&a)[2], uint32_t b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

__device__ __forceinline__ void mma_tf32_1688(float (&d)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Address in the window of shared memory. */
__device__ __forceinline__ uint32_t nn_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

#define NN_LDMATRIX_(suffix, variant)                                                              \
    __device__ __forceinline__ void ldmatrix_x4##suffix(uint32_t(&r)[4], const void *p)            \
    {                                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" variant ".shared.b16 {%0,%1,%2,%3}, [%4];"    \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                              \
                     : "r"(nn_shared_address(p))                                                   \
                     : "memory");                                                                  \
    }                                                                                              \
    __device__ __forceinline__ void ldmatrix_x2##suffix(uint32_t(&r)[2], const void *p)            \
    {                                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2" variant ".shared.b16 {%0,%1}, [%2];"          \
                     : "=r"(r[0]), "=r"(r[1])                                                      \
                     : "r"(nn_shared_address(p))                                                   \
                     : "memory");                                                                  \
    }                                                                                              \
    __device__ __forceinline__ void ldmatrix_x1##suffix(uint32_t &r, const void *p)                \
    {                                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x1" variant ".shared.b16 {%0}, [%1];"             \
                     : "=r"(r)                                                                     \
                     : "r"(nn_shared_address(p))                                                   \
                     : "memory");                                                                  \
    }
NN_LDMATRIX_(, "")
NN_LDMATRIX_(_trans, ".trans")
#undef NN_LDMATRIX_

/* Copy from global to shared memory without waiting; zeros where not valid (the source is then not
 * read). 16 bytes pass by the first-level cache. */
__device__ __forceinline__ void cp_async16(void *shared, const void *global, bool valid)
{
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(nn_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async8(void *shared, const void *global, bool valid)
{
    const int bytes = valid ? 8 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(nn_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async4(void *shared, const void *global, bool valid)
{
    const int bytes = valid ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(nn_shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N of this thread's groups are under way; a barrier must follow before other
 * threads' copies are read. */
template <int N> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 2^x, 1/x, tanh(x) to about 2 units in the last place (tanh: 2^-11). */
__device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float rcp_approx(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float tanh_approx(float x)
{
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

#endif
