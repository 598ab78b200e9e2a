// What cusim must not let pass: each program here has one fault, and must die naming it.
#include <cusim_ptx.h>

#include "tests/cusim/check.h"

// Runs the kernel on memory for 64 numbers.
#define FAULTY(name, kernel, block, shared)                                                        \
    static void name()                                                                             \
    {                                                                                              \
        on_device<int> x(64);                                                                      \
        LAUNCH(kernel, 1, block, shared, x.p);                                                     \
        cudaStreamSynchronize(stream);                                                             \
    }

__global__ void stuck(int *x)
{
    if (threadIdx.x < 48)
        __syncthreads();
    else
        __syncwarp();
    x[threadIdx.x] = 0;
}
FAULTY(deadlock, stuck, 64, 0)

__global__ void two_barriers(int *x)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 0;
}
FAULTY(barriers_apart, two_barriers, 64, 0)

__global__ void shuffle_after_exit(int *x)
{
    if (threadIdx.x == 31) return;
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
FAULTY(lane_has_left, shuffle_after_exit, 32, 0)

__global__ void shuffle_in_part(int *x)
{
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
FAULTY(lanes_never_were, shuffle_in_part, 20, 0)

__global__ void shuffle_without_self(int *x)
{
    x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 1);
}
FAULTY(mask_without_self, shuffle_without_self, 32, 0)

__global__ void two_collectives(int *x)
{
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    else
        x[threadIdx.x] = int(__ballot_sync(0xffffffffu, 1));
}
FAULTY(collectives_apart, two_collectives, 32, 0)

__global__ void behind_global(int *x)
{
    x[threadIdx.x + 1] = 1;
}
FAULTY(write_behind, behind_global, 64, 0)

__global__ void before_global(int *x)
{
    x[int(threadIdx.x) - 1] = 1;
}
FAULTY(write_before, before_global, 64, 0)

__global__ void behind_shared(int *x)
{
    CUSIM_SHARED_DYN(int, tile);
    tile[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = tile[0];
}
FAULTY(write_behind_shared, behind_shared, 64, 63 * 4)

__global__ void far_away(int *x)
{
    x[1 << 28] = 1;
}
FAULTY(write_far_away, far_away, 1, 0)

__global__ void copy_astray(int *x)
{
    CUSIM_SHARED(int, tile, 64);
    cp_async16(&tile[threadIdx.x + 1], &x[threadIdx.x * 4], true);
    cp_async_commit();
    cp_async_wait<0>();
}
FAULTY(copy_misaligned, copy_astray, 1, 0)

__global__ void copy_too_far(int *x)
{
    CUSIM_SHARED(float4, tile, 32);
    cp_async16(&tile[threadIdx.x], &x[threadIdx.x * 4], true);
    cp_async_commit();
    cp_async_wait<0>();
}
FAULTY(copy_behind, copy_too_far, 17, 0)

__global__ void rows_astray(int *x)
{
    CUSIM_SHARED(float4, tile, 31);
    uint32_t r[4];
    if (threadIdx.x < 31) tile[threadIdx.x] = make_float4(1, 2, 3, 4);
    __syncthreads();
    ldmatrix_x4(r, &tile[threadIdx.x]);
    x[threadIdx.x] = int(r[0]);
}
FAULTY(rows_behind, rows_astray, 32, 0)

static void host_reads_device()
{
    on_device<int> x(4);
    volatile int *p = x.p;
    printf("%d\n", *p);
}

static void callback_reads_device()
{
    on_device<int> x(4);
    cudaLaunchHostFunc(
        stream, [](void *p) { printf("%d\n", *static_cast<volatile int *>(p)); }, x.p);
    cudaStreamSynchronize(stream);
}

__global__ void reads_host(const int *host, int *x)
{
    x[0] = *host;
}

static void kernel_reads_null()
{
    on_device<int> x(4);
    LAUNCH(reads_host, 1, 1, 0, nullptr, x.p);
    cudaStreamSynchronize(stream);
}

static void test_refused_launches()
{
    on_device<int> x(64);
    EXPECT(LAUNCH(behind_shared, 1, 1025, 0, x.p) == cudaErrorInvalidConfiguration);
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration);
    EXPECT(cudaGetLastError() == cudaSuccess);
    EXPECT(LAUNCH(behind_shared, 0, 32, 0, x.p) == cudaErrorInvalidConfiguration);
    EXPECT(LAUNCH(behind_shared, dim3(1, 65536), 32, 0, x.p) == cudaErrorInvalidConfiguration);
    size_t much = 64 * 1024;
    EXPECT(LAUNCH(behind_shared, 1, 32, much, x.p) == cudaErrorInvalidValue);
    EXPECT(cudaFuncSetAttribute(behind_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                200 * 1024) == cudaErrorInvalidValue);
    EXPECT(cudaFuncSetAttribute(behind_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                int(much)) == cudaSuccess);
    EXPECT(LAUNCH(behind_shared, 1, 32, much, x.p) == cudaSuccess);
    EXPECT(x.read()[31] == 1);
    EXPECT(cudaFuncSetAttribute(behind_shared, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                48 * 1024) == cudaSuccess);
}

static void test_memory()
{
    void *p = nullptr, *q = nullptr;
    EXPECT(cudaMalloc(&p, size_t(1) << 40) == cudaErrorMemoryAllocation && p == nullptr);
    EXPECT(cudaMalloc(&p, 100) == cudaSuccess && cudaMalloc(&q, 100) == cudaSuccess);
    std::vector<unsigned char> bytes(100);
    EXPECT(cudaMemcpy(bytes.data(), p, 100, cudaMemcpyDeviceToHost) == cudaSuccess);
    for (unsigned char b : bytes) EXPECT(b == 0xff); // nothing is there by chance
    EXPECT(cudaMemcpy(p, q, 100, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    EXPECT(cudaMemcpy(p, q, 101, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
    EXPECT(cudaFree(static_cast<char *>(p) + 8) == cudaErrorInvalidValue);
    EXPECT(cudaFree(p) == cudaSuccess && cudaFree(q) == cudaSuccess);
    EXPECT(cudaFree(q) == cudaErrorInvalidValue);
    cudaGetLastError();
}

int main()
{
    begin_tests();
    for (uint64_t seed = 0; seed < 2; seed++) {
        cusim_seed(seed);
        MUST_DIE(deadlock, "deadlock: nobody can go on", "kernel stuck", "48 threads",
                 "wait at __syncthreads", "16 threads", "wait at __syncwarp", "test_failures.cu");
        MUST_DIE(barriers_apart, "__syncthreads, but 32 threads of the block wait at");
        MUST_DIE(lane_has_left, "left", "__shfl_xor_sync");
        MUST_DIE(lanes_never_were, "mask 0xffffffff in a warp with the lanes 0x000fffff");
        MUST_DIE(mask_without_self, "without the calling lane");
        MUST_DIE(collectives_apart, "of the same mask wait at");
        MUST_DIE(write_behind, with_asan ? "use-after-poison"
                                         : "written behind the end of an allocation of 256 bytes");
        MUST_DIE(write_before,
                 with_asan ? "use-after-poison" : "written before the start of an allocation");
        MUST_DIE(write_behind_shared,
                 with_asan ? "use-after-poison" : "written behind the 252 bytes of dynamic shared");
        MUST_DIE(write_far_away, "kernel far_away touched device memory that is not allocated");
        MUST_DIE(copy_misaligned, "cp.async: a shared address that is not a multiple of 16");
        MUST_DIE(copy_behind, "cp.async: 16 bytes outside device memory");
        MUST_DIE(rows_behind, "ldmatrix.x4: 16 bytes outside shared memory");
        MUST_DIE(host_reads_device, "host code touched device memory");
        MUST_DIE(callback_reads_device, "host code touched device memory");
        MUST_DIE(kernel_reads_null, with_asan ? "load of null pointer"
                                              : "kernel reads_host made a wrong memory access");
        PASS(test_refused_launches());
        PASS(test_memory());
    }
    return end_tests();
}
