/* The PTX instructions that kernels use, with the fragment layouts of the PTX manual. */
#ifndef CUSIM_PTX_H
#define CUSIM_PTX_H

#include <cuda_runtime.h>

/* d[16][8] += a[16][k] b[k][8], accumulated in f32; a, b in bf16 (k 16 or 8) or tf32 (k 8). */
void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUSIM_HERE);
void mma_bf16_1688(float (&d)[4], const uint32_t (&a)[2], const uint32_t b, CUSIM_HERE);
void mma_tf32_1688(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUSIM_HERE);

/* 8x8 matrices of 16-bit elements; lane 8 m + r gives the address of row r of matrix m, aligned to
 * 16 bytes. _trans: transposed. */
void ldmatrix_x1(uint32_t &r, const void *shared, CUSIM_HERE);
void ldmatrix_x2(uint32_t (&r)[2], const void *shared, CUSIM_HERE);
void ldmatrix_x4(uint32_t (&r)[4], const void *shared, CUSIM_HERE);
void ldmatrix_x1_trans(uint32_t &r, const void *shared, CUSIM_HERE);
void ldmatrix_x2_trans(uint32_t (&r)[2], const void *shared, CUSIM_HERE);
void ldmatrix_x4_trans(uint32_t (&r)[4], const void *shared, CUSIM_HERE);

/* Copies of 16, 8 or 4 bytes from device to shared memory, zeros if not valid. The destination is
 * undefined (0xFF) until the thread waits for the copy's group, and only then is the source read.
 */
void cp_async16(void *shared, const void *global, bool valid, CUSIM_HERE);
void cp_async8(void *shared, const void *global, bool valid, CUSIM_HERE);
void cp_async4(void *shared, const void *global, bool valid, CUSIM_HERE);
void cp_async_commit();

namespace cusim
{
void copy_wait(unsigned pending); /* until at most so many committed groups are pending */
}

template <int N> inline void cp_async_wait()
{
    cusim::copy_wait(N);
}

/* As coarse as the instructions may be: ex2.approx, rcp.approx, tanh.approx. */
float exp2_approx(float v);
float rcp_approx(float v);
float tanh_approx(float v);

#endif
