/* groupnorm, with SiLU if asked.
 *
 * All kernels measure x from an element of its group: means far from zero do not cancel. f32, every
 * sum in a fixed order: deterministic. */
#include "kernels/cuda/groupnorm.cuh"

/* y = (x - shift) * factor + term, then SiLU, for the places begin, begin + lanes, ... */
template <class T, bool SILU, int W>
__device__ __forceinline__ void groupnorm_write(const T *from, int64_t from_pitch, T *to,
                                                int64_t to_pitch, int64_t begin, int64_t end,
                                                int lanes, const float (&shift)[W],
                                                const float (&factor)[W], const float (&term)[W])
{
#pragma unroll 2
    for (int64_t p = begin; p < end; p += lanes) {
        nn_vec<T, W> v = nn_load<W>(from + p * from_pitch);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float z = (nn_float(v.at[k]) - shift[k]) * factor[k] + term[k];
            v.at[k] = nn_from<T>(SILU ? z * nn_sigmoid(z) : z);
        }
        nn_store(to + p * to_pitch, v);
    }
}

/* factor = scale * gamma, term = beta - offset * factor */
template <int W>
__device__ __forceinline__ void groupnorm_affine(const float *gamma, const float *beta,
                                                 const float *offset, const float *scale,
                                                 int column, int wide, float (&factor)[W],
                                                 float (&term)[W])
{
    float o[W];
    groupnorm_spread(scale, column, wide, o);
    groupnorm_vector(gamma + column, factor);
    groupnorm_vector(beta + column, term);
#pragma unroll
    for (int k = 0; k < W; k++) factor[k] *= o[k];
    groupnorm_spread(offset, column, wide, o);
#pragma unroll
    for (int k = 0; k < W; k++) term[k] -= o[k] * factor[k];
}

/* Sums of (x - shift - offset) to a power, of what a thread holds of a slab. */
template <class T, int POWER, int W>
__device__ __forceinline__ void groupnorm_deviations(const T *held, int64_t begin,
                                                     const groupnorm_layout &l,
                                                     const float (&shift)[W],
                                                     const float (&offset)[W], float (&sum)[W])
{
    for (int64_t p = begin; p < l.places; p += l.lanes) {
        const nn_vec<T, W> v = nn_load<W>(held + p * l.slab);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float d = nn_float(v.at[k]) - shift[k] - offset[k];
            sum[k] += POWER == 2 ? d * d : d;
        }
    }
}

/* groupnorm_onepass: a block owns a slab of one sample and holds it in shared memory, where every
 * thread reads back what it copied itself. Mean, then squares of the deviations. Traffic: x and y
 * once; slabs of 80 bytes end within a sector that two blocks then read. */
template <class T, bool SILU>
__global__ void __launch_bounds__(GROUPNORM_SLAB_THREADS, 2)
    groupnorm_onepass(const T *x, const float *gamma, const float *beta, T *y, float *mean,
                      float *rstd, const groupnorm_layout l)
{
    constexpr int W = nn_wide<T>;
    NN_SHARED_DYN(T, held);
    float *scratch = reinterpret_cast<float *>(held + l.places * l.slab);
    float *total = scratch + groupnorm_scratch(&l), *shift = total + l.segments * l.slab;
    const int own = l.slab / l.wide, first = (int)blockIdx.x * l.slab;
    float *offset = shift + own, *scale = offset + own;
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    const float n = (float)l.wide * (float)l.places;
    x += blockIdx.y * l.x_sample + first;
    y += (int64_t)blockIdx.y * l.places * l.channels + first;

    if (seat.taken)
        for (int64_t p = seat.lane; p < l.places; p += l.lanes)
            cp_async16(held + p * l.slab + seat.column, x + p * l.x_pitch + seat.column, true);
    cp_async_commit();
    for (int g = (int)threadIdx.x; g < own; g += (int)blockDim.x)
        shift[g] = nn_float(x[g * l.wide]);
    cp_async_wait<0>();
    __syncthreads();

    float s[W] = {}, o[W] = {}, sum[W] = {}, squares[W] = {};
    if (seat.taken) {
        groupnorm_spread(shift, seat.column, l.wide, s);
        groupnorm_deviations<T, 1>(held + seat.column, seat.lane, l, s, o, sum);
    }
    groupnorm_join(sum, seat, l, scratch, total);
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        const float all = groupnorm_group(total, nullptr, l, g);
        if (nn_lane() == 0) offset[g] = all / n;
    }
    __syncthreads();

    if (seat.taken) {
        groupnorm_spread(offset, seat.column, l.wide, o);
        groupnorm_deviations<T, 2>(held + seat.column, seat.lane, l, s, o, squares);
    }
    groupnorm_join(squares, seat, l, scratch, total);
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        const float all = groupnorm_group(total, nullptr, l, g);
        const int64_t at = (int64_t)blockIdx.y * l.groups + first / l.wide + g;
        if (nn_lane() > 0) continue;
        scale[g] = rsqrtf(all / n + l.eps);
        mean[at] = shift[g] + offset[g];
        rstd[at] = scale[g];
    }
    __syncthreads();
    if (!seat.taken) return;
    float factor[W], term[W];
    groupnorm_affine(gamma + first, beta + first, offset, scale, seat.column, l.wide, factor, term);
    groupnorm_write<T, SILU>(held + seat.column, l.slab, y + seat.column, l.channels, seat.lane,
                             l.places, l.lanes, s, factor, term);
}

