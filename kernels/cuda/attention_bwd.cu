/* attention, backward: the list, and the flash kernels in bf16.
 *
 * With p = 2^(scale2 q k^T - lse2), dp = dy v^T and ds = p (dp - rowsum(dy y)):
 *     dv = p^T dy      dk = scale ds^T q      dq = scale ds k
 * One kernel per side, so that no sum crosses blocks: seven products instead of five, and neither
 * atomics nor a second pass. Source: Dao et al. 2022, algorithm 4. */
#include "kernels/cuda/attention_tile.cuh"

/* How both kernels are cut for a head size: rows of the other side in a tile, and whether the own
 * rows (two operands) are held in registers. */
template <int TILE_, int STAGES_, bool HOLD_, int BLOCKS_> struct attention_bwd_cut {
    static constexpr int TILE = TILE_;
    static constexpr int STAGES = STAGES_;
    static constexpr bool HOLD = HOLD_;
    static constexpr int BLOCKS = BLOCKS_;
};
template <int D> struct attention_dkv_plan;
template <> struct attention_dkv_plan<40> : attention_bwd_cut<64, 2, true, 2> {
};
template <> struct attention_dkv_plan<64> : attention_bwd_cut<64, 2, false, 2> {
};
template <> struct attention_dkv_plan<80> : attention_bwd_cut<32, 2, false, 2> {
};
template <> struct attention_dkv_plan<128> : attention_bwd_cut<32, 2, false, 2> {
};
template <> struct attention_dkv_plan<160> : attention_bwd_cut<32, 2, false, 1> {
};
template <int D> struct attention_dq_plan;
template <> struct attention_dq_plan<40> : attention_bwd_cut<64, 2, false, 3> {
};
template <> struct attention_dq_plan<64> : attention_bwd_cut<32, 2, false, 3> {
};
template <> struct attention_dq_plan<80> : attention_bwd_cut<32, 2, false, 3> {
};
template <> struct attention_dq_plan<128> : attention_bwd_cut<32, 2, false, 2> {
};
template <> struct attention_dq_plan<160> : attention_bwd_cut<32, 2, false, 2> {
};

enum { BWD_ROWS = ATTN_WARPS * 16 /* a block's own */ };

/* Bytes of shared memory: own rows, ring of tiles, and `stats` rows of statistics in each stage. */
template <int D, class PLAN> static constexpr size_t attention_bwd_shared(int stats)
{
    return (size_t)(2 * BWD_ROWS + 2 * PLAN::STAGES * PLAN::TILE) * D * sizeof(bf16) +
           (size_t)(PLAN::STAGES * stats) * sizeof(attn_stat);
}

/* Starts the copy of N statistics, which exist for whole tiles. */
template <int N>
__device__ __forceinline__ void attention_bwd_fetch(attn_stat *to, const attn_stat *from)
{
    const int i = (int)threadIdx.x * 2;
    if (i < N) cp_async16(to + i, from + i, true);
}

/* Scores and dp of 16 keys (rows) with N groups of 8 queries become p and ds. first[r]: no query
 * before it sees the key. */
template <int N>
__device__ __forceinline__ void attention_dkv_pairs(float (&s)[1][N][4], float (&dp)[1][N][4],
                                                    const attn_stat *stats, float scale2,
                                                    const int (&first)[2], int query)
{
    const int column = nn_lane() % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const nn_vec<float, 4> stat =
            nn_load<4>(reinterpret_cast<const float *>(stats + n * 8 + column));
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float p = exp2_approx(s[0][n][e] * scale2 - stat.at[e % 2 * 2]);
            if (query + n * 8 + column + e % 2 < first[e / 2]) p = 0;
            s[0][n][e] = p;
            dp[0][n][e] = p * (dp[0][n][e] - stat.at[e % 2 * 2 + 1]);
        }
    }
}

template <int D> struct attention_dkv_state {
    float dk[1][D / 8][4], dv[1][D / 8][4];
    int first[2];
};

