/* linear and its gradients: by cuBLASLt where it takes the call (linear_blas.cu), else by the
 * kernels of conv2d (linear_gemm.cu), else by the kernel below. */
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/linear.cuh"

constexpr int TILE = 64, DEPTH = 16, THREADS = 256, EACH = 4, PAD = 1;

/* Element (i, k) of an operand lies at rows(i) + k * step, or at rows(k) + i * step. */
template <class T> struct linear_operand {
    const T *data;
    nn_steps<1> rows;
    int64_t step;
    bool rows_are_k;
};

template <class T>
__device__ __forceinline__ float linear_at(const linear_operand<T> &o, int64_t i, int64_t k)
{
    int64_t at[1];
    nn_offsets(o.rows, o.rows_are_k ? k : i, at);
    return nn_float(o.data[at[0] + (o.rows_are_k ? i : k) * o.step]);
}

/* What linear adds to a row: nothing where data is NULL. */
template <class T> struct linear_addend {
    const T *data;
    nn_steps<1> rows;
    int64_t step;
};

/* linear_any: a block owns 64 x 64 results, a thread 4 x 4 of them; operands go through shared
 * memory in slices of 16 along k as f32. Any stride. f32 accumulation along k in order:
 * deterministic. Traffic: each operand once per 64 rows or columns of the result. 8.3 KiB of shared
 * memory. */
template <class T, class U>
__global__ void __launch_bounds__(THREADS)
    linear_any(const linear_operand<T> a, const linear_operand<T> b, U *c, const nn_steps<1> c_rows,
               int64_t c_step, const float *bias, int64_t bias_step,
               const linear_addend<U> residual, int64_t m, int64_t n, int64_t k)
{
    NN_SHARED(float, as, DEPTH *(TILE + PAD));
    NN_SHARED(float, bs, DEPTH *(TILE + PAD));
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    const int64_t m0 = (int64_t)blockIdx.y * TILE, n0 = (int64_t)blockIdx.x * TILE;
    float sum[EACH][EACH] = {};

    for (int64_t k0 = 0; k0 < k; k0 += DEPTH) {
#pragma unroll
        for (int e = 0; e < TILE * DEPTH / THREADS; e++) {
            const int at = (int)threadIdx.x + e * THREADS, kk = at % DEPTH, i = at / DEPTH;
            const bool deep = k0 + kk < k;
            as[kk * (TILE + PAD) + i] = deep && m0 + i < m ? linear_at(a, m0 + i, k0 + kk) : 0.0f;
            bs[kk * (TILE + PAD) + i] = deep && n0 + i < n ? linear_at(b, n0 + i, k0 + kk) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int kk = 0; kk < DEPTH; kk++) {
            float av[EACH], bv[EACH];
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                av[e] = as[kk * (TILE + PAD) + ty + 16 * e];
                bv[e] = bs[kk * (TILE + PAD) + tx + 16 * e];
            }
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) sum[i][j] += av[i] * bv[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int64_t row = m0 + ty + 16 * i;
        int64_t at[1], from[1] = {};
        if (row >= m) continue;
        nn_offsets(c_rows, row, at);
        if (residual.data) nn_offsets(residual.rows, row, from);
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int64_t column = n0 + tx + 16 * j;
            if (column >= n) continue;
            float v = sum[i][j] + (bias ? bias[column * bias_step] : 0.0f);
            if (residual.data) v += nn_float(residual.data[from[0] + column * residual.step]);
            c[at[0] + column * c_step] = nn_from<U>(v);
        }
    }
}

/* linear_bias: a block owns 32 columns of one chunk of rows: lane = column, warp = every eighth
 * row. The sums of the chunks are added in order by nn_columns_join. Traffic: dy once. */
constexpr int BIAS_WARPS = 8, BIAS_ROWS = 512 /* of a chunk */;