/* A group's sums over one chunk: of x - shift and of its square. */
typedef nn_vec<float, 4> groupnorm_part;
enum { SHIFT, SUM, SQUARES };

/* First pass: the sums of a chunk's groups, into part [N, groups, chunks]. */
template <class T>
__device__ __forceinline__ void groupnorm_statistics(const T *x, float *part,
                                                     const groupnorm_turn &turn,
                                                     const groupnorm_layout &l, float *scratch)
{
    constexpr int W = nn_wide<T>;
    float *total = scratch + groupnorm_scratch(&l), *shift = total + 2 * l.segments * l.slab;
    const int own = l.slab / l.wide, first = turn.slab * l.slab;
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    const int64_t begin = turn.chunk * l.chunk;
    const int64_t end = begin + l.chunk < l.places ? begin + l.chunk : l.places;
    x += turn.sample * l.x_sample + first;
    for (int g = (int)threadIdx.x; g < own; g += (int)blockDim.x)
        shift[g] = nn_float(x[begin * l.x_pitch + g * l.wide]);
    __syncthreads();

    float s[W] = {}, sum[W] = {}, squares[W] = {};
    if (seat.taken) {
        groupnorm_spread(shift, seat.column, l.wide, s);
#pragma unroll 4
        for (int64_t p = begin + seat.lane; p < end; p += l.lanes) {
            const nn_vec<T, W> v = nn_load<W>(x + p * l.x_pitch + seat.column);
#pragma unroll
            for (int k = 0; k < W; k++) {
                const float d = nn_float(v.at[k]) - s[k];
                sum[k] += d;
                squares[k] += d * d;
            }
        }
    }
    float *total_squares = total + l.segments * l.slab;
    groupnorm_join(sum, seat, l, scratch, total);
    groupnorm_join(squares, seat, l, scratch, total_squares);
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        groupnorm_part out = {};
        out.at[SHIFT] = shift[g];
        out.at[SUM] = groupnorm_group(total, nullptr, l, g);
        out.at[SQUARES] = groupnorm_group(total_squares, nullptr, l, g);
        const int64_t group = (int64_t)turn.sample * l.groups + first / l.wide + g;
        if (nn_lane() == 0) nn_store(part + (group * l.chunks + turn.chunk) * 4, out);
    }
}

/* Mean (from the first chunk's shift) and rstd of a group from its chunks; the warp does it. */
struct groupnorm_moments {
    float shift, offset, scale;
};

__device__ __forceinline__ groupnorm_moments groupnorm_merge(const float *part,
                                                             const groupnorm_layout &l)
{
    const float shift = part[SHIFT], n = (float)l.wide * (float)l.places;
    float sum = 0, squares = 0;
    for (int c = nn_lane(); c < l.chunks; c += NN_WARP) {
        const groupnorm_part p = nn_load<4>(part + c * 4);
        const int64_t rest = l.places - c * l.chunk;
        const float own = (float)l.wide * (float)(rest < l.chunk ? rest : l.chunk);
        sum += own * (p.at[SHIFT] - shift) + p.at[SUM];
    }
    const float offset = nn_warp_sum(sum) / n;
    for (int c = nn_lane(); c < l.chunks; c += NN_WARP) {
        const groupnorm_part p = nn_load<4>(part + c * 4);
        const int64_t rest = l.places - c * l.chunk;
        const float own = (float)l.wide * (float)(rest < l.chunk ? rest : l.chunk);
        const float mean = p.at[SUM] / own, apart = p.at[SHIFT] - shift + mean - offset;
        squares += p.at[SQUARES] - p.at[SUM] * mean + own * apart * apart;
    }
    squares = fmaxf(nn_warp_sum(squares), 0.0f);
    return { shift, offset, rsqrtf(squares / n + l.eps) };
}

