/* The inner loop of conv2d's products: tiles of operands in shared memory, and what a block
 * multiplies of them.
 *
 * A block computes ROWS x COLUMNS sums, slice by slice of the summed dimension; a slice is 32 bf16
 * or 16 f32 deep. Slices lie in one of two ways, both in groups of 16 bytes, both ordered so that
 * neither the copies into them nor the reads have bank conflicts:
 *   lines: a row (or column) of the product is a line of 4 groups along the sum;
 *   beds:  a step of the sum is a line of groups along the rows (or columns).
 * bf16 is multiplied by the tensor cores, a warp owning up to 64 x 32 sums; f32 by FMA, 16 x 16
 * threads owning ROWS / 16 x COLUMNS / 16 sums each. Sums are f32, in the order of the dimension.
 */
#ifndef KERNELS_CUDA_CONV2D_TILE_CUH
#define KERNELS_CUDA_CONV2D_TILE_CUH

#include "kernels/cuda/conv2d.cuh"

constexpr int CONV2D_STAGES = 4; /* slices in shared memory */
constexpr int CONV2D_GROUPS = 4; /* of a line */
constexpr int CONV2D_SIDE = 16;  /* threads of the f32 product in each direction */

template <class T> constexpr int conv2d_depth = CONV2D_GROUPS *nn_wide<T>;

/* Sums of a warp of the tensor-core product. */
template <int ROWS, int COLUMNS>
constexpr int conv2d_warp_rows = ROWS == 128 && COLUMNS >= 64 ? 64 : 32;
template <int COLUMNS> constexpr int conv2d_warp_columns = COLUMNS < 32 ? COLUMNS : 32;

template <class T, int ROWS, int COLUMNS>
constexpr int conv2d_threads =
    sizeof(T) == 4
        ? CONV2D_SIDE *CONV2D_SIDE
        : ROWS / conv2d_warp_rows<ROWS, COLUMNS> *(COLUMNS / conv2d_warp_columns<COLUMNS>)*NN_WARP;

/* Floats between the rows of finished sums: 8 modulo 32, so that fragments meet no conflicts. */
template <int COLUMNS> constexpr int conv2d_pitch = COLUMNS + 8;

template <class T, int ROWS, int COLUMNS>
constexpr int conv2d_slice_bytes = (ROWS + COLUMNS) * conv2d_depth<T> *(int)sizeof(T);

/* Shared memory of a block: the slices, and then in the same place the finished sums. */
template <class T, int ROWS, int COLUMNS> constexpr int conv2d_shared_bytes()
{
    constexpr int slices = CONV2D_STAGES * conv2d_slice_bytes<T, ROWS, COLUMNS>;
    constexpr int sums = ROWS * conv2d_pitch<COLUMNS> * (int)sizeof(float);
    return slices > sums ? slices : sums;
}

template <class T> __device__ __forceinline__ T *conv2d_line(T *tile, int row, int group)
{
    return tile + (row * CONV2D_GROUPS + (group ^ (row >> 1 & 3))) * nn_wide<T>;
}

template <int WIDTH, class T> __device__ __forceinline__ T *conv2d_bed(T *tile, int step, int group)
{
    return tile + step * WIDTH + (group ^ (step & 7)) * nn_wide<T>;
}

/* What a thread owns of the sums. */
template <class T, int ROWS, int COLUMNS> struct conv2d_sums;

template <int ROWS, int COLUMNS> struct conv2d_sums<bf16, ROWS, COLUMNS> {
    float at[conv2d_warp_rows<ROWS, COLUMNS> / 16][conv2d_warp_columns<COLUMNS> / 8][4];
};

template <int ROWS, int COLUMNS> struct conv2d_sums<float, ROWS, COLUMNS> {
    float at[ROWS / CONV2D_SIDE][COLUMNS / CONV2D_SIDE];
};

/* Where the sums of this thread's warp begin. */
template <int ROWS, int COLUMNS> __device__ __forceinline__ int conv2d_warp_row()
{
    return nn_warp() / (COLUMNS / conv2d_warp_columns<COLUMNS>)*conv2d_warp_rows<ROWS, COLUMNS>;
}

template <int COLUMNS> __device__ __forceinline__ int conv2d_warp_column()
{
    return nn_warp() % (COLUMNS / conv2d_warp_columns<COLUMNS>)*conv2d_warp_columns<COLUMNS>;
}

