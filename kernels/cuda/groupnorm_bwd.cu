/* The gradient of groupnorm. With h = (x - mean) * rstd and d = dy times the slope of SiLU at h *
 * gamma + beta (or 1), sums over places of d and d * h per channel give all that is needed: those
 * of a group, weighted by gamma, for dx; those of all samples for dbeta and dgamma, which
 * nn_columns_join adds up. f32, every sum in a fixed order: deterministic. */
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/groupnorm.cuh"

/* What a thread knows of its channels. */
template <int W> struct groupnorm_bwd_channels {
    float mean[W], rstd[W], gamma[W], beta[W];
};

template <int W>
__device__ __forceinline__ void groupnorm_bwd_know(const float *gamma, const float *beta,
                                                   const float *mean, const float *rstd, int column,
                                                   int wide, groupnorm_bwd_channels<W> &c)
{
    groupnorm_vector(gamma + column, c.gamma);
    groupnorm_vector(beta + column, c.beta);
    groupnorm_spread(mean, column, wide, c.mean);
    groupnorm_spread(rstd, column, wide, c.rstd);
}

/* d; and h in its place. */
template <bool SILU>
__device__ __forceinline__ float groupnorm_bwd_slope(float dy, float h, float gamma, float beta)
{
    if constexpr (!SILU) return dy;
    const float z = h * gamma + beta, s = nn_sigmoid(z);
    return dy * (s * (1.0f + z * (1.0f - s)));
}

/* Sums of d and d * h over the places begin, begin + lanes, ... */
template <class T, bool SILU, int W>
__device__ __forceinline__ void groupnorm_bwd_add(const T *dy, int64_t dy_pitch, const T *x,
                                                  int64_t x_pitch, int64_t begin, int64_t end,
                                                  int lanes, const groupnorm_bwd_channels<W> &c,
                                                  float (&sum)[W], float (&sum_h)[W])
{
    [[maybe_unused]] constexpr int UNROLL = SILU && W == 8 ? 2 : 1; /* as registers allow */
#pragma unroll UNROLL
    for (int64_t p = begin; p < end; p += lanes) {
        const nn_vec<T, W> v = nn_load<W>(x + p * x_pitch), g = nn_load<W>(dy + p * dy_pitch);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float h = (nn_float(v.at[k]) - c.mean[k]) * c.rstd[k];
            const float d = groupnorm_bwd_slope<SILU>(nn_float(g.at[k]), h, c.gamma[k], c.beta[k]);
            sum[k] += d;
            sum_h[k] += d * h;
        }
    }
}

/* dx = rstd * (d * gamma - mean_e - h * mean_eh); both means are given per group of the slab. */
template <class T, bool SILU, int W>
__device__ __forceinline__ void groupnorm_bwd_write(const T *dy, int64_t dy_pitch, const T *x,
                                                    int64_t x_pitch, T *dx, int64_t dx_pitch,
                                                    int64_t begin, int64_t end, int lanes,
                                                    const groupnorm_bwd_channels<W> &c,
                                                    const float (&mean_e)[W],
                                                    const float (&mean_eh)[W])
{
    [[maybe_unused]] constexpr int UNROLL = SILU && W == 8 ? 2 : 1;
#pragma unroll UNROLL
    for (int64_t p = begin; p < end; p += lanes) {
        nn_vec<T, W> v = nn_load<W>(x + p * x_pitch);
        const nn_vec<T, W> g = nn_load<W>(dy + p * dy_pitch);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float h = (nn_float(v.at[k]) - c.mean[k]) * c.rstd[k];
            const float d = groupnorm_bwd_slope<SILU>(nn_float(g.at[k]), h, c.gamma[k], c.beta[k]);
            v.at[k] = nn_from<T>(c.rstd[k] * (d * c.gamma[k] - mean_e[k] - h * mean_eh[k]));
        }
        nn_store(dx + p * dx_pitch, v);
    }
}

