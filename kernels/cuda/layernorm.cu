/* layernorm and its gradient.
 *
 * All kernels measure x from its row's first element: means far from zero do not cancel, and the
 * deviations are those from the exact mean, not from its rounded copy. f32, deterministic. */
#include "kernels/cuda/columns.cuh"

constexpr int LAYERNORM_THREADS = 128, LAYERNORM_WARPS = LAYERNORM_THREADS / NN_WARP;
constexpr int LAYERNORM_WIDEST = 1280; /* elements that a warp holds */

/* -- a warp owns a row ------------------------------------------------------------------------ */

struct layernorm_rows {
    int64_t rows;
    int64_t x_pitch, dy_pitch; /* elements */
    int width, pieces;         /* of a row; a piece is 16 bytes */
    float eps;
};

template <int W> __device__ __forceinline__ void layernorm_vector(const float *from, float (&to)[W])
{
#pragma unroll
    for (int k = 0; k < W; k += 4) {
        const nn_vec<float, 4> v = nn_load<4>(from + k);
#pragma unroll
        for (int j = 0; j < 4; j++) to[k + j] = v.at[j];
    }
}

/* layernorm_warp: a warp owns a row and holds it in registers, a lane every 32nd piece of 16 bytes,
 * at most STEPS of them. Traffic: x and y once; gamma and beta from the cache. */
template <class T, int STEPS>
__global__ void __launch_bounds__(LAYERNORM_THREADS, 4)
    layernorm_warp(const T *x, const float *gamma, const float *beta, T *y, float *mean,
                   float *rstd, const layernorm_rows r)
{
    constexpr int W = nn_wide<T>;
    const int64_t row = (int64_t)blockIdx.x * LAYERNORM_WARPS + nn_warp();
    if (row >= r.rows) return;
    nn_vec<T, W> v[STEPS] = {};
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        const int piece = s * NN_WARP + nn_lane();
        if (piece < r.pieces) v[s] = nn_load<W>(x + row * r.x_pitch + piece * W);
    }
    const float shift = __shfl_sync(NN_ALL_LANES, nn_float(v[0].at[0]), 0);
    float sum = 0, squares = 0;
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int k = 0; k < W; k++)
            if (s * NN_WARP + nn_lane() < r.pieces) sum += nn_float(v[s].at[k]) - shift;
    const float offset = nn_warp_sum(sum) / (float)r.width;
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float d = nn_float(v[s].at[k]) - shift - offset;
            if (s * NN_WARP + nn_lane() < r.pieces) squares += d * d;
        }
    const float scale = rsqrtf(nn_warp_sum(squares) / (float)r.width + r.eps);
    if (nn_lane() == 0) {
        mean[row] = shift + offset;
        rstd[row] = scale;
    }
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        const int column = (s * NN_WARP + nn_lane()) * W;
        if (column >= r.width) continue;
        float g[W], b[W];
        layernorm_vector(gamma + column, g);
        layernorm_vector(beta + column, b);
#pragma unroll
        for (int k = 0; k < W; k++)
            v[s].at[k] = nn_from<T>((nn_float(v[s].at[k]) - shift - offset) * scale * g[k] + b[k]);
        nn_store(y + row * r.width + column, v[s]);
    }
}

/* Where element k of a lane's piece s lies in shared memory: lanes side by side, and padded so that
 * neighbouring columns are in different banks too. */
template <int W> __device__ __forceinline__ int layernorm_bwd_place(int s, int k, int lane)
{
    return (s * W + k) * (NN_WARP + NN_WARP / W) + lane;
}

template <int STEPS, int W> constexpr int layernorm_bwd_floats = STEPS *W *(NN_WARP + NN_WARP / W);

/* Adds up the warps' sums, one warp after the other, and leaves them in `row` [2, width]. */
template <int STEPS, int W>
__device__ __forceinline__ void layernorm_bwd_join(const float (&dgamma)[STEPS][W],
                                                   const float (&dbeta)[STEPS][W], float *joined,
                                                   int width, float *row)
{
    constexpr int HALF = layernorm_bwd_floats<STEPS, W>;
    for (int turn = 0; turn < LAYERNORM_WARPS; turn++) {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int k = 0; k < W; k++) {
                float *to = joined + layernorm_bwd_place<W>(s, k, nn_lane());
                if (turn != nn_warp()) continue;
                to[0] = (turn ? to[0] : 0.0f) + dgamma[s][k];
                to[HALF] = (turn ? to[HALF] : 0.0f) + dbeta[s][k];
            }
        __syncthreads();
    }
    for (int i = (int)threadIdx.x; i < width; i += LAYERNORM_THREADS) {
        const int piece = i / W;
        const int from = layernorm_bwd_place<W>(piece / NN_WARP, i % W, piece % NN_WARP);
        row[i] = joined[from];
        row[width + i] = joined[HALF + from];
    }
}