/* -- lines ------------------------------------------------------------------------------------- */

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_multiply_lines(conv2d_sums<bf16, ROWS, COLUMNS> &sums,
                                                      const bf16 *a, const bf16 *b)
{
    constexpr int M = conv2d_warp_rows<ROWS, COLUMNS> / 16, N = conv2d_warp_columns<COLUMNS> / 16;
    const int lane = nn_lane();
    const int row = conv2d_warp_row<ROWS, COLUMNS>() + lane % 16;
    const int column = conv2d_warp_column<COLUMNS>() + lane % 8 + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < CONV2D_GROUPS; k += 2) {
        uint32_t av[M][4];
#pragma unroll
        for (int i = 0; i < M; i++) ldmatrix_x4(av[i], conv2d_line(a, row + 16 * i, k + lane / 16));
#pragma unroll
        for (int j = 0; j < N; j++) {
            uint32_t bv[4];
            ldmatrix_x4(bv, conv2d_line(b, column + 16 * j, k + lane / 8 % 2));
            const uint32_t left[2] = { bv[0], bv[1] }, right[2] = { bv[2], bv[3] };
#pragma unroll
            for (int i = 0; i < M; i++) {
                mma_bf16_16816(sums.at[i][2 * j], av[i], left);
                mma_bf16_16816(sums.at[i][2 * j + 1], av[i], right);
            }
        }
    }
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_multiply_lines(conv2d_sums<float, ROWS, COLUMNS> &sums,
                                                      const float *a, const float *b)
{
    constexpr int M = ROWS / CONV2D_SIDE, N = COLUMNS / CONV2D_SIDE;
    const int row = (int)threadIdx.x / CONV2D_SIDE, column = (int)threadIdx.x % CONV2D_SIDE;
#pragma unroll 1 /* more would spill */
    for (int k = 0; k < CONV2D_GROUPS; k++) {
        nn_vec<float, 4> bv[N];
#pragma unroll
        for (int j = 0; j < N; j++) bv[j] = nn_load<4>(conv2d_line(b, column + 16 * j, k));
#pragma unroll
        for (int i = 0; i < M; i++) {
            const nn_vec<float, 4> av = nn_load<4>(conv2d_line(a, row + 16 * i, k));
#pragma unroll
            for (int e = 0; e < 4; e++)
#pragma unroll
                for (int j = 0; j < N; j++) sums.at[i][j] += av.at[e] * bv[j].at[e];
        }
    }
}

/* -- beds -------------------------------------------------------------------------------------- */

/* Sums of the rows of the left operand alone: what db is. */
template <class T, int ROWS, int COLUMNS> struct conv2d_row_sums;

template <int ROWS, int COLUMNS> struct conv2d_row_sums<bf16, ROWS, COLUMNS> {
    float at[conv2d_warp_rows<ROWS, COLUMNS> / 16][4]; /* a product with columns of ones */
};

template <int ROWS, int COLUMNS> struct conv2d_row_sums<float, ROWS, COLUMNS> {
    float at[ROWS / CONV2D_SIDE];
};

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_multiply_beds(conv2d_sums<bf16, ROWS, COLUMNS> &sums,
                                                     conv2d_row_sums<bf16, ROWS, COLUMNS> &row_sums,
                                                     bool wants_rows, const bf16 *a, const bf16 *b)
{
    constexpr int M = conv2d_warp_rows<ROWS, COLUMNS> / 16, N = conv2d_warp_columns<COLUMNS> / 16;
    const int lane = nn_lane();
    const int row = conv2d_warp_row<ROWS, COLUMNS>() / 8 + lane / 8 % 2;
    const int column = conv2d_warp_column<COLUMNS>() / 8 + lane / 16;
    const uint32_t ones[2] = { 0x3f803f80u, 0x3f803f80u };
#pragma unroll
    for (int k = 0; k < conv2d_depth<bf16>; k += 16) {
        uint32_t av[M][4];
#pragma unroll
        for (int i = 0; i < M; i++)
            ldmatrix_x4_trans(av[i],
                              conv2d_bed<ROWS>(a, k + lane % 8 + lane / 16 * 8, row + 2 * i));
#pragma unroll
        for (int j = 0; j < N; j++) {
            uint32_t bv[4];
            ldmatrix_x4_trans(bv, conv2d_bed<COLUMNS>(b, k + lane % 16, column + 2 * j));
            const uint32_t left[2] = { bv[0], bv[1] }, right[2] = { bv[2], bv[3] };
#pragma unroll
            for (int i = 0; i < M; i++) {
                mma_bf16_16816(sums.at[i][2 * j], av[i], left);
                mma_bf16_16816(sums.at[i][2 * j + 1], av[i], right);
            }
        }
        if (wants_rows)
#pragma unroll
            for (int i = 0; i < M; i++) mma_bf16_16816(row_sums.at[i], av[i], ones);
    }
}

