/* What groupnorm and its gradient share: x [N, places, C] and how blocks divide it.
 *
 * A block owns a slab: neighbouring channels that are whole groups and whole pieces of 16 bytes, at
 * all places of a sample or at a chunk of them. A thread owns one piece of the slab's columns at
 * every lanes-th place. Sums of a thread's channels are joined over the block in a fixed order. */
#ifndef KERNELS_CUDA_GROUPNORM_CUH
#define KERNELS_CUDA_GROUPNORM_CUH

#include "kernels/cuda/act.cuh"
#include "kernels/cuda/rows.cuh"

constexpr int GROUPNORM_SLAB_THREADS = 512;   /* one pass: shared memory has room for one block */
constexpr int GROUPNORM_CHUNK_THREADS = 256;  /* two passes: several blocks side by side */
constexpr int64_t GROUPNORM_BLOCKS = 512;     /* that two passes are cut into */
constexpr int64_t GROUPNORM_LEAST_BYTES = 64; /* of a slab at one place, where C allows */

struct groupnorm_layout {
    int64_t samples, places;
    int64_t x_sample, x_pitch, dy_sample, dy_pitch; /* elements to the next sample, place */
    int channels, groups, wide;                     /* wide: channels of a group */
    int slab, pieces, slabs;                        /* channels, pieces of 16 bytes; how many */
    int lanes;                                      /* places at once */
    int segments, stride;                           /* see groupnorm_join */
    int64_t chunk, chunks;                          /* places of a block; blocks of a sample */
    float eps;
};

/* Floats of scratch: W rows. */
__host__ __device__ __forceinline__ int groupnorm_scratch(const groupnorm_layout *l)
{
    return l->slab / l->pieces * l->stride;
}

struct groupnorm_seat {
    int lane, column; /* place; first channel within the slab */
    bool taken;       /* threads that are left over have none */
};

template <int W>
__device__ __forceinline__ groupnorm_seat groupnorm_seat_of(const groupnorm_layout &l)
{
    const int lane = (int)threadIdx.x / l.pieces;
    return { lane, ((int)threadIdx.x - lane * l.pieces) * W, lane < l.lanes };
}

/* Joins the sums of the threads' channels into `total` [segments, slab], whose segments are still
 * to be added up. `scratch` has a row per channel of a piece; rows are `stride` floats apart, so
 * that neither threads side by side nor channels side by side share a bank. Begins and ends with
 * memory in order. */
template <int W>
__device__ __forceinline__ void groupnorm_join(const float (&sum)[W], const groupnorm_seat &seat,
                                               const groupnorm_layout &l, float *scratch,
                                               float *total)
{
    if (seat.taken) {
#pragma unroll
        for (int k = 0; k < W; k++) scratch[k * l.stride + threadIdx.x] = sum[k];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < l.segments * l.slab; i += (int)blockDim.x) {
        const int segment = i / l.slab, k = i - segment * l.slab;
        const float *from = scratch + k % W * l.stride + k / W;
        float all = 0;
#pragma unroll 4
        for (int lane = segment; lane < l.lanes; lane += l.segments) all += from[lane * l.pieces];
        total[i] = all;
    }
    __syncthreads();
}

__device__ __forceinline__ float groupnorm_channel(const float *total, const groupnorm_layout &l,
                                                   int k)
{
    float sum = 0;
    for (int s = 0; s < l.segments; s++) sum += total[s * l.slab + k];
    return sum;
}

/* The warp's sum over one group of the slab, every channel times its weight (NULL: 1). */
__device__ __forceinline__ float groupnorm_group(const float *total, const float *weight,
                                                 const groupnorm_layout &l, int group)
{
    float sum = 0;
    for (int k = nn_lane(); k < l.wide; k += NN_WARP) {
        const int column = group * l.wide + k;
        const float of_channel = groupnorm_channel(total, l, column);
        sum += weight ? weight[column] * of_channel : of_channel;
    }
    return nn_warp_sum(sum);
}

