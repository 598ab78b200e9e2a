/* Tiles of bf16 rows in shared memory and their tensor-core products, for the flash kernels.
 *
 * A tile holds rows of D elements without gaps, in chunks of 8 (16 bytes). Eight rows of one chunk
 * must fall into eight different places modulo 128 bytes, for ldmatrix to read them at once: chunks
 * of a row are exchanged within groups of attn_group<D> by the row's number, which is all that is
 * needed where D / 8 is even (for odd ones nothing is). Copies into a tile stay whole 128-byte
 * lines, so they are free of conflicts too. */
#ifndef KERNELS_CUDA_ATTENTION_TILE_CUH
#define KERNELS_CUDA_ATTENTION_TILE_CUH

#include "kernels/cuda/attention.cuh"

enum { ATTN_WARPS = 4, ATTN_THREADS = ATTN_WARPS * NN_WARP };

/* The head sizes that have flash kernels. */
#define ATTN_EACH_FLASH_SIZE(RUN) RUN(40) RUN(64) RUN(80) RUN(128) RUN(160)

static inline bool attn_flash_fits(const nn_call *c, const nn_view *q)
{
    const int64_t d = q->dim[3];
    return (d == 40 || d == 64 || d == 80 || d == 128 || d == 160) && attn_fits_grid(q) &&
           static_cast<const nn_attention_params *>(c->params)->scale > 0;
}

template <int D>
constexpr int attn_group = D / 8 % 8 == 0   ? 8
                           : D / 8 % 4 == 0 ? 4
                           : D / 8 % 2 == 0 ? 2
                                            : 1;

template <int D> __device__ __forceinline__ bf16 *attn_at(bf16 *tile, int row, int chunk)
{
    constexpr int group = attn_group<D>;
    return tile + (row * (D / 8) + (chunk ^ (row / (8 / group) % group))) * 8;
}

template <int D> __device__ __forceinline__ const bf16 *attn_at(const bf16 *t, int row, int chunk)
{
    return attn_at<D>(const_cast<bf16 *>(t), row, chunk);
}

/* Starts the copy of ROWS rows, `n` of which exist; the rest become zeros. All threads of the block
 * take part, but for those left over when they are shared out in whole rows. */
template <int D, int ROWS>
__device__ __forceinline__ void attn_copy(bf16 *tile, const bf16 *rows, int64_t step, int n)
{
    constexpr int chunks = D / 8, stride = ATTN_THREADS / chunks;
    const int row = (int)threadIdx.x / chunks, chunk = (int)threadIdx.x % chunks;
    if (ATTN_THREADS % chunks && row == stride) return;
    const bf16 *from = rows + row * step + chunk * 8;
#pragma unroll
    for (int i = 0; i < ROWS; i += stride) {
        if (ROWS % stride && row + i >= ROWS) return;
        cp_async16(attn_at<D>(tile, row + i, chunk), from, row + i < n);
        from += stride * step;
    }
}

/* Tiles of two operands side by side: rows from `first` to `end` of one head. */
template <int D, int ROWS>
__device__ __forceinline__ void attn_fetch(bf16 *tiles, const attn_rows<const bf16> &x,
                                           const attn_rows<const bf16> &y, int b, int h, int first,
                                           int end)
{
    attn_copy<D, ROWS>(tiles, attn_row(x, b, h, first), x.token, end - first);
    attn_copy<D, ROWS>(tiles + ROWS * D, attn_row(y, b, h, first), y.token, end - first);
}

/* Where the left operand of a product comes from: M groups of 16 rows of a tile, read each time, or
 * held in registers from the start. */
template <int D, int M> struct attn_read {
    const bf16 *tile;
};

template <int D, int M> struct attn_held {
    uint32_t chunk[M][D / 8][2]; /* rows g and g + 8 of the group */
};

/* Chunks c and c + 1 of group m as fragment A of m16n8k16; chunk c as that of m16n8k8. */
template <int D, int M>
__device__ __forceinline__ void attn_take16(uint32_t (&a)[4], const attn_read<D, M> &x, int m,
                                            int c)
{
    ldmatrix_x4(a, attn_at<D>(x.tile, m * 16 + nn_lane() % 16, c + nn_lane() / 16));
}

template <int D, int M>
__device__ __forceinline__ void attn_take16(uint32_t (&a)[4], const attn_held<D, M> &x, int m,
                                            int c)
{
    a[0] = x.chunk[m][c][0];
    a[1] = x.chunk[m][c][1];
    a[2] = x.chunk[m][c + 1][0];
    a[3] = x.chunk[m][c + 1][1];
}

template <int D, int M>
__device__ __forceinline__ void attn_take8(uint32_t (&a)[2], const attn_read<D, M> &x, int m, int c)
{
    ldmatrix_x2(a, attn_at<D>(x.tile, m * 16 + nn_lane() % 16, c));
}

template <int D, int M>
__device__ __forceinline__ void attn_take8(uint32_t (&a)[2], const attn_held<D, M> &x, int m, int c)
{
    a[0] = x.chunk[m][c][0];
    a[1] = x.chunk[m][c][1];
}