/* Rows and columns of a thread come in fours, so that it reads whole groups. */
__device__ __forceinline__ int conv2d_bed_place(int thread, int i)
{
    return i / 4 * (4 * CONV2D_SIDE) + thread * 4 + i % 4;
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_multiply_beds(
    conv2d_sums<float, ROWS, COLUMNS> &sums, conv2d_row_sums<float, ROWS, COLUMNS> &row_sums,
    bool wants_rows, const float *a, const float *b)
{
    constexpr int M = ROWS / CONV2D_SIDE, N = COLUMNS / CONV2D_SIDE;
    const int row = (int)threadIdx.x / CONV2D_SIDE, column = (int)threadIdx.x % CONV2D_SIDE;
#pragma unroll
    for (int k = 0; k < conv2d_depth<float>; k++) {
        nn_vec<float, 4> av[M / 4], bv[N / 4];
#pragma unroll
        for (int i = 0; i < M / 4; i++)
            av[i] = nn_load<4>(conv2d_bed<ROWS>(a, k, row + CONV2D_SIDE * i));
#pragma unroll
        for (int j = 0; j < N / 4; j++)
            bv[j] = nn_load<4>(conv2d_bed<COLUMNS>(b, k, column + CONV2D_SIDE * j));
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
            for (int j = 0; j < N; j++) sums.at[i][j] += av[i / 4].at[i % 4] * bv[j / 4].at[j % 4];
        if (wants_rows)
#pragma unroll
            for (int i = 0; i < M; i++) row_sums.at[i] += av[i / 4].at[i % 4];
    }
}

/* -- finished sums ----------------------------------------------------------------------------- */

/* Offset of four neighbouring sums. Pairs of fours are swapped in every other eight of them: reads
 * of eight floats per thread then meet no conflicts. */
template <int COLUMNS> __device__ __forceinline__ int conv2d_sum_at(int row, int column)
{
    const int four = column / 4;
    return row * conv2d_pitch<COLUMNS> + (four ^ (four >> 3 & 1)) * 4;
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_put(const conv2d_sums<bf16, ROWS, COLUMNS> &sums, bool,
                                           float *tile)
{
    constexpr int M = conv2d_warp_rows<ROWS, COLUMNS> / 16, N = conv2d_warp_columns<COLUMNS> / 8;
    const int row = conv2d_warp_row<ROWS, COLUMNS>() + nn_lane() / 4;
    const int column = conv2d_warp_column<COLUMNS>() + nn_lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float *s = &sums.at[i][j][2 * half];
                float *to = tile + column % 4 +
                            conv2d_sum_at<COLUMNS>(row + 16 * i + 8 * half, column + 8 * j);
                nn_store(to, nn_vec<float, 2>{ s[0], s[1] });
            }
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void conv2d_put(const conv2d_sums<float, ROWS, COLUMNS> &sums, bool beds,
                                           float *tile)
{
    constexpr int N = COLUMNS / CONV2D_SIDE;
    const int row = (int)threadIdx.x / CONV2D_SIDE, column = (int)threadIdx.x % CONV2D_SIDE;
#pragma unroll
    for (int i = 0; i < ROWS / CONV2D_SIDE; i++)
#pragma unroll
        for (int j = 0; j < N; j++) {
            const int r = beds ? conv2d_bed_place(row, i) : row + CONV2D_SIDE * i;
            const int c = beds ? conv2d_bed_place(column, j) : column + CONV2D_SIDE * j;
            float *to = tile + conv2d_sum_at<COLUMNS>(r, c) + c % 4;
            if (!beds)
                *to = sums.at[i][j];
            else if (j % 4 == 0 && j + 3 < N)
                nn_store(to, nn_vec<float, 4>{ sums.at[i][j], sums.at[i][j + 1], sums.at[i][j + 2],
                                               sums.at[i][j + 3] });
        }
}

/* WIDTH neighbouring sums of a row, WIDTH a multiple of 4 or 1. */
template <int COLUMNS, int WIDTH>
__device__ __forceinline__ void conv2d_get(const float *tile, int row, int column,
                                           float (&sum)[WIDTH])
{
    if constexpr (WIDTH == 1) {
        sum[0] = tile[conv2d_sum_at<COLUMNS>(row, column) + column % 4];
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 4) {
            const nn_vec<float, 4> v = nn_load<4>(tile + conv2d_sum_at<COLUMNS>(row, column + i));
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i + e] = v.at[e];
        }
    }
}

#endif
