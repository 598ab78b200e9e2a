/* What the device side of cusim rests on: who the running thread is, how it meets others, where
 * its block's shared memory lies, and how a kernel is launched. */
#ifndef CUSIM_CORE_H
#define CUSIM_CORE_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

extern uint3 threadIdx, blockIdx; /* of the running thread */
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cusim
{

struct place { /* in the source */
    const char *file;
    int line;
};

#define CUSIM_HERE ::cusim::place here = { __builtin_FILE(), __builtin_LINE() }

/* Executed once for all lanes of the mask; slots[lane] is what the lane brought, NULL outside. */
typedef void (*collective_fn)(unsigned mask, void *const slots[32]);

enum class barrier_kind { plain, any, all, count };

/* Prints the message with kernel, block and thread, and aborts. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_at(place at, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The lanes of the mask meet; aborts where the hardware would hang or be undefined: a mask without
 * the caller or with lanes that do not exist or have left, different collectives under one mask. */
void collective(const char *name, collective_fn execute, unsigned mask, void *slot, place at);

/* All threads of the block that have not left meet; returns the reduction of value. */
int barrier(barrier_kind kind, int value, place at);

unsigned lane();

/* The block's array of that key, the same for all its threads; the bytes are 0xFF until written. */
void *shared_array(const void *key, const char *name, size_t bytes, size_t align);
void *shared_dynamic();

/* Aborts unless [p, p + bytes) is shared or device memory and p is aligned to align. */
void need_shared(const void *p, size_t bytes, size_t align, const char *what, place at);
void need_device(const void *p, size_t bytes, size_t align, const char *what, place at);

struct launch_config {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared;
};

/* Checks the configuration and queues body, which is run once for every thread. */
cudaError_t launch(const launch_config &config, cudaStream_t stream, std::function<void()> body);

template <class T, size_t N> inline T (&shared_ref(const void *key, const char *name))[N]
{
    return *static_cast<T(*)[N]>(shared_array(key, name, sizeof(T) * N, alignof(T)));
}

} // namespace cusim

/* T name[n], shared by the block. */
#define CUSIM_SHARED(T, name, n)                                                                   \
    static char cusim_key_##name;                                                                  \
    T(&name)[n] = ::cusim::shared_ref<T, (n)>(&cusim_key_##name, #name)

/* T *name: the dynamic shared memory of the launch, aligned to 128 bytes. */
#define CUSIM_SHARED_DYN(T, name) T *name = static_cast<T *>(::cusim::shared_dynamic())

/* Queues the kernel; the arguments are converted to its parameters and copied now. Errors:
 * cudaErrorInvalidConfiguration and cudaErrorInvalidValue, as by cudaLaunchKernel. */
template <class... P, class... A>
cudaError_t cusim_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                         size_t shared, cudaStream_t stream, A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as parameters");
    static_assert((sizeof(P) + ... + 0) <= 4096, "parameters of at most 4096 bytes");
    std::tuple<P...> copies(static_cast<P>(std::forward<A>(args))...);
    cusim::launch_config config = { name, reinterpret_cast<const void *>(kernel), grid, block,
                                    shared };
    return cusim::launch(config, stream, [kernel, copies] { std::apply(kernel, copies); });
}

template <class T> cudaError_t cudaMalloc(T **out, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(out), bytes);
}

template <class T> cudaError_t cudaMallocHost(T **out, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(out), bytes);
}

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n_blocks, void (*kernel)(P...),
                                                          int block_threads, size_t shared)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        n_blocks, reinterpret_cast<const void *>(kernel), block_threads, shared);
}

#endif