/* One tile of queries: `tiles` are Q and dY. */
template <int D, int TILE, class A>
__device__ __forceinline__ void attention_dkv_step(attention_dkv_state<D> &own, const A &k,
                                                   const A &v, const bf16 *tiles,
                                                   const attn_stat *stats, float scale2, int query)
{
    float s[1][TILE / 8][4], dp[1][TILE / 8][4];
    uint32_t p[1][TILE / 16][4];
    [[maybe_unused]] constexpr int steps = D < 160 ? attn_steps<D> : 1; /* 2 would spill */
    attn_dot<D, steps>(s, k, tiles);
    attn_dot<D, steps>(dp, v, tiles + TILE * D);
    attention_dkv_pairs(s, dp, stats, scale2, own.first, query);
    attn_pack(p, s);
    attn_sum<D>(own.dv, p, tiles + TILE * D);
    attn_pack(p, dp);
    attn_sum<D>(own.dk, p, tiles);
}

/* attention_dkv: a block owns 64 keys of one head, a warp 16 of them with their dk and dv; tiles of
 * Q and dY pass through a ring in shared memory. p^T and ds^T never leave the registers. Traffic:
 * K, V, dK and dV once; Q, dY and 8 bytes of statistics per query once from memory, Tk / 64 times
 * from the second-level cache. f32 sums, p and ds rounded to bf16; deterministic. */
template <int D>
__global__ void __launch_bounds__(ATTN_THREADS, attention_dkv_plan<D>::BLOCKS)
    attention_dkv(const attn_shape a, const attn_bwd<bf16> o)
{
    typedef attention_dkv_plan<D> plan;
    constexpr int ahead = plan::STAGES - 1, size = 2 * plan::TILE * D;
    NN_SHARED_DYN(bf16, shared);
    bf16 *ring = shared + 2 * BWD_ROWS * D;
    attn_stat *ring_stats = reinterpret_cast<attn_stat *>(ring + plan::STAGES * size);
    const int b = (int)blockIdx.z, h = (int)blockIdx.y, first = (int)blockIdx.x * BWD_ROWS;
    const int row = first + nn_warp() * 16;
    const attn_stat *stats = o.stat + ((int64_t)b * a.heads + h) * attn_stat_rows(a.n_q);
    const int begin = attn_first(a, first) / plan::TILE;
    const int end = (a.n_q + plan::TILE - 1) / plan::TILE;
    attn_fetch<D, BWD_ROWS>(shared, o.k, o.v, b, h, first, a.n_k);
    for (int t = begin; t < begin + ahead; t++) {
        const int slot = t % plan::STAGES, query = t * plan::TILE;
        if (t < end) {
            attn_fetch<D, plan::TILE>(ring + slot * size, o.q, o.dy, b, h, query, a.n_q);
            attention_bwd_fetch<plan::TILE>(ring_stats + slot * plan::TILE, stats + query);
        }
        cp_async_commit();
    }
    attention_dkv_state<D> own = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int j = row + r * 8 + nn_lane() / 4;
        own.first[r] = j < a.n_k && attn_key_on(a, b, j) ? attn_first(a, j) : INT32_MAX;
    }
    typename attn_left<plan::HOLD, D, 1>::type k, v;
    bf16 *mine = shared + nn_warp() * 16 * D;
    cp_async_wait<ahead - 1>();
    __syncthreads();
    attn_hold(k, mine);
    attn_hold(v, mine + BWD_ROWS * D);
    for (int t = begin; t < end; t++) {
        const int next = t + ahead, to = next % plan::STAGES, slot = t % plan::STAGES;
        cp_async_wait<ahead - 1>();
        __syncthreads();
        if (next < end) {
            attn_fetch<D, plan::TILE>(ring + to * size, o.q, o.dy, b, h, next * plan::TILE, a.n_q);
            attention_bwd_fetch<plan::TILE>(ring_stats + to * plan::TILE,
                                            stats + next * plan::TILE);
        }
        cp_async_commit();
        attention_dkv_step<D, plan::TILE>(own, k, v, ring + slot * size,
                                          ring_stats + slot * plan::TILE, a.scale2, t * plan::TILE);
    }
    const float one[1][2] = { { 1.0f, 1.0f } }, scale[1][2] = { { a.scale, a.scale } };
    attn_put<D>(mine, own.dk, scale, attn_row(o.dk, b, h, row), o.dk.token, a.n_k - row);
    attn_put<D>(mine + BWD_ROWS * D, own.dv, one, attn_row(o.dv, b, h, row), o.dv.token,
                a.n_k - row);
}

