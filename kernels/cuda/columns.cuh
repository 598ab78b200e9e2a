/* Sums down the columns of x [outer, rows, width], rows packed and evenly spaced, in two steps of
 * fixed order: deterministic.
 *
 * nn_columns: a block owns a chunk of the rows of one outer index and up to 256 pieces of 16 bytes
 * of their columns; a thread adds up one piece in every lanes-th row, then the block joins its
 * lanes. nn_columns_join adds up the chunks, a block 32 columns of them. Traffic: x once, partial
 * sums of f32 at most 1 / 16 of it. */
#ifndef KERNELS_CUDA_COLUMNS_CUH
#define KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/rows.cuh"

constexpr int NN_COLUMNS_THREADS = 256, NN_COLUMNS_BLOCKS = 512;
constexpr int NN_JOIN_LANES = 16, NN_JOIN_THREADS = NN_WARP * NN_JOIN_LANES;

struct nn_columns_layout {
    int64_t outer, rows, width;
    int64_t outer_step, pitch; /* elements */
    int64_t chunk, chunks;     /* rows of a chunk, chunks of an outer index */
    int pieces, slabs;         /* of 16 bytes: of a block; blocks side by side */
};

template <class T, class U>
__global__ void __launch_bounds__(NN_COLUMNS_THREADS)
    nn_columns(const T *x, U *part, const nn_columns_layout l)
{
    constexpr int W = nn_wide<T>;
    constexpr int STRIDE = NN_COLUMNS_THREADS + NN_WARP / W; /* no two neighbours share a bank */
    NN_SHARED(float, sums, STRIDE *W);
    const int lanes = NN_COLUMNS_THREADS / l.pieces, tile = l.pieces * W;
    const int lane = (int)threadIdx.x / l.pieces, piece = (int)threadIdx.x - lane * l.pieces;
    const int64_t first = (int64_t)blockIdx.y * tile, begin = blockIdx.x * l.chunk;
    const int64_t end = begin + l.chunk < l.rows ? begin + l.chunk : l.rows;
    const int64_t column = first + piece * W;
    float sum[W] = {};
    if (lane < lanes && column < l.width) {
        const T *from = x + blockIdx.z * l.outer_step + column;
#pragma unroll 4
        for (int64_t r = begin + lane; r < end; r += lanes) {
            const nn_vec<T, W> v = nn_load<W>(from + r * l.pitch);
#pragma unroll
            for (int k = 0; k < W; k++) sum[k] += nn_float(v.at[k]);
        }
    }
#pragma unroll
    for (int k = 0; k < W; k++) sums[k * STRIDE + threadIdx.x] = sum[k];
    __syncthreads();
    for (int k = (int)threadIdx.x; k < tile && first + k < l.width; k += NN_COLUMNS_THREADS) {
        float all = 0;
        for (int i = 0; i < lanes; i++) all += sums[k % W * STRIDE + i * l.pieces + k / W];
        part[(blockIdx.z * l.chunks + blockIdx.x) * l.width + first + k] = nn_from<U>(all);
    }
}

/* y[o, k] = sum over the chunks of part [outer, chunks, width]; columns from `split` on go to the
 * second result, if there is one. */
template <class U>
__global__ void __launch_bounds__(NN_JOIN_THREADS)
    nn_columns_join(const float *part, int64_t chunks, int64_t width, U *y, U *second,
                    int64_t split)
{
    NN_SHARED(float, sums, NN_JOIN_THREADS);
    const int64_t column = (int64_t)blockIdx.x * NN_WARP + nn_lane();
    float sum = 0;
    if (column < width) {
        const float *from = part + blockIdx.y * chunks * width + column;
#pragma unroll 4
        for (int64_t i = nn_warp(); i < chunks; i += NN_JOIN_LANES) sum += from[i * width];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (nn_warp() != 0 || column >= width) return;
    sum = 0;
#pragma unroll
    for (int i = 0; i < NN_JOIN_LANES; i++) sum += sums[i * NN_WARP + nn_lane()];
    if (column < split)
        y[blockIdx.y * split + column] = nn_from<U>(sum);
    else
        second[column - split] = nn_from<U>(sum);
}

template <class U>
static inline nn_status nn_columns_run_join(const nn_call *c, const float *part, int64_t outer,
                                            int64_t chunks, int64_t width, U *y, U *second,
                                            int64_t split)
{
    const dim3 grid((unsigned)nn_ceil_div(width, NN_WARP), (unsigned)outer);
    return NN_LAUNCH(nn_columns_join<U>, grid, NN_JOIN_THREADS, 0, c, part, chunks, width, y,
                     second, split);
}

#endif