/* What a thread's channels have of a value per group, or of a vector of channels. */
template <int W>
__device__ __forceinline__ void groupnorm_spread(const float *of_group, int column, int wide,
                                                 float (&to)[W])
{
#pragma unroll
    for (int k = 0; k < W; k++) to[k] = of_group[(column + k) / wide];
}

template <int W> __device__ __forceinline__ void groupnorm_vector(const float *from, float (&to)[W])
{
#pragma unroll
    for (int k = 0; k < W; k += 4) {
        const nn_vec<float, 4> v = nn_load<4>(from + k);
#pragma unroll
        for (int j = 0; j < 4; j++) to[k + j] = v.at[j];
    }
}

/* -- two passes in one launch ------------------------------------------------------------------ */

/* Every chunk of a slab has work in two passes, and the second wants the first of all its chunks.
 * Blocks draw their work by ticket, in the order in which they begin to run: first all of the first
 * pass, then all of the second, backwards. So a block waits only for blocks that run already and
 * wait for nobody, however few run at once. Counters lie in nn_cuda.arrivals; the last block to
 * leave puts them back to 0. */
constexpr int GROUPNORM_DRAWN = 0, GROUPNORM_LEFT = 1;
constexpr int GROUPNORM_DONE = 2; /* one for each slab of each sample */

struct groupnorm_turn {
    bool second;
    int slab, sample;
    int64_t chunk;
    unsigned *done; /* chunks of the slab whose first pass is over */
};

/* free: a place in shared memory. */
__device__ __forceinline__ groupnorm_turn groupnorm_draw(const groupnorm_layout &l,
                                                         unsigned *counters, unsigned *free)
{
    if (threadIdx.x == 0) *free = atomicAdd(counters + GROUPNORM_DRAWN, 1u);
    __syncthreads();
    const unsigned ticket = *free, n = gridDim.x / 2, chunks = (unsigned)l.chunks;
    __syncthreads();
    const unsigned at = ticket < n ? ticket : 2 * n - 1 - ticket, row = at / chunks;
    const unsigned sample = row / (unsigned)l.slabs;
    return { ticket >= n, (int)(row - sample * (unsigned)l.slabs), (int)sample,
             (int64_t)(at - row * chunks), counters + GROUPNORM_DONE + row };
}

/* What the block has written is there for those that wait for it. */
__device__ __forceinline__ void groupnorm_tell(const groupnorm_turn &turn)
{
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(turn.done, 1u);
}

__device__ __forceinline__ void groupnorm_await(const groupnorm_turn &turn,
                                                const groupnorm_layout &l)
{
    if (threadIdx.x == 0) {
        while (atomicAdd(turn.done, 0u) < (unsigned)l.chunks) {
        }
        __threadfence();
    }
    __syncthreads();
}

__device__ __forceinline__ void groupnorm_leave(const groupnorm_layout &l, unsigned *counters)
{
    if (threadIdx.x > 0 || atomicAdd(counters + GROUPNORM_LEFT, 1u) + 1 < gridDim.x) return;
    for (int i = 0; i < GROUPNORM_DONE + (int)l.samples * l.slabs; i++)
        atomicExch(counters + i, 0u);
}

/* -- host -------------------------------------------------------------------------------------- */

/* Run the kernels of groupnorm_any.cu, which take any stride. */
nn_status groupnorm_run_any(const nn_call *c) NN_CHECKED;
nn_status groupnorm_bwd_run_any(const nn_call *c) NN_CHECKED;

static inline bool groupnorm_packed16(const nn_view *v)
{
    return nn_view_contiguous(v) && nn_aligned16(v);
}

/* Places of one sample as rows of whole pieces. */
static inline bool groupnorm_places(const nn_view *x, nn_rows *rows)
{
    nn_view sample = *x;
    sample.dim[0] = 1;
    return nn_rows_wide(&sample, rows) && x->stride[0] * nn_dtype_bytes(x->dtype) % 16 == 0;
}