template <class T>
__global__ void __launch_bounds__(BIAS_WARPS *NN_WARP)
    linear_bias(const T *dy, const nn_steps<1> rows, int64_t step, int64_t columns, float *partial)
{
    NN_SHARED(float, sums, BIAS_WARPS *NN_WARP);
    const int64_t column = (int64_t)blockIdx.x * NN_WARP + nn_lane();
    const int64_t first = (int64_t)blockIdx.y * BIAS_ROWS;
    const int64_t end = first + BIAS_ROWS < rows.n ? first + BIAS_ROWS : rows.n;
    float sum = 0;
    for (int64_t r = first + nn_warp(); r < end && column < columns; r += BIAS_WARPS) {
        int64_t at[1];
        nn_offsets(rows, r, at);
        sum += nn_float(dy[at[0] + column * step]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (nn_warp() || column >= columns) return;
    for (int w = 1; w < BIAS_WARPS; w++) sum += sums[w * NN_WARP + nn_lane()];
    partial[blockIdx.y * columns + column] = sum;
}

/* All dims of a view but the last, as steps. */
static nn_steps<1> rows_of(const nn_view *v)
{
    nn_view outer = *v;
    outer.dim[v->rank - 1] = 1;
    const nn_view *const views[1] = { &outer };
    return nn_steps_of(&outer, views);
}

static int64_t chunks_of(const nn_view *dy)
{
    return nn_ceil_div(nn_view_elems(dy) / nn_max(nn_last(dy, 0), 1), BIAS_ROWS);
}

size_t linear_bias_bytes(const nn_view *dy)
{
    return (size_t)(chunks_of(dy) * nn_last(dy, 0)) * sizeof(float);
}

nn_status linear_bias_run(const nn_call *c, const nn_view *dy, float *db, float *partial)
{
    const int64_t columns = nn_last(dy, 0), chunks = chunks_of(dy);
    if (!columns) return NN_OK;
    const dim3 grid((unsigned)nn_ceil_div(columns, NN_WARP), (unsigned)chunks);
    if (chunks)
        NN_DISPATCH(dy->dtype, T,
                    NN_TRY(NN_LAUNCH(linear_bias<T>, grid, BIAS_WARPS * NN_WARP, 0, c,
                                     static_cast<const T *>(dy->data), rows_of(dy),
                                     dy->stride[dy->rank - 1], columns, partial)));
    return nn_columns_run_join<float>(c, partial, 1, chunks, columns, db, NULL, columns);
}

template <class T> static linear_operand<T> operand(const nn_view *v, bool rows_are_k)
{
    return { static_cast<const T *>(v->data), rows_of(v), v->stride[v->rank - 1], rows_are_k };
}

/* c = a b with sizes from the shapes; a and b by rows or by columns. */
template <class T, class U>
static nn_status product(const nn_call *c, const linear_operand<T> &a, const linear_operand<T> &b,
                         int64_t k, const nn_view *bias, const nn_view *residual)
{
    const nn_view *y = &c->out[0];
    const int64_t n = nn_last(y, 0), m = n ? nn_view_elems(y) / n : 0;
    if (!m) return NN_OK;
    const dim3 grid((unsigned)nn_ceil_div(n, TILE), (unsigned)nn_ceil_div(m, TILE));
    linear_addend<U> addend = {};
    if (residual)
        addend = { static_cast<const U *>(residual->data), rows_of(residual),
                   residual->stride[residual->rank - 1] };
    return NN_LAUNCH((linear_any<T, U>), grid, THREADS, 0, c, a, b, static_cast<U *>(y->data),
                     rows_of(y), y->stride[y->rank - 1],
                     bias ? static_cast<const float *>(bias->data) : (const float *)NULL,
                     bias ? bias->stride[0] : (int64_t)0, addend, m, n, k);
}

template <linear_kind KIND, class T, class U> static nn_status run_as(const nn_call *c)
{
    const nn_view *first = &c->in[0], *second = &c->in[1];
    [[maybe_unused]] const int64_t rows = linear_matrix_of(first).rows;
    if constexpr (KIND == LINEAR_FORWARD) {
        return product<T, U>(c, operand<T>(first, false), operand<T>(second, false),
                             nn_last(first, 0), linear_added<KIND>(c, LINEAR_B),
                             linear_added<KIND>(c, LINEAR_RESIDUAL));
    } else if constexpr (KIND == LINEAR_BWD_X) {
        return product<T, U>(c, operand<T>(first, false), operand<T>(second, true),
                             nn_last(first, 0), NULL, NULL);
    } else {
        NN_TRY((
            product<T, U>(c, operand<T>(first, true), operand<T>(second, true), rows, NULL, NULL)));
        return linear_bias_run(c, first, static_cast<float *>(c->out[1].data),
                               static_cast<float *>(c->workspace));
    }
}

template <linear_kind KIND> static nn_status run(const nn_call *c)
{
    NN_DISPATCH(c->in[0].dtype, T, NN_DISPATCH(c->out[0].dtype, U, return (run_as<KIND, T, U>(c))));
}

template <linear_kind KIND> static bool accepts(const nn_call *c)
{
    const nn_view *bias = linear_added<KIND>(c, LINEAR_B);
    return nn_is_float(&c->in[0]) && c->in[1].dtype == c->in[0].dtype && nn_is_float(&c->out[0]) &&
           (!bias || bias->dtype == NN_F32) &&
           (KIND != LINEAR_BWD_W || (c->out[1].dtype == NN_F32 && nn_view_contiguous(&c->out[1])));
}

static size_t bias_workspace(const nn_call *c)
{
    return linear_bias_bytes(&c->in[0]);
}

#define BLAS(op, KIND)                                                                             \
    {                                                                                              \
        .name = op "_blas", .accepts = linear_blas_accepts<KIND>, .run = linear_blas_run<KIND>,    \
        .prepare = linear_blas_prepare<KIND>, .release = linear_blas_release,                      \
        .extra_bytes = linear_blas_extra<KIND>                                                     \
    }

#define GEMM(op, KIND)                                                                             \
    {                                                                                              \
        .name = op "_gemm", .accepts = linear_gemm_accepts<KIND>, .run = linear_gemm_run<KIND>,    \
        .prepare = linear_gemm_prepare<KIND>                                                       \
    }

extern "C" const nn_kernel nn_cuda_linear[] = {
    BLAS("linear", LINEAR_FORWARD),
    GEMM("linear", LINEAR_FORWARD),
    { .name = "linear_any", .accepts = accepts<LINEAR_FORWARD>, .run = run<LINEAR_FORWARD> },
    {}
};
extern "C" const nn_kernel nn_cuda_linear_bwd_x[] = {
    BLAS("linear_bwd_x", LINEAR_BWD_X),
    GEMM("linear_bwd_x", LINEAR_BWD_X),
    { .name = "linear_bwd_x_any", .accepts = accepts<LINEAR_BWD_X>, .run = run<LINEAR_BWD_X> },
    {}
};
extern "C" const nn_kernel nn_cuda_linear_bwd_w[] = { BLAS("linear_bwd_w", LINEAR_BWD_W),
                                                      GEMM("linear_bwd_w", LINEAR_BWD_W),
                                                      { .name = "linear_bwd_w_any",
                                                        .accepts = accepts<LINEAR_BWD_W>,
                                                        .run = run<LINEAR_BWD_W>,
                                                        .workspace = bias_workspace },
                                                      {} };