/* The channels' sums of a block as a row [2, C] of what is added up for dgamma and dbeta. */
__device__ __forceinline__ void groupnorm_bwd_leave(const float *total, const float *total_h,
                                                    const groupnorm_layout &l, int first,
                                                    float *row)
{
    for (int k = (int)threadIdx.x; k < l.slab; k += (int)blockDim.x) {
        row[first + k] = groupnorm_channel(total_h, l, k);
        row[l.channels + first + k] = groupnorm_channel(total, l, k);
    }
}

/* groupnorm_bwd_onepass: a block owns a slab of one sample and holds its x and dy in shared memory,
 * where every thread reads back what it copied itself. Traffic: dy, x and dx once. */
template <class T, bool SILU>
__global__ void __launch_bounds__(GROUPNORM_SLAB_THREADS, 1)
    groupnorm_bwd_onepass(const T *dy, const T *x, const float *gamma, const float *beta,
                          const float *mean, const float *rstd, T *dx, float *rows,
                          const groupnorm_layout l)
{
    constexpr int W = nn_wide<T>;
    NN_SHARED_DYN(T, held);
    T *held_dy = held + l.places * l.slab;
    float *scratch = reinterpret_cast<float *>(held_dy + l.places * l.slab);
    float *total = scratch + groupnorm_scratch(&l), *total_h = total + l.segments * l.slab;
    float *mean_e = total_h + l.segments * l.slab, *mean_eh = mean_e + l.slab / l.wide;
    const int own = l.slab / l.wide, first = (int)blockIdx.x * l.slab;
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    const float n = (float)l.wide * (float)l.places;
    const int64_t group = (int64_t)blockIdx.y * l.groups + first / l.wide;
    x += blockIdx.y * l.x_sample + first + seat.column;
    dy += blockIdx.y * l.dy_sample + first + seat.column;
    dx += (int64_t)blockIdx.y * l.places * l.channels + first + seat.column;
    held += seat.column;
    held_dy += seat.column;

    groupnorm_bwd_channels<W> c = {};
    float sum[W] = {}, sum_h[W] = {};
    if (seat.taken) {
        for (int64_t p = seat.lane; p < l.places; p += l.lanes) {
            cp_async16(held + p * l.slab, x + p * l.x_pitch, true);
            cp_async16(held_dy + p * l.slab, dy + p * l.dy_pitch, true);
        }
        groupnorm_bwd_know(gamma + first, beta + first, mean + group, rstd + group, seat.column,
                           l.wide, c);
    }
    cp_async_commit();
    cp_async_wait<0>();
    if (seat.taken)
        groupnorm_bwd_add<T, SILU>(held_dy, l.slab, held, l.slab, seat.lane, l.places, l.lanes, c,
                                   sum, sum_h);
    groupnorm_join(sum, seat, l, scratch, total);
    groupnorm_join(sum_h, seat, l, scratch, total_h);
    groupnorm_bwd_leave(total, total_h, l, first, rows + (int64_t)blockIdx.y * 2 * l.channels);
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        const float e = groupnorm_group(total, gamma + first, l, g);
        const float eh = groupnorm_group(total_h, gamma + first, l, g);
        if (nn_lane() > 0) continue;
        mean_e[g] = e / n;
        mean_eh[g] = eh / n;
    }
    __syncthreads();
    if (!seat.taken) return;
    groupnorm_spread(mean_e, seat.column, l.wide, sum);
    groupnorm_spread(mean_eh, seat.column, l.wide, sum_h);
    groupnorm_bwd_write<T, SILU>(held_dy, l.slab, held, l.slab, dx, l.channels, seat.lane, l.places,
                                 l.lanes, c, sum, sum_h);
}

/* Operands of the two passes. */
template <class T> struct groupnorm_bwd_call {
    const T *dy, *x;
    const float *gamma, *beta, *mean, *rstd;
    float *rows, *part;
    T *dx;
};

/* First pass: a chunk's channels' sums into a row of `rows`, and those of its groups into part [N,
 * groups, chunks, 2]. */