/* layernorm_bwd_warp: a warp owns every so-many-th row; it holds a row of x and dy, and for its
 * columns the sums for dgamma and dbeta of all its rows. The block joins its warps one after the
 * other and leaves [2, width] in `part`, which nn_columns_join adds up. Traffic: dy, x and dx once;
 * gamma from the cache. */
template <class T, int STEPS>
__global__ void __launch_bounds__(LAYERNORM_THREADS)
    layernorm_bwd_warp(const T *dy, const T *x, const float *gamma, const float *mean,
                       const float *rstd, T *dx, float *part, const layernorm_rows r)
{
    constexpr int W = nn_wide<T>;
    NN_SHARED(float, joined, (2 * layernorm_bwd_floats<STEPS, W>));
    float dgamma[STEPS][W] = {}, dbeta[STEPS][W] = {};
    for (int64_t row = (int64_t)blockIdx.x * LAYERNORM_WARPS + nn_warp(); row < r.rows;
         row += (int64_t)gridDim.x * LAYERNORM_WARPS) {
        nn_vec<T, W> v[STEPS] = {}, d[STEPS] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            const int column = (s * NN_WARP + nn_lane()) * W;
            if (column >= r.width) continue;
            v[s] = nn_load<W>(x + row * r.x_pitch + column);
            d[s] = nn_load<W>(dy + row * r.dy_pitch + column);
        }
        const float m = mean[row], scale = rstd[row];
        float sum = 0, sum_h = 0;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            const int column = (s * NN_WARP + nn_lane()) * W;
            float g[W] = {};
            if (column < r.width) layernorm_vector(gamma + column, g);
#pragma unroll
            for (int k = 0; k < W; k++) {
                const float slope = nn_float(d[s].at[k]), h = (nn_float(v[s].at[k]) - m) * scale;
                sum += slope * g[k];
                sum_h += slope * g[k] * h;
                dgamma[s][k] += slope * h;
                dbeta[s][k] += slope;
            }
        }
        sum = nn_warp_sum(sum) / (float)r.width;
        sum_h = nn_warp_sum(sum_h) / (float)r.width;
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            const int column = (s * NN_WARP + nn_lane()) * W;
            float g[W];
            if (column >= r.width) continue;
            layernorm_vector(gamma + column, g);
#pragma unroll
            for (int k = 0; k < W; k++) {
                const float h = (nn_float(v[s].at[k]) - m) * scale;
                d[s].at[k] = nn_from<T>(scale * (nn_float(d[s].at[k]) * g[k] - sum - h * sum_h));
            }
            nn_store(dx + row * r.width + column, d[s]);
        }
    }
    layernorm_bwd_join(dgamma, dbeta, joined, r.width, part + (int64_t)blockIdx.x * 2 * r.width);
}

/* -- a block owns a row of any stride ---------------------------------------------------------- */

/* Elements from one to the next along the last dim. */
struct layernorm_steps {
    int64_t width, x, y, gamma, beta;
    float eps;
};

/* layernorm_any: three readings of x. Views of rows: x, y, mean, rstd. */
template <class T>
__global__ void __launch_bounds__(LAYERNORM_THREADS)
    layernorm_any(const T *x, const float *gamma, const float *beta, T *y, float *mean, float *rstd,
                  const nn_steps<4> rows, const layernorm_steps s)
{
    NN_SHARED(float, scratch, LAYERNORM_WARPS);
    int64_t at[4];
    nn_offsets(rows, blockIdx.x, at);
    x += at[0];
    y += at[1];
    const float shift = nn_float(x[0]);
    float sum = 0, squares = 0;
    for (int64_t k = threadIdx.x; k < s.width; k += LAYERNORM_THREADS)
        sum += nn_float(x[k * s.x]) - shift;
    const float offset = nn_block_sum<LAYERNORM_THREADS>(sum, scratch) / (float)s.width;
    for (int64_t k = threadIdx.x; k < s.width; k += LAYERNORM_THREADS) {
        const float d = nn_float(x[k * s.x]) - shift - offset;
        squares += d * d;
    }
    squares = nn_block_sum<LAYERNORM_THREADS>(squares, scratch);
    const float scale = rsqrtf(squares / (float)s.width + s.eps);
    if (threadIdx.x == 0) {
        mean[at[2]] = shift + offset;
        rstd[at[3]] = scale;
    }
    for (int64_t k = threadIdx.x; k < s.width; k += LAYERNORM_THREADS)
        y[k * s.y] =
            nn_from<T>((nn_float(x[k * s.x]) - shift - offset) * scale * gamma[k * s.gamma] +
                       beta[k * s.beta]);
}