/* Scores of 16 queries (rows) with N groups of 8 keys, and dp, become ds. */
template <int N>
__device__ __forceinline__ void attention_dq_pairs(float (&s)[1][N][4], const float (&dp)[1][N][4],
                                                   const attn_shape &a, const attn_stat (&stat)[2],
                                                   int b, int row, int key)
{
    const int column = nn_lane() % 4 * 2;
    uint32_t on = ~0u;
    if (a.mask) {
        on = 0;
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const int j = key + i / 2 * 8 + column + i % 2;
            on |= (uint32_t)(j < a.n_k && attn_key_on(a, b, j)) << i;
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int reach = attn_reach(a, row + r * 8 + nn_lane() / 4);
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const int e = r * 2 + i % 2;
            float p = exp2_approx(s[0][i / 2][e] * a.scale2 - stat[r].lse2);
            if (key + i / 2 * 8 + column + i % 2 >= reach || !(on >> i & 1)) p = 0;
            s[0][i / 2][e] = p * (dp[0][i / 2][e] - stat[r].delta);
        }
    }
}

/* attention_dq: a block owns 64 queries of one head, a warp 16 of them with their dq; tiles of K
 * and V pass through a ring in shared memory. Traffic: Q, dY and dQ once; K and V once from memory,
 * Tq / 64 times from the second-level cache. f32 sums, ds rounded to bf16; deterministic. */
template <int D>
__global__ void __launch_bounds__(ATTN_THREADS, attention_dq_plan<D>::BLOCKS)
    attention_dq(const attn_shape a, const attn_bwd<bf16> o)
{
    typedef attention_dq_plan<D> plan;
    constexpr int ahead = plan::STAGES - 1, size = 2 * plan::TILE * D;
    NN_SHARED_DYN(bf16, shared);
    bf16 *ring = shared + 2 * BWD_ROWS * D;
    const int b = (int)blockIdx.z, h = (int)blockIdx.y;
    const int first = (int)(gridDim.x - 1 - blockIdx.x) * BWD_ROWS;
    const int row = first + nn_warp() * 16;
    const int reach = attn_reach(a, min(first + BWD_ROWS, a.n_q) - 1);
    const int end = (reach + plan::TILE - 1) / plan::TILE;
    attn_fetch<D, BWD_ROWS>(shared, o.q, o.dy, b, h, first, a.n_q);
    for (int t = 0; t < ahead; t++) {
        attn_fetch<D, plan::TILE>(ring + t * size, o.k, o.v, b, h, t * plan::TILE, reach);
        cp_async_commit();
    }
    float dq[1][D / 8][4];
    attn_stat stat[2];
    attn_zero(dq);
#pragma unroll
    for (int r = 0; r < 2; r++)
        stat[r] = o.stat[((int64_t)b * a.heads + h) * attn_stat_rows(a.n_q) + row + r * 8 +
                         nn_lane() / 4];
    typename attn_left<plan::HOLD, D, 1>::type q, dy;
    bf16 *mine = shared + nn_warp() * 16 * D;
    cp_async_wait<ahead - 1>();
    __syncthreads();
    attn_hold(q, mine);
    attn_hold(dy, mine + BWD_ROWS * D);
    for (int t = 0; t < end; t++) {
        const int next = t + ahead;
        float s[1][plan::TILE / 8][4], dp[1][plan::TILE / 8][4];
        uint32_t ds[1][plan::TILE / 16][4];
        cp_async_wait<ahead - 1>();
        __syncthreads();
        if (next < end)
            attn_fetch<D, plan::TILE>(ring + next % plan::STAGES * size, o.k, o.v, b, h,
                                      next * plan::TILE, reach);
        cp_async_commit();
        const bf16 *tiles = ring + t % plan::STAGES * size;
        attn_dot<D>(s, q, tiles);
        attn_dot<D>(dp, dy, tiles + plan::TILE * D);
        attention_dq_pairs(s, dp, a, stat, b, row, t * plan::TILE);
        attn_pack(ds, s);
        attn_sum<D>(dq, ds, tiles);
    }
    const float scale[1][2] = { { a.scale, a.scale } };
    attn_put<D>(mine, dq, scale, attn_row(o.dq, b, h, row), o.dq.token, a.n_q - row);
}

