/* attention, forward: the list, and the flash kernel in bf16. */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/cudnn/attention.cuh"

/* How attention_flash is cut for a head size. */
template <int M_, int KEYS_, int STAGES_, bool HOLD_, int BLOCKS_> struct attention_flash_cut {
    static constexpr int M = M_;           /* groups of 16 queries of a warp */
    static constexpr int KEYS = KEYS_;     /* of a tile */
    static constexpr int STAGES = STAGES_; /* tiles of keys and values in shared memory */
    static constexpr bool HOLD = HOLD_;    /* queries in registers */
    static constexpr int BLOCKS = BLOCKS_; /* per multiprocessor, by registers */
    static constexpr int QUERIES = ATTN_WARPS * 16 * M;
};
template <int D> struct attention_flash_plan;
template <> struct attention_flash_plan<40> : attention_flash_cut<2, 32, 3, true, 3> {
};
template <> struct attention_flash_plan<64> : attention_flash_cut<2, 64, 2, false, 2> {
};
template <> struct attention_flash_plan<80> : attention_flash_cut<2, 64, 2, false, 2> {
};
template <> struct attention_flash_plan<128> : attention_flash_cut<1, 64, 2, false, 2> {
};
template <> struct attention_flash_plan<160> : attention_flash_cut<1, 32, 2, false, 2> {
};

/* What a warp keeps of its queries: sum of p * v and of p, and the largest score; [m][r] is row
 * 16 m + 8 r + lane / 4. A thread's sum is that of its own columns until the end. */
template <int D, int M> struct attention_flash_state {
    float acc[M][D / 8][4];
    float most[M][2], sum[M][2];
};

/* Scores of keys [key, key + 8 N) that are not seen become -infinity. */
template <int M, int N>
__device__ __forceinline__ void attention_flash_hide(float (&s)[M][N][4], const attn_shape &a,
                                                     int b, int row, int key)
{
    const int lane = nn_lane();
    uint32_t on = 0;
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        const int j = key + i / 2 * 8 + lane % 4 * 2 + i % 2;
        on |= (uint32_t)(j < a.n_k && attn_key_on(a, b, j)) << i;
    }
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int reach = attn_reach(a, row + m * 16 + r * 8 + lane / 4);
#pragma unroll
            for (int i = 0; i < 2 * N; i++) {
                const int j = key + i / 2 * 8 + lane % 4 * 2 + i % 2;
                if (j >= reach || !(on >> i & 1)) s[m][i / 2][r * 2 + i % 2] = -INFINITY;
            }
        }
}

/* Scores become p = 2^(scale2 * (score - most)); what was summed under a smaller maximum is scaled
 * down. */
template <int D, int M, int N>
__device__ __forceinline__ void attention_flash_softmax(attention_flash_state<D, M> &own,
                                                        float (&s)[M][N][4], float scale2)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = own.most[m][r];
#pragma unroll
            for (int n = 0; n < N; n++) top = fmaxf(top, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
            top = nn_warp_max<4>(top);
            const float zero = top == -INFINITY ? 0.0f : top * scale2;
            const float factor = exp2_approx(own.most[m][r] * scale2 - zero);
            float sum = own.sum[m][r] * factor;
            own.most[m][r] = top;
#pragma unroll
            for (int i = 0; i < 2 * N; i++) {
                float &x = s[m][i / 2][2 * r + i % 2];
                x = exp2_approx(x * scale2 - zero);
                sum += x;
            }
            own.sum[m][r] = sum;
#pragma unroll
            for (int c = 0; c < D / 8; c++) {
                own.acc[m][c][2 * r] *= factor;
                own.acc[m][c][2 * r + 1] *= factor;
            }
        }
}

template <int D, class PLAN, class A>
__device__ __forceinline__ void attention_flash_step(attention_flash_state<D, PLAN::M> &own,
                                                     const A &q, const bf16 *tiles,
                                                     const attn_shape &a, int b, int row, int key)
{
    float s[PLAN::M][PLAN::KEYS / 8][4];
    uint32_t p[PLAN::M][PLAN::KEYS / 16][4];
    attn_dot<D>(s, q, tiles);
    if (a.mask || key + PLAN::KEYS > attn_reach(a, row)) attention_flash_hide(s, a, b, row, key);
    attention_flash_softmax(own, s, a.scale2);
    attn_pack(p, s);
    attn_sum<D>(own.acc, p, tiles + PLAN::KEYS * D);
}

/* y and lse of a warp's queries from `row` on. */
template <int D, int M>
__device__ __forceinline__ void attention_flash_finish(attention_flash_state<D, M> &own,
                                                       const attn_shape &a, bf16 *tile,
                                                       const attn_rows<bf16> &y, float *lse, int b,
                                                       int h, int row)
{
    float inverse[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float sum = nn_warp_sum<4>(own.sum[m][r]);
            const int i = row + m * 16 + r * 8 + nn_lane() / 4;
            inverse[m][r] = sum == 0 ? 0.0f : 1.0f / sum;
            if (nn_lane() % 4 == 0 && i < a.n_q)
                lse[((int64_t)b * a.heads + h) * a.n_q + i] =
                    sum == 0 ? -INFINITY : (own.most[m][r] * a.scale2 + log2f(sum)) * ATTN_LN2;
        }
    attn_put<D>(tile, own.acc, inverse, attn_row(y, b, h, row), y.token, a.n_q - row);
}