template <class T, bool SILU>
__device__ __forceinline__ void groupnorm_bwd_sums(const groupnorm_bwd_call<T> &p,
                                                   const groupnorm_turn &turn,
                                                   const groupnorm_layout &l, float *scratch)
{
    constexpr int W = nn_wide<T>;
    float *total = scratch + groupnorm_scratch(&l), *total_h = total + l.segments * l.slab;
    const int own = l.slab / l.wide, first = turn.slab * l.slab;
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    const int64_t begin = turn.chunk * l.chunk;
    const int64_t end = begin + l.chunk < l.places ? begin + l.chunk : l.places;
    const int64_t group = (int64_t)turn.sample * l.groups + first / l.wide;
    float sum[W] = {}, sum_h[W] = {};
    if (seat.taken) {
        groupnorm_bwd_channels<W> c;
        groupnorm_bwd_know(p.gamma + first, p.beta + first, p.mean + group, p.rstd + group,
                           seat.column, l.wide, c);
        groupnorm_bwd_add<T, SILU>(p.dy + turn.sample * l.dy_sample + first + seat.column,
                                   l.dy_pitch, p.x + turn.sample * l.x_sample + first + seat.column,
                                   l.x_pitch, begin + seat.lane, end, l.lanes, c, sum, sum_h);
    }
    groupnorm_join(sum, seat, l, scratch, total);
    groupnorm_join(sum_h, seat, l, scratch, total_h);
    groupnorm_bwd_leave(total, total_h, l, first,
                        p.rows + (turn.sample * l.chunks + turn.chunk) * 2 * l.channels);
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        const float e = groupnorm_group(total, p.gamma + first, l, g);
        const float eh = groupnorm_group(total_h, p.gamma + first, l, g);
        const nn_vec<float, 2> out = { { e, eh } };
        if (nn_lane() == 0) nn_store(p.part + ((group + g) * l.chunks + turn.chunk) * 2, out);
    }
}

/* Second pass: dx of a chunk. */
template <class T, bool SILU>
__device__ __forceinline__ void groupnorm_bwd_apply(const groupnorm_bwd_call<T> &p,
                                                    const groupnorm_turn &turn,
                                                    const groupnorm_layout &l, float *mean_e)
{
    constexpr int W = nn_wide<T>;
    const int own = l.slab / l.wide, first = turn.slab * l.slab;
    float *mean_eh = mean_e + own;
    const int64_t sample = turn.sample, group = sample * l.groups + first / l.wide;
    const float n = (float)l.wide * (float)l.places;
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        float e = 0, eh = 0;
        for (int64_t k = nn_lane(); k < l.chunks; k += NN_WARP) {
            const nn_vec<float, 2> v = nn_load<2>(p.part + ((group + g) * l.chunks + k) * 2);
            e += v.at[0];
            eh += v.at[1];
        }
        e = nn_warp_sum(e);
        eh = nn_warp_sum(eh);
        if (nn_lane() > 0) continue;
        mean_e[g] = e / n;
        mean_eh[g] = eh / n;
    }
    __syncthreads();
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    if (!seat.taken) return;
    groupnorm_bwd_channels<W> c;
    float of_e[W], of_eh[W];
    groupnorm_bwd_know(p.gamma + first, p.beta + first, p.mean + group, p.rstd + group, seat.column,
                       l.wide, c);
    groupnorm_spread(mean_e, seat.column, l.wide, of_e);
    groupnorm_spread(mean_eh, seat.column, l.wide, of_eh);
    const int64_t begin = turn.chunk * l.chunk;
    const int64_t end = begin + l.chunk < l.places ? begin + l.chunk : l.places;
    groupnorm_bwd_write<T, SILU>(p.dy + sample * l.dy_sample + first + seat.column, l.dy_pitch,
                                 p.x + sample * l.x_sample + first + seat.column, l.x_pitch,
                                 p.dx + sample * l.places * l.channels + first + seat.column,
                                 l.channels, begin + seat.lane, end, l.lanes, c, of_e, of_eh);
}

/* groupnorm_bwd_twopass: a block owns a chunk of places of a slab in one of two passes; the last
 * chunks of the first come first in the second: they are what the cache still holds. Traffic: dy
 * and x twice (in part from the cache), dx once. */
