// The device of cusim against plain loops: barriers, shuffles, products, copies.
#include <cuda_bf16.h>
#include <cusim_ptx.h>

#include "tests/cusim/check.h"

// Small numbers that bf16 and tf32 hold exactly.
static float number(int i)
{
    return float((i * 37 + 11) % 23 - 11) / 4;
}

__global__ void reverse(const int *x, int *y)
{
    CUSIM_SHARED(int, tile, 96);
    tile[threadIdx.x] = x[blockIdx.x * 96 + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 96 + threadIdx.x] = tile[95 - threadIdx.x];
}

static void test_barrier()
{
    std::vector<int> x(96 * 5);
    for (size_t i = 0; i < x.size(); i++) x[i] = int(i);
    on_device<int> in(x), out(x.size());
    EXPECT(LAUNCH(reverse, 5, 96, 0, in.p, out.p) == cudaSuccess);
    std::vector<int> y = out.read();
    for (int i = 0; i < 96 * 5; i++) EXPECT(y[size_t(i)] == i / 96 * 96 + 95 - i % 96);
}

__global__ void reductions(int *y)
{
    int t = int(threadIdx.x);
    y[t] = __syncthreads_or(t == 5) * 1000 + __syncthreads_and(t < 40) * 100 +
           __syncthreads_count(t % 2);
}

static void test_barrier_reductions()
{
    on_device<int> out(40);
    EXPECT(LAUNCH(reductions, 1, 40, 0, out.p) == cudaSuccess);
    for (int v : out.read()) EXPECT(v == 1120);
}

__global__ void shuffles(float *sum, int *up, double *wide, unsigned *votes)
{
    int lane = int(threadIdx.x) % 32;
    float v = float(threadIdx.x);
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    sum[threadIdx.x] = v;
    up[threadIdx.x] = __shfl_up_sync(0xffffffffu, lane, 3, 8);
    double from_five = 0;
    if (lane < 16) from_five = __shfl_sync(0x0000ffffu, lane * 0.1, 5);
    wide[threadIdx.x] = from_five + __shfl_down_sync(0xffffffffu, double(lane), 4);
    unsigned odd = __ballot_sync(0xffffffffu, lane & 1);
    votes[threadIdx.x] = odd ^ unsigned(__any_sync(0xffffffffu, lane == 3)) ^
                         unsigned(__all_sync(0xffffffffu, lane == 3)) << 1;
}

static void test_shuffles()
{
    on_device<float> sum(64);
    on_device<int> up(64);
    on_device<double> wide(64);
    on_device<unsigned> votes(64);
    EXPECT(LAUNCH(shuffles, 1, 64, 0, sum.p, up.p, wide.p, votes.p) == cudaSuccess);
    std::vector<float> s = sum.read();
    std::vector<int> u = up.read();
    std::vector<double> w = wide.read();
    std::vector<unsigned> v = votes.read();
    for (int i = 0; i < 64; i++) {
        int lane = i % 32, at = i;
        EXPECT(s[size_t(at)] == float(i < 32 ? 496 : 496 + 1024));
        EXPECT(u[size_t(at)] == (lane % 8 < 3 ? lane : lane - 3));
        EXPECT(w[size_t(at)] == (lane < 16 ? 5 * 0.1 : 0) + (lane + 4 < 32 ? lane + 4 : lane));
        EXPECT(v[size_t(at)] == (0xaaaaaaaau ^ 1u));
    }
}