/* attention_flash: a block owns 64 M queries of one head, a warp 16 M of them with all that belongs
 * to them; tiles of keys and values pass through a ring in shared memory, copied while the ones
 * before are used. Scores live in registers alone and become the left operand of the second product
 * there. Heads of 40 take k = 16 + 16 + 8 and n = 5 x 8: nothing is padded. Blocks with the most
 * keys start first. Traffic: Q, Y and lse once; K and V once from memory, Tq / (64 M) times from
 * the second-level cache. bf16 operands, f32 scores and sums, p rounded to bf16; deterministic.
 * Budget: docs/KERNELS.md. */
template <int D>
__global__ void __launch_bounds__(ATTN_THREADS, attention_flash_plan<D>::BLOCKS)
    attention_flash(const attn_shape a, const attn_rows<const bf16> q,
                    const attn_rows<const bf16> k, const attn_rows<const bf16> v,
                    const attn_rows<bf16> y, float *lse)
{
    typedef attention_flash_plan<D> plan;
    constexpr int ahead = plan::STAGES - 1, size = 2 * plan::KEYS * D;
    NN_SHARED_DYN(bf16, shared);
    bf16 *ring = shared + plan::QUERIES * D;
    const int b = (int)blockIdx.z, h = (int)blockIdx.y;
    const int first = (int)(gridDim.x - 1 - blockIdx.x) * plan::QUERIES;
    const int row = first + nn_warp() * 16 * plan::M;
    const int end = attn_reach(a, min(first + plan::QUERIES, a.n_q) - 1);
    const int tiles = (end + plan::KEYS - 1) / plan::KEYS;
    attn_copy<D, plan::QUERIES>(shared, attn_row(q, b, h, first), q.token, a.n_q - first);
    for (int t = 0; t < ahead; t++) {
        attn_fetch<D, plan::KEYS>(ring + t * size, k, v, b, h, t * plan::KEYS, end);
        cp_async_commit();
    }
    attention_flash_state<D, plan::M> own = {};
#pragma unroll
    for (int m = 0; m < plan::M; m++) own.most[m][0] = own.most[m][1] = -INFINITY;
    typename attn_left<plan::HOLD, D, plan::M>::type left;
    cp_async_wait<ahead - 1>();
    __syncthreads();
    bf16 *mine = shared + nn_warp() * 16 * plan::M * D;
    attn_hold(left, mine);
    for (int t = 0; t < tiles; t++) {
        const int next = t + ahead;
        cp_async_wait<ahead - 1>();
        __syncthreads();
        if (next < tiles)
            attn_fetch<D, plan::KEYS>(ring + next % plan::STAGES * size, k, v, b, h,
                                      next * plan::KEYS, end);
        cp_async_commit();
        attention_flash_step<D, plan>(own, left, ring + t % plan::STAGES * size, a, b, row,
                                      t * plan::KEYS);
    }
    attention_flash_finish<D, plan::M>(own, a, mine, y, lse, b, h, row);
}

static bool accepts_flash(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_Q];
    return q->dtype == NN_BF16 && attn_one_type(c, false) && attn_flash_fits(c, q) &&
           attn_wide_rows(q) && attn_wide_rows(&c->in[ATTN_K]) && attn_wide_rows(&c->in[ATTN_V]) &&
           attn_wide_rows(&c->out[ATTN_Y]) && nn_view_contiguous(&c->out[ATTN_LSE]);
}

template <int D> static nn_status run_flash_as(const nn_call *c)
{
    typedef attention_flash_plan<D> plan;
    const attn_shape a = attn_shape_fwd(c);
    const dim3 grid((unsigned)nn_ceil_div(a.n_q, plan::QUERIES), (unsigned)a.heads,
                    (unsigned)a.batch);
    constexpr size_t shared = (plan::QUERIES + plan::STAGES * 2 * plan::KEYS) * D * sizeof(bf16);
    if (!grid.x || !grid.y || !grid.z) return NN_OK;
    return NN_LAUNCH(attention_flash<D>, grid, ATTN_THREADS, shared, c, a,
                     attn_rows_of<const bf16>(&c->in[ATTN_Q]),
                     attn_rows_of<const bf16>(&c->in[ATTN_K]),
                     attn_rows_of<const bf16>(&c->in[ATTN_V]), attn_rows_of<bf16>(&c->out[ATTN_Y]),
                     static_cast<float *>(c->out[ATTN_LSE].data));
}

static nn_status run_flash(const nn_call *c)
{
#define RUN(D)                                                                                     \
    case D:                                                                                        \
        return run_flash_as<D>(c);
    switch (c->in[ATTN_Q].dim[3]) {
        ATTN_EACH_FLASH_SIZE(RUN)
    }
#undef RUN
    return nn_fail(NN_UNSUPPORTED, "cuda: attention of head size %lld",
                   (long long)c->in[ATTN_Q].dim[3]);
}

/* Behind the one that takes all: what runs only where a device prefers it. */
extern "C" const nn_kernel nn_cuda_attention[] = {
    { .name = "attention_decode",
      .accepts = nn_attention_decode_accepts,
      .run = nn_attention_decode_run,
      .workspace = nn_attention_decode_workspace },
    { .name = "attention_bf16_flash", .accepts = accepts_flash, .run = run_flash },
    { .name = "attention_tiled",
      .accepts = nn_attention_tiled_accepts,
      .run = nn_attention_tiled_run },
    { .name = "attention_any", .accepts = nn_attention_any_accepts, .run = nn_attention_any_run },
#ifdef NN_CUDNN
    ATTENTION_CUDNN,
#endif
    {}
};