/* layernorm_bwd_any_dx: two readings of dy and x. s.y steps in dy; dx is packed. Views of rows: dy,
 * x, mean, rstd. */
template <class T>
__global__ void __launch_bounds__(LAYERNORM_THREADS)
    layernorm_bwd_any_dx(const T *dy, const T *x, const float *gamma, const float *mean,
                         const float *rstd, T *dx, const nn_steps<4> rows, const layernorm_steps s)
{
    NN_SHARED(float, scratch, LAYERNORM_WARPS);
    int64_t at[4];
    nn_offsets(rows, blockIdx.x, at);
    dy += at[0];
    x += at[1];
    dx += blockIdx.x * s.width;
    const float m = mean[at[2]], scale = rstd[at[3]];
    float sum = 0, sum_h = 0;
    for (int64_t k = threadIdx.x; k < s.width; k += LAYERNORM_THREADS) {
        const float e = nn_float(dy[k * s.y]) * gamma[k * s.gamma];
        sum += e;
        sum_h += e * (nn_float(x[k * s.x]) - m) * scale;
    }
    sum = nn_block_sum<LAYERNORM_THREADS>(sum, scratch) / (float)s.width;
    sum_h = nn_block_sum<LAYERNORM_THREADS>(sum_h, scratch) / (float)s.width;
    for (int64_t k = threadIdx.x; k < s.width; k += LAYERNORM_THREADS) {
        const float e = nn_float(dy[k * s.y]) * gamma[k * s.gamma];
        const float h = (nn_float(x[k * s.x]) - m) * scale;
        dx[k] = nn_from<T>(scale * (e - sum - h * sum_h));
    }
}

/* layernorm_bwd_any_params: a block owns a column. */
template <class T>
__global__ void __launch_bounds__(LAYERNORM_THREADS)
    layernorm_bwd_any_params(const T *dy, const T *x, const float *mean, const float *rstd,
                             float *dgamma, float *dbeta, const nn_steps<4> rows,
                             const layernorm_steps s)
{
    NN_SHARED(float, scratch, LAYERNORM_WARPS);
    float sum = 0, sum_h = 0;
    for (int64_t r = threadIdx.x; r < rows.n; r += LAYERNORM_THREADS) {
        int64_t at[4];
        nn_offsets(rows, r, at);
        const float d = nn_float(dy[at[0] + blockIdx.x * s.y]);
        sum += d;
        sum_h += d * (nn_float(x[at[1] + blockIdx.x * s.x]) - mean[at[2]]) * rstd[at[3]];
    }
    sum = nn_block_sum<LAYERNORM_THREADS>(sum, scratch);
    sum_h = nn_block_sum<LAYERNORM_THREADS>(sum_h, scratch);
    if (threadIdx.x > 0) return;
    dgamma[blockIdx.x] = sum_h;
    dbeta[blockIdx.x] = sum;
}

/* -- host -------------------------------------------------------------------------------------- */

/* Instances by pieces of a row: as many as hold LAYERNORM_WIDEST elements. */
#define EACH_STEPS(pieces, T, CASE)                                                                \
    if ((pieces) <= 1 * NN_WARP) CASE(T, 1);                                                       \
    if ((pieces) <= 2 * NN_WARP) CASE(T, 2);                                                       \
    if ((pieces) <= 3 * NN_WARP) CASE(T, 3);                                                       \
    if ((pieces) <= 5 * NN_WARP) CASE(T, 5);                                                       \
    CASE(T, (LAYERNORM_WIDEST / NN_WARP / nn_wide<T>))

static bool vectors(const nn_view *a, const nn_view *b)
{
    return a->dtype == NN_F32 && b->dtype == NN_F32;
}

static bool packed16(const nn_view *v)
{
    return nn_view_contiguous(v) && nn_aligned16(v);
}

