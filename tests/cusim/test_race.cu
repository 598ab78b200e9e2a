// The race detector: each program here has one race, or none, and must be told so.
#include <cusim_ptx.h>

#include "tests/cusim/check.h"

#define PROGRAM(name, kernel, grid, block, ...)                                                    \
    static void name()                                                                             \
    {                                                                                              \
        on_device<int> x(std::vector<int>(256, 1)), y(std::vector<int>(256, 0));                   \
        LAUNCH(kernel, grid, block, 0, x.p, y.p __VA_OPT__(, ) __VA_ARGS__);                       \
        cudaStreamSynchronize(stream);                                                             \
    }

__global__ void reverse(const int *x, int *y, bool with_barrier)
{
    CUSIM_SHARED(int, tile, 64);
    unsigned t = threadIdx.x;
    tile[t] = 0;
    __syncthreads();
    tile[t] = x[t] + int(t);
    if (with_barrier) __syncthreads();
    y[t] = tile[63 - t];
}
PROGRAM(barrier_there, reverse, 1, 64, true)
PROGRAM(barrier_missing, reverse, 1, 64, false)

// Written again while others still read.
__global__ void reused(const int *x, int *y, bool with_barrier)
{
    CUSIM_SHARED(int, tile, 64);
    unsigned t = threadIdx.x;
    for (int turn = 0; turn < 2; turn++) {
        tile[t] = x[t] + turn;
        __syncthreads();
        y[t] += tile[63 - t];
        if (with_barrier) __syncthreads();
    }
}
PROGRAM(second_barrier_there, reused, 1, 64, true)
PROGRAM(second_barrier_missing, reused, 1, 64, false)

__global__ void in_warp(const int *x, int *y, bool with_barrier)
{
    CUSIM_SHARED(int, tile, 32);
    unsigned t = threadIdx.x;
    tile[t] = x[t];
    if (with_barrier)
        __syncwarp();
    else
        y[t] = __shfl_xor_sync(0xffffffffu, y[t], 1); // orders nothing
    y[t] += tile[t ^ 1];
}
PROGRAM(syncwarp_there, in_warp, 1, 32, true)
PROGRAM(syncwarp_missing, in_warp, 1, 32, false)

// Halves that meet only among themselves.
__global__ void in_halves(const int *x, int *y, int distance)
{
    CUSIM_SHARED(int, tile, 32);
    unsigned t = threadIdx.x;
    tile[t] = x[t];
    __syncwarp(t < 16 ? 0x0000ffffu : 0xffff0000u);
    y[t] = tile[t ^ unsigned(distance)];
}
PROGRAM(within_halves, in_halves, 1, 32, 8)
PROGRAM(across_halves, in_halves, 1, 32, 16)

// All lanes store the same, or not.
__global__ void same_word(const int *x, int *y, int step)
{
    CUSIM_SHARED(int, word, 1);
    word[0] = x[0] + int(threadIdx.x) * step;
    __syncthreads();
    y[threadIdx.x] = word[0];
}
PROGRAM(same_value, same_word, 1, 64, 0)
PROGRAM(other_values, same_word, 1, 64, 1)