template <int D, int M>
__device__ __forceinline__ void attn_hold(attn_read<D, M> &x, const bf16 *tile)
{
    x.tile = tile;
}

template <int D, int M>
__device__ __forceinline__ void attn_hold(attn_held<D, M> &x, const bf16 *tile)
{
    const attn_read<D, M> from = { tile };
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < D / 8; c++) attn_take8(x.chunk[m][c], from, m, c);
}

template <bool HOLD, int D, int M> struct attn_left;
template <int D, int M> struct attn_left<false, D, M> {
    typedef attn_read<D, M> type;
};
template <int D, int M> struct attn_left<true, D, M> {
    typedef attn_held<D, M> type;
};

template <int M, int N> __device__ __forceinline__ void attn_zero(float (&x)[M][N][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) x[m][n][e] = 0;
}

/* Steps of attn_dot that are unrolled: deep heads leave no registers. */
template <int D> constexpr int attn_steps = D < 128 ? D / 16 : 2;

/* s = a b^T: the scores of M groups of 16 rows with the 8 N rows of a tile. Steps of 16 columns,
 * and one of 8 at the end where D / 8 is odd. */
template <int D, int STEPS = attn_steps<D>, int M, int N, class A>
__device__ __forceinline__ void attn_dot(float (&s)[M][N][4], const A &a, const bf16 *tile)
{
    const int lane = nn_lane();
    attn_zero(s);
#pragma unroll(STEPS)
    for (int c = 0; c + 1 < D / 8; c += 2) {
        uint32_t x[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) attn_take16(x[m], a, m, c);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            ldmatrix_x4(b, attn_at<D>(tile, n * 8 + lane / 16 * 8 + lane % 8, c + lane / 8 % 2));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16_16816(s[m][n], x[m], { b[0], b[1] });
                mma_bf16_16816(s[m][n + 1], x[m], { b[2], b[3] });
            }
        }
    }
    if constexpr (D / 8 % 2) {
        static_assert(N % 4 == 0, "four groups of 8 rows are read at once");
        uint32_t x[M][2];
#pragma unroll
        for (int m = 0; m < M; m++) attn_take8(x[m], a, m, D / 8 - 1);
#pragma unroll
        for (int n = 0; n < N; n += 4) {
            uint32_t b[4];
            ldmatrix_x4(b, attn_at<D>(tile, n * 8 + lane, D / 8 - 1));
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) mma_bf16_1688(s[m][n + i], x[m], b[i]);
        }
    }
}

/* acc += p x: p [16 M rows, 16 K] as fragments, x the 16 K rows of a tile. */
template <int D, int M, int K>
__device__ __forceinline__ void attn_sum(float (&acc)[M][D / 8][4], const uint32_t (&p)[M][K][4],
                                         const bf16 *tile)
{
    const int lane = nn_lane();
#pragma unroll
    for (int k = 0; k < K; k++) {
#pragma unroll
        for (int c = 0; c + 1 < D / 8; c += 2) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, attn_at<D>(tile, k * 16 + lane % 16, c + lane / 16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16_16816(acc[m][c], p[m][k], { b[0], b[1] });
                mma_bf16_16816(acc[m][c + 1], p[m][k], { b[2], b[3] });
            }
        }
        if constexpr (D / 8 % 2) {
            uint32_t b[2];
            ldmatrix_x2_trans(b, attn_at<D>(tile, k * 16 + lane % 16, D / 8 - 1));
#pragma unroll
            for (int m = 0; m < M; m++) mma_bf16_16816(acc[m][D / 8 - 1], p[m][k], b);
        }
    }
}

/* Results of a product as the left operand of the next one. */
template <int M, int N>
__device__ __forceinline__ void attn_pack(uint32_t (&p)[M][N / 2][4], const float (&s)[M][N][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            p[m][n / 2][n % 2 * 2] = nn_pack_bf16(s[m][n][0], s[m][n][1]);
            p[m][n / 2][n % 2 * 2 + 1] = nn_pack_bf16(s[m][n][2], s[m][n][3]);
        }
}

/* Writes a warp's 16 M rows, `n` of which exist, times a factor per row, through its own part of a
 * tile: whole sectors of 32 bytes leave. (nn_store would become four stores each for some D.) */
template <int D, int M>
__device__ __forceinline__ void attn_put(bf16 *tile, const float (&acc)[M][D / 8][4],
                                         const float (&factor)[M][2], bf16 *rows, int64_t step,
                                         int n)
{
    const int lane = nn_lane();
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < D / 8; c++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                nn_vec<bf16, 2> pair;
                pair.at[0] = nn_from<bf16>(acc[m][c][2 * r] * factor[m][r]);
                pair.at[1] = nn_from<bf16>(acc[m][c][2 * r + 1] * factor[m][r]);
                nn_store(attn_at<D>(tile, m * 16 + r * 8 + lane / 4, c) + lane % 4 * 2, pair);
            }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < M * 16 * (D / 8); i += NN_WARP) {
        const int row = i / (D / 8), chunk = i % (D / 8);
        if (row < n)
            *reinterpret_cast<uint4 *>(rows + row * step + chunk * 8) =
                *reinterpret_cast<const uint4 *>(attn_at<D>(tile, row, chunk));
    }
}

#endif