static bool rows_of(const nn_view *x, const nn_view *dy, layernorm_rows *r)
{
    nn_rows rows, dy_rows = {};
    if (!nn_rows_wide(x, &rows) || (dy && !nn_rows_wide(dy, &dy_rows))) return false;
    *r = { .rows = rows.rows,
           .x_pitch = rows.pitch,
           .dy_pitch = dy_rows.pitch,
           .width = (int)rows.width,
           .pieces = (int)(rows.width * nn_dtype_bytes(x->dtype) / 16) };
    return rows.width <= LAYERNORM_WIDEST;
}

static bool accepts_any(const nn_call *c)
{
    return nn_is_float(&c->in[0]) && c->in[0].dtype == c->out[0].dtype &&
           vectors(&c->in[1], &c->in[2]) && vectors(&c->out[1], &c->out[2]);
}

static bool accepts_warp(const nn_call *c)
{
    layernorm_rows r;
    return accepts_any(c) && rows_of(&c->in[0], NULL, &r) && packed16(&c->in[1]) &&
           packed16(&c->in[2]) && packed16(&c->out[0]) && nn_view_contiguous(&c->out[1]) &&
           nn_view_contiguous(&c->out[2]);
}

static const float *f32_in(const nn_call *c, int k)
{
    return static_cast<const float *>(c->in[k].data);
}

static float *f32_out(const nn_call *c, int k)
{
    return static_cast<float *>(c->out[k].data);
}

template <class T> static nn_status run_warp_as(const nn_call *c, const layernorm_rows &r)
{
    const unsigned blocks = (unsigned)nn_ceil_div(r.rows, LAYERNORM_WARPS);
#define CASE(T, STEPS)                                                                             \
    return NN_LAUNCH((layernorm_warp<T, STEPS>), blocks, LAYERNORM_THREADS, 0, c,                  \
                     static_cast<const T *>(c->in[0].data), f32_in(c, 1), f32_in(c, 2),            \
                     static_cast<T *>(c->out[0].data), f32_out(c, 1), f32_out(c, 2), r)
    EACH_STEPS(r.pieces, T, CASE);
#undef CASE
}

static nn_status run_warp(const nn_call *c)
{
    layernorm_rows r;
    if (!rows_of(&c->in[0], NULL, &r) || !r.rows) return NN_OK;
    r.eps = (float)static_cast<const nn_layernorm_params *>(c->params)->eps;
    NN_DISPATCH(c->in[0].dtype, T, return run_warp_as<T>(c, r));
}

static nn_view leading(const nn_view *v)
{
    nn_view rows = *v;
    rows.rank--;
    return rows;
}

template <class T> static nn_status run_any_as(const nn_call *c)
{
    const nn_view x = leading(&c->in[0]), y = leading(&c->out[0]);
    const nn_view *const views[4] = { &x, &y, &c->out[1], &c->out[2] };
    const nn_steps<4> rows = nn_steps_of(&x, views);
    const layernorm_steps s = {
        nn_last(&c->in[0], 0),    c->in[0].stride[x.rank],
        c->out[0].stride[x.rank], c->in[1].stride[0],
        c->in[2].stride[0],       (float)static_cast<const nn_layernorm_params *>(c->params)->eps
    };
    if (!rows.n) return NN_OK;
    return NN_LAUNCH(layernorm_any<T>, (unsigned)rows.n, LAYERNORM_THREADS, 0, c,
                     static_cast<const T *>(c->in[0].data), f32_in(c, 1), f32_in(c, 2),
                     static_cast<T *>(c->out[0].data), f32_out(c, 1), f32_out(c, 2), rows, s);
}

static nn_status run_any(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, return run_any_as<T>(c));
}

static bool accepts_bwd_any(const nn_call *c)
{
    return nn_is_float(&c->in[1]) && c->in[0].dtype == c->in[1].dtype &&
           c->in[1].dtype == c->out[0].dtype && c->in[2].dtype == NN_F32 &&
           vectors(&c->in[3], &c->in[4]) && vectors(&c->out[1], &c->out[2]) &&
           nn_view_contiguous(&c->out[0]) && nn_view_contiguous(&c->out[1]) &&
           nn_view_contiguous(&c->out[2]);
}

static bool accepts_bwd_warp(const nn_call *c)
{
    layernorm_rows r;
    return accepts_bwd_any(c) && rows_of(&c->in[1], &c->in[0], &r) && packed16(&c->in[2]) &&
           nn_view_contiguous(&c->in[3]) && nn_view_contiguous(&c->in[4]) &&
           nn_aligned16(&c->out[0]);
}