__global__ void unwritten(const int *x, int *y, int n)
{
    CUSIM_SHARED(int, tile, 64);
    if (int(threadIdx.x) < n) tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
PROGRAM(all_written, unwritten, 2, 64, 64)
PROGRAM(one_unwritten, unwritten, 2, 64, 63)

__global__ void between_blocks(const int *, int *y, int apart)
{
    unsigned i = blockIdx.x * unsigned(apart) + threadIdx.x;
    y[i] += int(i) + 1;
}
PROGRAM(blocks_apart, between_blocks, 3, 32, 32)
PROGRAM(blocks_overlap, between_blocks, 3, 32, 31)

__global__ void counting(const int *, int *y, bool atomically)
{
    if (atomically)
        atomicAdd(y, 1);
    else
        y[0] += 1;
}
PROGRAM(atomic_counter, counting, 2, 32, true)
PROGRAM(plain_counter, counting, 1, 32, false)

// Launches follow each other; the second may read what the first has written.
static void two_launches()
{
    on_device<int> x(std::vector<int>(256, 1)), y(std::vector<int>(256, 0));
    for (int i = 0; i < 2; i++) LAUNCH(between_blocks, 3, 32, 0, x.p, y.p, 32);
    cudaStreamSynchronize(stream);
}

// One group of copies is read while the next is under way.
template <int PENDING, bool BARRIER> __global__ void copies(const int *x, int *y)
{
    CUSIM_SHARED(int, tile, 256);
    unsigned t = threadIdx.x;
    cp_async16(&tile[t * 4], &x[t * 4], true);
    cp_async_commit();
    cp_async16(&tile[128 + t * 4], &x[t * 4], true);
    cp_async_commit();
    cp_async_wait<PENDING>();
    if (BARRIER) __syncthreads();
    y[t] = tile[127 - t];
    cp_async_wait<0>();
}
PROGRAM(copies_waited, (copies<1, true>), 1, 32)
PROGRAM(wait_too_weak, (copies<2, true>), 1, 32)
PROGRAM(wait_without_barrier, (copies<1, false>), 1, 32)

// Rows read by ldmatrix count as reads of the lanes that point at them.
__global__ void fragments(const int *x, int *y, bool with_barrier)
{
    CUSIM_SHARED(int, tile, 128);
    unsigned t = threadIdx.x;
    for (unsigned i = t; i < 128; i += 32) tile[i] = x[i] + int(i);
    if (with_barrier) __syncthreads();
    uint32_t r[4];
    ldmatrix_x4(r, &tile[t * 4]);
    y[t] = int(r[0] + r[3]);
}
PROGRAM(fragments_ordered, fragments, 1, 32, true)
PROGRAM(fragments_unordered, fragments, 1, 32, false)

// The last block reads what the others have written.
__global__ void last_block(const int *x, int *y, bool fences, bool counts)
{
    CUSIM_SHARED(int, arrived, 1);
    unsigned t = threadIdx.x;
    y[1 + 32 * blockIdx.x + t] = x[t];
    if (fences) __threadfence();
    __syncthreads();
    if (t == 0) arrived[0] = counts ? atomicAdd(y, 1) : int(blockIdx.x);
    __syncthreads();
    if (arrived[0] < 2) return;
    for (int i = 0; i < 3; i++) y[97 + t] += y[1 + 32 * i + t];
    if (t == 0 && counts) atomicExch(y, 0);
}
PROGRAM(handed_over, last_block, 3, 32, true, true)
PROGRAM(handed_without_fence, last_block, 3, 32, false, true)
PROGRAM(handed_without_counter, last_block, 3, 32, true, false)

#define LIVES(program)                                                                             \
    do {                                                                                           \
        std::string said = last_words(program);                                                    \
        if (!said.empty()) fprintf(stderr, "%s: %s\n", #program, said.c_str());                    \
        EXPECT(said.empty());                                                                      \
        n_passed++;                                                                                \
    } while (0)

static void test_sound()
{
    LIVES(barrier_there);
    LIVES(second_barrier_there);
    LIVES(syncwarp_there);
    LIVES(within_halves);
    LIVES(same_value);
    LIVES(all_written);
    LIVES(blocks_apart);
    LIVES(atomic_counter);
    LIVES(two_launches);
    LIVES(copies_waited);
    LIVES(fragments_ordered);
    LIVES(handed_over);
}

static void test_races()
{
    MUST_DIE(barrier_missing, "race: thread", "shared memory", "kernel reverse", "test_race.cu:20",
             "test_race.cu:22");
    MUST_DIE(second_barrier_missing, "race: thread", "shared memory", "test_race.cu:33");
    MUST_DIE(syncwarp_missing, "reads shared memory", "test_race.cu:51");
    MUST_DIE(across_halves, "reads shared memory");
    MUST_DIE(other_values, "writes shared memory", "has written it");
    MUST_DIE(one_unwritten, "that nobody has written", "byte 252", "test_race.cu:84");
    MUST_DIE(blocks_overlap, "device memory", "of block (0, 0, 0)", "of block (1, 0, 0)");
    MUST_DIE(plain_counter, "device memory", "has written it");
    MUST_DIE(wait_too_weak, "has not waited for its asynchronous copy to it");
    MUST_DIE(wait_without_barrier, "reads shared memory");
    MUST_DIE(fragments_unordered, "reads shared memory", "test_race.cu:141");
    MUST_DIE(handed_without_fence, "reads device memory", "has written it");
    MUST_DIE(handed_without_counter, "device memory", "and nothing orders them");
}

int main()
{
    begin_tests();
    for (uint64_t seed = 0; seed < 3; seed++) {
        cusim_seed(seed);
        test_sound();
        test_races();
    }
    return end_tests();
}