static inline void groupnorm_cut(groupnorm_layout *l, int threads, int slab, int64_t wide16,
                                 int64_t chunk)
{
    l->slab = slab;
    l->slabs = l->channels / slab;
    l->pieces = (int)(slab / wide16);
    l->lanes = threads / l->pieces;
    if (l->lanes > l->places) l->lanes = (int)l->places;
    l->segments = threads / slab;
    if (l->segments > l->lanes) l->segments = l->lanes;
    if (l->segments < 1) l->segments = 1;
    l->stride = (int)(threads + NN_WARP / wide16);
    l->chunk = nn_ceil_div(chunk, l->lanes) * l->lanes;
    l->chunks = nn_ceil_div(l->places, l->chunk);
}

/* Shapes; dy may be NULL. False where x or dy cannot be read by 16 bytes. */
static inline bool groupnorm_shape(const nn_view *x, const nn_view *dy, int groups,
                                   groupnorm_layout *l)
{
    nn_rows rows, dy_rows = {};
    if (!groupnorm_places(x, &rows) || (dy && !groupnorm_places(dy, &dy_rows))) return false;
    *l = {};
    l->samples = x->dim[0];
    l->places = rows.rows;
    l->x_sample = x->stride[0];
    l->x_pitch = rows.pitch;
    l->dy_sample = dy ? dy->stride[0] : 0;
    l->dy_pitch = dy_rows.pitch;
    l->channels = (int)rows.width;
    l->groups = groups;
    l->wide = l->channels / groups;
    return l->samples <= UINT16_MAX;
}

/* Least common multiple of a group and a piece. */
static inline int groupnorm_unit(const groupnorm_layout *l, int64_t wide16)
{
    int unit = l->wide;
    while (unit % wide16) unit += l->wide;
    return unit;
}

/* One pass: a block has all places of a slab just wide enough for whole sectors. */
static inline bool groupnorm_cut_slabs(groupnorm_layout *l, nn_dtype dtype)
{
    const int64_t size = nn_dtype_bytes(dtype), wide16 = 16 / size;
    const int unit = groupnorm_unit(l, wide16);
    int slab = unit;
    while (slab < l->channels && (slab * size < GROUPNORM_LEAST_BYTES || l->channels % slab != 0))
        slab += unit;
    if (slab / wide16 > GROUPNORM_SLAB_THREADS) return false;
    groupnorm_cut(l, GROUPNORM_SLAB_THREADS, slab, wide16, l->places);
    return true;
}

/* Two passes: a block has a chunk of places of the widest slab of which its threads own at least
 * two places at once. */
static inline bool groupnorm_cut_chunks(groupnorm_layout *l, nn_dtype dtype)
{
    const int64_t wide16 = 16 / nn_dtype_bytes(dtype);
    const int unit = groupnorm_unit(l, wide16);
    int slab = l->channels;
    while (slab > unit && (2 * slab / wide16 > GROUPNORM_CHUNK_THREADS || l->channels % slab != 0))
        slab -= unit;
    if (slab / wide16 > GROUPNORM_CHUNK_THREADS) return false;
    const int64_t slabs = l->channels / slab;
    groupnorm_cut(l, GROUPNORM_CHUNK_THREADS, slab, wide16,
                  nn_ceil_div(l->samples * slabs * l->places, GROUPNORM_BLOCKS));
    return l->samples * slabs <= NN_CUDA_ARRIVALS - GROUPNORM_DONE &&
           l->samples * slabs * l->chunks < INT32_MAX / 2;
}

/* Blocks of a launch of two passes. */
static inline unsigned groupnorm_turns(const groupnorm_layout *l)
{
    return (unsigned)(2 * l->samples * l->slabs * l->chunks);
}

/* Floats of shared memory: scratch and `totals` times total of groupnorm_join, and `values` for
 * each group of a slab. */
static inline size_t groupnorm_shared(const groupnorm_layout *l, int totals, int values)
{
    const int joined = groupnorm_scratch(l) + totals * l->segments * l->slab;
    return (size_t)(joined + values * (l->slab / l->wide)) * sizeof(float);
}

#endif