static bool accepts_flash(const nn_call *c)
{
    const nn_view *q = &c->in[ATTN_BQ];
    bool fit = q->dtype == NN_BF16 && attn_one_type(c, true) && attn_flash_fits(c, q);
    for (int i = ATTN_DY; i <= ATTN_BY; i++) fit = fit && attn_wide_rows(&c->in[i]);
    for (int i = ATTN_DQ; i <= ATTN_DV; i++) fit = fit && attn_wide_rows(&c->out[i]);
    return fit;
}

template <int D> static nn_status run_flash_as(const nn_call *c)
{
    typedef attention_dkv_plan<D> dkv;
    typedef attention_dq_plan<D> dq;
    const attn_shape a = attn_shape_bwd(c);
    const attn_bwd<bf16> o = attn_bwd_of<bf16>(c);
    const dim3 keys((unsigned)nn_ceil_div(a.n_k, BWD_ROWS), (unsigned)a.heads, (unsigned)a.batch);
    const dim3 queries((unsigned)nn_ceil_div(a.n_q, BWD_ROWS), keys.y, keys.z);
    if (!keys.y || !keys.z) return NN_OK;
    NN_TRY(nn_attention_stats_run(c));
    if (keys.x)
        NN_TRY(NN_LAUNCH(attention_dkv<D>, keys, ATTN_THREADS,
                         (attention_bwd_shared<D, dkv>(dkv::TILE)), c, a, o));
    if (queries.x)
        NN_TRY(NN_LAUNCH(attention_dq<D>, queries, ATTN_THREADS, (attention_bwd_shared<D, dq>(0)),
                         c, a, o));
    return NN_OK;
}

/* Three launches: the statistics read dy and y, the gradients of k and v and that of q all of q, k,
 * v and dy. */
static double extra_bytes(const nn_call *c)
{
    double bytes = 2 * (double)nn_attention_stats_bytes(c);
    for (int i = ATTN_DY; i <= ATTN_BV; i++)
        bytes += (i == ATTN_DY ? 2 : 1) * (double)nn_view_bytes(&c->in[i]);
    return bytes;
}

static nn_status run_flash(const nn_call *c)
{
#define RUN(D)                                                                                     \
    case D:                                                                                        \
        return run_flash_as<D>(c);
    switch (c->in[ATTN_BQ].dim[3]) {
        ATTN_EACH_FLASH_SIZE(RUN)
    }
#undef RUN
    return nn_fail(NN_UNSUPPORTED, "cuda: attention_bwd of head size %lld",
                   (long long)c->in[ATTN_BQ].dim[3]);
}

extern "C" const nn_kernel nn_cuda_attention_bwd[] = { { .name = "attention_bwd_bf16_flash",
                                                         .accepts = accepts_flash,
                                                         .run = run_flash,
                                                         .workspace = nn_attention_stats_bytes,
                                                         .extra_bytes = extra_bytes,
                                                         .strided_out = true },
                                                       { .name = "attention_bwd_tiled",
                                                         .accepts = nn_attention_tiled_bwd_accepts,
                                                         .run = nn_attention_tiled_run_bwd,
                                                         .workspace = nn_attention_stats_bytes,
                                                         .extra_bytes = extra_bytes,
                                                         .strided_out = true },
                                                       { .name = "attention_bwd_any",
                                                         .accepts = nn_attention_any_bwd_accepts,
                                                         .run = nn_attention_any_run_bwd,
                                                         .workspace = nn_attention_stats_bytes,
                                                         .extra_bytes = extra_bytes },
                                                       {} };