/* Second pass: a chunk normalised. */
template <class T, bool SILU>
__device__ __forceinline__ void groupnorm_apply(const T *x, const float *gamma, const float *beta,
                                                const float *part, T *y, float *mean, float *rstd,
                                                const groupnorm_turn &turn,
                                                const groupnorm_layout &l, float *shift)
{
    constexpr int W = nn_wide<T>;
    const int own = l.slab / l.wide, first = turn.slab * l.slab;
    float *offset = shift + own, *scale = offset + own;
    const int64_t sample = turn.sample;
    for (int g = nn_warp(); g < own; g += (int)blockDim.x / NN_WARP) {
        const int64_t group = sample * l.groups + first / l.wide + g;
        const groupnorm_moments m = groupnorm_merge(part + group * l.chunks * 4, l);
        if (nn_lane() > 0) continue;
        shift[g] = m.shift;
        offset[g] = m.offset;
        scale[g] = m.scale;
        if (turn.chunk > 0) continue;
        mean[group] = m.shift + m.offset;
        rstd[group] = m.scale;
    }
    __syncthreads();
    const groupnorm_seat seat = groupnorm_seat_of<W>(l);
    if (!seat.taken) return;
    float s[W], factor[W], term[W];
    groupnorm_spread(shift, seat.column, l.wide, s);
    groupnorm_affine(gamma + first, beta + first, offset, scale, seat.column, l.wide, factor, term);
    const int64_t begin = turn.chunk * l.chunk;
    const int64_t end = begin + l.chunk < l.places ? begin + l.chunk : l.places;
    groupnorm_write<T, SILU>(x + sample * l.x_sample + first + seat.column, l.x_pitch,
                             y + sample * l.places * l.channels + first + seat.column, l.channels,
                             begin + seat.lane, end, l.lanes, s, factor, term);
}

/* groupnorm_twopass: a block owns a chunk of places of a slab in one of two passes. The last chunks
 * of the first come first in the second: they are what the cache still holds. Traffic: x twice (in
 * part from the cache), y once. */
template <class T, bool SILU>
__global__ void __launch_bounds__(GROUPNORM_CHUNK_THREADS)
    groupnorm_twopass(const T *x, const float *gamma, const float *beta, float *part, T *y,
                      float *mean, float *rstd, unsigned *counters, const groupnorm_layout l)
{
    NN_SHARED_DYN(float, scratch);
    const groupnorm_turn turn = groupnorm_draw(l, counters, reinterpret_cast<unsigned *>(scratch));
    if (turn.second) {
        groupnorm_await(turn, l);
        groupnorm_apply<T, SILU>(x, gamma, beta, part, y, mean, rstd, turn, l, scratch);
    } else {
        groupnorm_statistics(x, part, turn, l, scratch);
        groupnorm_tell(turn);
    }
    groupnorm_leave(l, counters);
}

/* -- host -------------------------------------------------------------------------------------- */

static const nn_groupnorm_params *params_of(const nn_call *c)
{
    return static_cast<const nn_groupnorm_params *>(c->params);
}

static bool accepts_any(const nn_call *c)
{
    bool fit = nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype;
    for (int k = 1; k < 3; k++)
        fit = fit && c->in[k].dtype == NN_F32 && c->out[k].dtype == NN_F32 &&
              nn_view_contiguous(&c->out[k]);
    return fit && c->in[0].dim[0] <= UINT16_MAX;
}

static bool accepts_wide(const nn_call *c, groupnorm_layout *l)
{
    return accepts_any(c) && groupnorm_shape(&c->in[0], NULL, params_of(c)->groups, l) &&
           groupnorm_packed16(&c->in[1]) && groupnorm_packed16(&c->in[2]) &&
           groupnorm_packed16(&c->out[0]);
}

