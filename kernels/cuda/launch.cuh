/* The only way to start a kernel, and the only way to declare shared memory.
 *
 *     return NN_LAUNCH((add<bf16, 8>), blocks, threads, shared_bytes, c, x, y, n);
 *
 * grid and block are integers or dim3; c is the nn_call, whose stream is taken. Arguments are
 * converted to the kernel's parameter types. The value is a nn_status. A kernel that wants more
 * than 48 KiB of dynamic shared memory gets it here. */
#ifndef KERNELS_CUDA_LAUNCH_CUH
#define KERNELS_CUDA_LAUNCH_CUH

#include "kernels/cuda/cuda.cuh"

#ifdef NN_CUSIM
#define NN_SHARED(T, name, n)       CUSIM_SHARED(T, name, n)
#define NN_SHARED_DYN(T, name)      CUSIM_SHARED_DYN(T, name)
#define NN_CUDA_START_(kernel, ...) cusim_launch(#kernel, kernel, __VA_ARGS__)
#else
#define NN_SHARED(T, name, n) __shared__ __align__(128) T name[n]
#define NN_SHARED_DYN(T, name)                                                                     \
    extern __shared__ __align__(128) unsigned char nn_shared_bytes_[];                             \
    T *name = reinterpret_cast<T *>(nn_shared_bytes_)
#define NN_CUDA_START_(kernel, ...) nn_cuda_start(kernel, __VA_ARGS__)

template <class... P, class... A>
cudaError_t nn_cuda_start(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                          cudaStream_t stream, A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel needs all of its arguments");
    return [&](P... as_declared) {
        void *pointers[] = { &as_declared... };
        return cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, block, pointers,
                                shared, stream);
    }(static_cast<P>(args)...);
}
#endif

constexpr size_t NN_SHARED_PLAIN =
    48 * 1024; /* bytes of dynamic shared memory that need no asking */

template <class K> cudaError_t nn_cuda_allow_shared(K kernel, size_t bytes)
{
    if (bytes <= NN_SHARED_PLAIN) return cudaSuccess;
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

/* An initialiser's parts are computed in order; arguments of a call are not. */
struct nn_cuda_launch_errors {
    cudaError_t allowed, started;
};

static inline nn_status nn_cuda_launched(nn_cuda_launch_errors e, const char *name)
{
    return e.allowed == cudaSuccess && e.started == cudaSuccess
               ? NN_OK
               : nn_cuda_status(e.allowed != cudaSuccess ? e.allowed : e.started, name);
}

#define NN_LAUNCH(kernel, grid, block, shared, c, ...)                                             \
    (!nn_cuda_may_start(c)                                                                         \
         ? NN_OK                                                                                   \
         : nn_cuda_launched(                                                                       \
               nn_cuda_launch_errors{ nn_cuda_allow_shared(kernel, (shared)),                      \
                                      NN_CUDA_START_(kernel, dim3(grid), dim3(block),              \
                                                     (size_t)(shared), nn_cuda_of(c)->stream,      \
                                                     __VA_ARGS__) },                               \
               #kernel))

#endif