/* As many blocks as run at once, for which registers decide; at least four rows for a warp. */
static int64_t bwd_blocks(const nn_call *c, const layernorm_rows &r)
{
    const int per_processor = r.pieces <= 3 * NN_WARP ? 4 : 2;
    const int64_t at_once = (int64_t)nn_cuda_of(c)->n_processors * per_processor;
    const int64_t most = nn_ceil_div(r.rows, 4 * LAYERNORM_WARPS);
    return at_once < most ? at_once : most;
}

static size_t workspace_bwd_warp(const nn_call *c)
{
    layernorm_rows r;
    if (!rows_of(&c->in[1], &c->in[0], &r)) return 0;
    return (size_t)(bwd_blocks(c, r) * 2 * r.width) * sizeof(float);
}

template <class T>
static nn_status run_bwd_rows_as(const nn_call *c, const layernorm_rows &r, unsigned blocks)
{
#define CASE(T, STEPS)                                                                             \
    return NN_LAUNCH((layernorm_bwd_warp<T, STEPS>), blocks, LAYERNORM_THREADS, 0, c,              \
                     static_cast<const T *>(c->in[0].data), static_cast<const T *>(c->in[1].data), \
                     f32_in(c, 2), f32_in(c, 3), f32_in(c, 4), static_cast<T *>(c->out[0].data),   \
                     static_cast<float *>(c->workspace), r)
    EACH_STEPS(r.pieces, T, CASE);
#undef CASE
}

static nn_status run_bwd_rows(const nn_call *c, const layernorm_rows &r, unsigned blocks)
{
    NN_DISPATCH(c->in[1].dtype, T, return run_bwd_rows_as<T>(c, r, blocks));
}

static nn_status run_bwd_warp(const nn_call *c)
{
    layernorm_rows r;
    if (!rows_of(&c->in[1], &c->in[0], &r)) return NN_OK;
    const int64_t blocks = bwd_blocks(c, r);
    if (blocks) NN_TRY(run_bwd_rows(c, r, (unsigned)blocks));
    return nn_columns_run_join(c, static_cast<const float *>(c->workspace), 1, blocks,
                               2 * (int64_t)r.width, f32_out(c, 1), f32_out(c, 2), r.width);
}

template <class T> static nn_status run_bwd_any_as(const nn_call *c)
{
    const nn_view dy = leading(&c->in[0]), x = leading(&c->in[1]);
    const nn_view *const views[4] = { &dy, &x, &c->in[3], &c->in[4] };
    const nn_steps<4> rows = nn_steps_of(&x, views);
    const layernorm_steps s = { .width = nn_last(&c->in[1], 0),
                                .x = c->in[1].stride[x.rank],
                                .y = c->in[0].stride[x.rank],
                                .gamma = c->in[2].stride[0] };
    const T *dy_data = static_cast<const T *>(c->in[0].data);
    const T *x_data = static_cast<const T *>(c->in[1].data);
    if (rows.n)
        NN_TRY(NN_LAUNCH(layernorm_bwd_any_dx<T>, (unsigned)rows.n, LAYERNORM_THREADS, 0, c,
                         dy_data, x_data, f32_in(c, 2), f32_in(c, 3), f32_in(c, 4),
                         static_cast<T *>(c->out[0].data), rows, s));
    return NN_LAUNCH(layernorm_bwd_any_params<T>, (unsigned)s.width, LAYERNORM_THREADS, 0, c,
                     dy_data, x_data, f32_in(c, 3), f32_in(c, 4), f32_out(c, 1), f32_out(c, 2),
                     rows, s);
}

static nn_status run_bwd_any(const nn_call *c)
{
    NN_DISPATCH(c->in[1].dtype, T, return run_bwd_any_as<T>(c));
}

extern "C" const nn_kernel nn_cuda_layernorm[] = {
    { .name = "layernorm_warp", .accepts = accepts_warp, .run = run_warp },
    { .name = "layernorm_any", .accepts = accepts_any, .run = run_any },
    {}
};
extern "C" const nn_kernel nn_cuda_layernorm_bwd[] = {
    { .name = "layernorm_bwd_warp",
      .accepts = accepts_bwd_warp,
      .run = run_bwd_warp,
      .workspace = workspace_bwd_warp },
    { .name = "layernorm_bwd_any", .accepts = accepts_bwd_any, .run = run_bwd_any },
    {}
};