static size_t onepass_shared(const nn_call *c, const groupnorm_layout *l)
{
    return (size_t)(l->places * l->slab * nn_dtype_bytes(c->in[0].dtype)) +
           groupnorm_shared(l, 1, 3);
}

static bool accepts_onepass(const nn_call *c)
{
    groupnorm_layout l;
    return accepts_wide(c, &l) && groupnorm_cut_slabs(&l, c->in[0].dtype) &&
           onepass_shared(c, &l) <= (size_t)nn_cuda_of(c)->shared_bytes;
}

static bool accepts_twopass(const nn_call *c)
{
    groupnorm_layout l;
    return accepts_wide(c, &l) && groupnorm_cut_chunks(&l, c->in[0].dtype) &&
           groupnorm_shared(&l, 2, 3) <= (size_t)nn_cuda_of(c)->shared_bytes;
}

static size_t workspace_twopass(const nn_call *c)
{
    groupnorm_layout l;
    if (!accepts_wide(c, &l) || !groupnorm_cut_chunks(&l, c->in[0].dtype)) return 0;
    return (size_t)(l.samples * l.groups * l.chunks) * sizeof(groupnorm_part);
}

/* The second pass reads x again. */
static double extra_twopass(const nn_call *c)
{
    return (double)nn_view_bytes(&c->in[0]) + 2 * (double)workspace_twopass(c);
}

static const float *f32_in(const nn_call *c, int k)
{
    return static_cast<const float *>(c->in[k].data);
}

static float *f32_out(const nn_call *c, int k)
{
    return static_cast<float *>(c->out[k].data);
}

template <class T, bool SILU>
static nn_status onepass_as(const nn_call *c, const groupnorm_layout &l)
{
    const dim3 grid((unsigned)l.slabs, (unsigned)l.samples);
    return NN_LAUNCH((groupnorm_onepass<T, SILU>), grid, GROUPNORM_SLAB_THREADS,
                     onepass_shared(c, &l), c, static_cast<const T *>(c->in[0].data), f32_in(c, 1),
                     f32_in(c, 2), static_cast<T *>(c->out[0].data), f32_out(c, 1), f32_out(c, 2),
                     l);
}

static nn_status run_onepass(const nn_call *c)
{
    groupnorm_layout l;
    if (!accepts_wide(c, &l) || !groupnorm_cut_slabs(&l, c->in[0].dtype)) return NN_OK;
    l.eps = (float)params_of(c)->eps;
    if (params_of(c)->silu) NN_DISPATCH(c->in[0].dtype, T, return (onepass_as<T, true>(c, l)));
    NN_DISPATCH(c->in[0].dtype, T, return (onepass_as<T, false>(c, l)));
}

template <class T, bool SILU>
static nn_status twopass_as(const nn_call *c, const groupnorm_layout &l)
{
    return NN_LAUNCH((groupnorm_twopass<T, SILU>), groupnorm_turns(&l), GROUPNORM_CHUNK_THREADS,
                     groupnorm_shared(&l, 2, 3), c, static_cast<const T *>(c->in[0].data),
                     f32_in(c, 1), f32_in(c, 2), static_cast<float *>(c->workspace),
                     static_cast<T *>(c->out[0].data), f32_out(c, 1), f32_out(c, 2),
                     nn_cuda_of(c)->arrivals, l);
}

static nn_status run_twopass(const nn_call *c)
{
    groupnorm_layout l;
    if (!accepts_wide(c, &l) || !groupnorm_cut_chunks(&l, c->in[0].dtype)) return NN_OK;
    l.eps = (float)params_of(c)->eps;
    if (params_of(c)->silu) NN_DISPATCH(c->in[0].dtype, T, return (twopass_as<T, true>(c, l)));
    NN_DISPATCH(c->in[0].dtype, T, return (twopass_as<T, false>(c, l)));
}

extern "C" const nn_kernel nn_cuda_groupnorm[] = {
    { .name = "groupnorm_onepass", .accepts = accepts_onepass, .run = run_onepass },
    { .name = "groupnorm_twopass",
      .accepts = accepts_twopass,
      .run = run_twopass,
      .workspace = workspace_twopass,
      .extra_bytes = extra_twopass },
    { .name = "groupnorm_any", .accepts = accepts_any, .run = groupnorm_run_any },
    {}
};