template <class T, bool SILU>
__global__ void __launch_bounds__(GROUPNORM_CHUNK_THREADS, 2)
    groupnorm_bwd_twopass(const groupnorm_bwd_call<T> p, unsigned *counters,
                          const groupnorm_layout l)
{
    NN_SHARED_DYN(float, scratch);
    const groupnorm_turn turn = groupnorm_draw(l, counters, reinterpret_cast<unsigned *>(scratch));
    if (turn.second) {
        groupnorm_await(turn, l);
        groupnorm_bwd_apply<T, SILU>(p, turn, l, scratch);
    } else {
        groupnorm_bwd_sums<T, SILU>(p, turn, l, scratch);
        groupnorm_tell(turn);
    }
    groupnorm_leave(l, counters);
}

/* -- host -------------------------------------------------------------------------------------- */

enum { DY, X, GAMMA, BETA, MEAN, RSTD };
enum { DX, DGAMMA, DBETA };

static const nn_groupnorm_params *params_of(const nn_call *c)
{
    return static_cast<const nn_groupnorm_params *>(c->params);
}

static bool accepts_any(const nn_call *c)
{
    bool fit = nn_is_float(&c->in[X]) && c->in[DY].dtype == c->in[X].dtype &&
               c->out[DX].dtype == c->in[X].dtype;
    for (int k = GAMMA; k <= RSTD; k++) fit = fit && c->in[k].dtype == NN_F32;
    for (int k = DX; k <= DBETA; k++)
        fit = fit && nn_view_contiguous(&c->out[k]) && (k == DX || c->out[k].dtype == NN_F32);
    return fit && nn_view_contiguous(&c->in[MEAN]) && nn_view_contiguous(&c->in[RSTD]) &&
           c->in[X].dim[0] <= UINT16_MAX;
}

static bool accepts_wide(const nn_call *c, groupnorm_layout *l)
{
    return accepts_any(c) && groupnorm_shape(&c->in[X], &c->in[DY], params_of(c)->groups, l) &&
           groupnorm_packed16(&c->in[GAMMA]) && groupnorm_packed16(&c->in[BETA]) &&
           nn_aligned16(&c->out[DX]);
}

static bool onepass_layout(const nn_call *c, groupnorm_layout *l)
{
    return accepts_wide(c, l) && groupnorm_cut_slabs(l, c->in[X].dtype);
}

static bool twopass_layout(const nn_call *c, groupnorm_layout *l)
{
    return accepts_wide(c, l) && groupnorm_cut_chunks(l, c->in[X].dtype);
}

static size_t onepass_shared(const nn_call *c, const groupnorm_layout *l)
{
    return (size_t)(2 * l->places * l->slab * nn_dtype_bytes(c->in[X].dtype)) +
           groupnorm_shared(l, 2, 2);
}

static bool accepts_onepass(const nn_call *c)
{
    groupnorm_layout l;
    return onepass_layout(c, &l) && onepass_shared(c, &l) <= (size_t)nn_cuda_of(c)->shared_bytes;
}

static bool accepts_twopass(const nn_call *c)
{
    groupnorm_layout l;
    return twopass_layout(c, &l) &&
           groupnorm_shared(&l, 2, 2) <= (size_t)nn_cuda_of(c)->shared_bytes;
}

/* Rows [2, C] for the parameters. */
static int64_t row_floats(const groupnorm_layout *l)
{
    return l->samples * l->chunks * 2 * l->channels;
}

static size_t workspace_onepass(const nn_call *c)
{
    groupnorm_layout l;
    return onepass_layout(c, &l) ? (size_t)row_floats(&l) * sizeof(float) : 0;
}

static size_t workspace_twopass(const nn_call *c)
{
    groupnorm_layout l;
    if (!twopass_layout(c, &l)) return 0;
    return (size_t)(row_floats(&l) + l.samples * l.groups * l.chunks * 2) * sizeof(float);
}