// C [16][8] = A [16][k] B [k][8] through ldmatrix (A, B with _trans from rows of k) and mma.
template <int K> __global__ void product_bf16(const bf16_bits *a, const bf16_bits *b, float *c)
{
    CUSIM_SHARED(bf16_bits, sa, 16 * K);
    CUSIM_SHARED(bf16_bits, sb, K * 8);
    int lane = int(threadIdx.x);
    for (int i = lane; i < 16 * K; i += 32) sa[i] = a[i];
    for (int i = lane; i < K * 8; i += 32) sb[i] = b[i];
    __syncwarp();
    float d[4] = { 1, 1, 1, 1 };
    const bf16_bits *row = sa + lane % 16 * K + lane / 16 * 8;
    if constexpr (K == 16) {
        uint32_t fa[4], fb[2];
        ldmatrix_x4(fa, row);
        ldmatrix_x2_trans(fb, sb + lane % 16 * 8);
        mma_bf16_16816(d, fa, fb);
    } else {
        uint32_t fa[2], fb;
        ldmatrix_x2(fa, sa + lane % 16 * K);
        ldmatrix_x1_trans(fb, sb + lane % 8 * 8);
        mma_bf16_1688(d, fa, fb);
    }
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

__global__ void product_tf32(const float *a, const float *b, float *c)
{
    int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) fb[i] = __float_as_uint(b[(t + i * 4) * 8 + g]);
    float d[4] = { 1, 1, 1, 1 };
    mma_tf32_1688(d, fa, fb);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

static void check_product(int k, const std::vector<float> &c)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            float sum = 1;
            for (int l = 0; l < k; l++) sum += number(i * k + l) * number(1000 + l * 8 + j);
            EXPECT(c[size_t(i * 8 + j)] == sum);
        }
}

template <int K> static void test_product_bf16()
{
    std::vector<bf16_bits> a(16 * K), b(K * 8);
    for (int i = 0; i < 16 * K; i++) a[size_t(i)] = __bfloat16_as_ushort(number(i));
    for (int i = 0; i < K * 8; i++) b[size_t(i)] = __bfloat16_as_ushort(number(1000 + i));
    on_device<bf16_bits> da(a), db(b);
    on_device<float> c(16 * 8);
    EXPECT(LAUNCH(product_bf16<K>, 1, 32, 0, da.p, db.p, c.p) == cudaSuccess);
    check_product(K, c.read());
}

static void test_product_tf32()
{
    std::vector<float> a(16 * 8), b(8 * 8);
    for (int i = 0; i < 16 * 8; i++) a[size_t(i)] = number(i);
    for (int i = 0; i < 8 * 8; i++) b[size_t(i)] = number(1000 + i);
    on_device<float> da(a), db(b), c(16 * 8);
    EXPECT(LAUNCH(product_tf32, 1, 32, 0, da.p, db.p, c.p) == cudaSuccess);
    check_product(8, c.read());
}

// Two groups of copies; `early` reads before the second one has come.
__global__ void copies(const float4 *x, float4 *y, bool early)
{
    CUSIM_SHARED_DYN(float4, tile);
    int t = int(threadIdx.x);
    cp_async16(&tile[t], &x[t], true);
    cp_async_commit();
    cp_async16(&tile[32 + t], &x[32 + t], t < 20);
    cp_async_commit();
    if (early)
        cp_async_wait<1>();
    else
        cp_async_wait<0>();
    __syncthreads();
    y[t] = tile[31 - t];
    y[32 + t] = tile[32 + (31 - t)];
}

static void test_copies()
{
    std::vector<float4> x(64);
    for (int i = 0; i < 64; i++) x[size_t(i)] = make_float4(float(i), 1, 2, 3);
    on_device<float4> in(x), out(64);
    for (int early = 0; early < (with_race_detector ? 1 : 2); early++) {
        EXPECT(LAUNCH(copies, 1, 32, 64 * 16, in.p, out.p, early) == cudaSuccess);
        std::vector<float4> y = out.read();
        for (int i = 0; i < 32; i++) {
            float second = y[size_t(32 + i)].x;
            EXPECT(y[size_t(i)].x == float(31 - i));
            EXPECT(early ? second != second : second == (31 - i < 20 ? float(63 - i) : 0));
        }
    }
}

int main()
{
    begin_tests();
    for (uint64_t seed = 0; seed < 8; seed++) {
        cusim_seed(seed);
        PASS(test_barrier());
        PASS(test_barrier_reductions());
        PASS(test_shuffles());
        PASS(test_product_bf16<8>());
        PASS(test_product_bf16<16>());
        PASS(test_product_tf32());
        PASS(test_copies());
    }
    return end_tests();
}