/* The second pass reads dy and x again. */
static double extra_twopass(const nn_call *c)
{
    return (double)(nn_view_bytes(&c->in[DY]) + nn_view_bytes(&c->in[X])) +
           2 * (double)workspace_twopass(c);
}

static const float *f32_in(const nn_call *c, int k)
{
    return static_cast<const float *>(c->in[k].data);
}

template <class T> static const T *data_in(const nn_call *c, int k)
{
    return static_cast<const T *>(c->in[k].data);
}

static nn_status join_params(const nn_call *c, const groupnorm_layout &l)
{
    return nn_columns_run_join(c, static_cast<const float *>(c->workspace), 1, l.samples * l.chunks,
                               2 * (int64_t)l.channels, static_cast<float *>(c->out[DGAMMA].data),
                               static_cast<float *>(c->out[DBETA].data), l.channels);
}

template <class T, bool SILU>
static nn_status onepass_as(const nn_call *c, const groupnorm_layout &l)
{
    const dim3 grid((unsigned)l.slabs, (unsigned)l.samples);
    return NN_LAUNCH((groupnorm_bwd_onepass<T, SILU>), grid, GROUPNORM_SLAB_THREADS,
                     onepass_shared(c, &l), c, data_in<T>(c, DY), data_in<T>(c, X),
                     f32_in(c, GAMMA), f32_in(c, BETA), f32_in(c, MEAN), f32_in(c, RSTD),
                     static_cast<T *>(c->out[DX].data), static_cast<float *>(c->workspace), l);
}

template <class T, bool SILU>
static nn_status twopass_as(const nn_call *c, const groupnorm_layout &l)
{
    float *rows = static_cast<float *>(c->workspace);
    const groupnorm_bwd_call<T> p = { .dy = data_in<T>(c, DY),
                                      .x = data_in<T>(c, X),
                                      .gamma = f32_in(c, GAMMA),
                                      .beta = f32_in(c, BETA),
                                      .mean = f32_in(c, MEAN),
                                      .rstd = f32_in(c, RSTD),
                                      .rows = rows,
                                      .part = rows + row_floats(&l),
                                      .dx = static_cast<T *>(c->out[DX].data) };
    return NN_LAUNCH((groupnorm_bwd_twopass<T, SILU>), groupnorm_turns(&l), GROUPNORM_CHUNK_THREADS,
                     groupnorm_shared(&l, 2, 2), c, p, nn_cuda_of(c)->arrivals, l);
}

static nn_status run_slabs(const nn_call *c, const groupnorm_layout &l)
{
    if (params_of(c)->silu) NN_DISPATCH(c->in[X].dtype, T, return (onepass_as<T, true>(c, l)));
    NN_DISPATCH(c->in[X].dtype, T, return (onepass_as<T, false>(c, l)));
}

static nn_status run_chunks(const nn_call *c, const groupnorm_layout &l)
{
    if (params_of(c)->silu) NN_DISPATCH(c->in[X].dtype, T, return (twopass_as<T, true>(c, l)));
    NN_DISPATCH(c->in[X].dtype, T, return (twopass_as<T, false>(c, l)));
}

static nn_status run_onepass(const nn_call *c)
{
    groupnorm_layout l;
    if (!onepass_layout(c, &l)) return NN_OK;
    NN_TRY(run_slabs(c, l));
    return join_params(c, l);
}

static nn_status run_twopass(const nn_call *c)
{
    groupnorm_layout l;
    if (!twopass_layout(c, &l)) return NN_OK;
    NN_TRY(run_chunks(c, l));
    return join_params(c, l);
}

extern "C" const nn_kernel nn_cuda_groupnorm_bwd[] = {
    { .name = "groupnorm_bwd_onepass",
      .accepts = accepts_onepass,
      .run = run_onepass,
      .workspace = workspace_onepass },
    { .name = "groupnorm_bwd_twopass",
      .accepts = accepts_twopass,
      .run = run_twopass,
      .workspace = workspace_twopass,
      .extra_bytes = extra_twopass },
    { .name = "groupnorm_bwd_any", .accepts = accepts_any, .run = groupnorm_bwd_run_any },
    {}
};
